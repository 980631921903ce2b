package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"

	"github.com/atmostonce/atmostonce/store"
)

const (
	// temporalTime bounds each question to Temporal.
	temporalTime = 4 * time.Second
	// defaultAddress is where Temporal's CLI looks for it.
	defaultAddress = "localhost:7233"
)

// temporals is the connection to Temporal.
type temporals struct {
	client client.Client
	err    error
}

// temporalProfile is what the configuration, the environment and the flags say of
// Temporal.
func (t *tool) temporalProfile() (envconfig.ClientConfigProfile, error) {
	h := t.host
	if h.noConfigFile && h.noConfigEnv {
		return t.flagged(envconfig.ClientConfigProfile{}), nil
	}
	p, err := envconfig.LoadClientConfigProfile(envconfig.LoadClientConfigProfileOptions{
		ConfigFilePath: h.configFile, ConfigFileProfile: h.profile, DisableFile: h.noConfigFile, DisableEnv: h.noConfigEnv,
	})
	if err != nil {
		return p, errors.New("Temporal's part of the configuration cannot be read")
	}
	return t.flagged(p), nil
}

// flagged puts the flags over a profile.
func (t *tool) flagged(p envconfig.ClientConfigProfile) envconfig.ClientConfigProfile {
	h := t.host
	for to, flag := range map[*string]string{&p.Address: h.address, &p.Namespace: h.namespace, &p.APIKey: h.apiKey} {
		if flag != "" {
			*to = flag
		}
	}
	for _, pair := range h.grpcMeta {
		if name, value, ok := strings.Cut(pair, "="); ok {
			if p.GRPCMeta == nil {
				p.GRPCMeta = map[string]string{}
			}
			p.GRPCMeta[envconfig.NormalizeGRPCMetaKey(name)] = value
		}
	}
	tls := envconfig.ClientConfigTLS{}
	if p.TLS != nil {
		tls = *p.TLS
	}
	given := h.tls
	for name, to := range map[string]*string{
		"cert-path": &tls.ClientCertPath, "key-path": &tls.ClientKeyPath, "ca-path": &tls.ServerCACertPath, "server-name": &tls.ServerName,
	} {
		if value := *h.tlsFiles[name]; value != "" {
			*to, given = value, true
		}
	}
	for name, to := range map[string]*[]byte{"cert-data": &tls.ClientCertData, "key-data": &tls.ClientKeyData, "ca-data": &tls.ServerCACertData} {
		if value := *h.tlsFiles[name]; value != "" {
			*to, given = []byte(value), true
		}
	}
	if *h.tlsFiles["disable-host-verification"] == "true" {
		tls.DisableHostVerification, given = true, true
	}
	if given {
		tls.Disabled = false
		p.TLS = &tls
	}
	return p
}

// temporal returns a connection to Temporal; nil if no address of it is known and must is
// not set. It is asked for once.
func (t *tool) temporal(ctx context.Context, must bool) (client.Client, error) {
	if t.temporals != nil {
		return t.temporals.client, t.temporals.err
	}
	p, err := t.temporalProfile()
	if err != nil {
		return nil, err
	}
	if p.Address == "" && !must {
		return nil, nil //nolint:nilnil // there is none
	}
	if p.Address == "" {
		p.Address = defaultAddress
	}
	c, err := dial(ctx, p, t.host.identity)
	if err != nil {
		err = fmt.Errorf("Temporal at %s does not answer: %w", p.Address, err)
	} else {
		t.closers = append(t.closers, closing(c.Close))
	}
	t.temporals = &temporals{c, err}
	return c, err
}

func dial(ctx context.Context, p envconfig.ClientConfigProfile, identity string) (client.Client, error) {
	o, err := p.ToClientOptions(envconfig.ToClientOptionsRequest{})
	if err != nil {
		return nil, err
	}
	o.Logger, o.Identity = silent{}, identity
	ctx, cancel := context.WithTimeout(ctx, temporalTime)
	defer cancel()
	return client.DialContext(ctx, o)
}

// silent is a logger that drops everything.
type silent struct{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}

var _ log.Logger = silent{}

// pendingOf returns the pending call of the holder of a record; nil if nobody waits. known is
// false if Temporal was not asked.
func (t *tool) pendingOf(ctx context.Context, r store.Record, must bool) (p *workflow.PendingActivityInfo, known bool, err error) {
	h := r.Info.Holder
	if h.WorkflowID == "" || h.Local {
		return nil, false, nil
	}
	c, err := t.temporal(ctx, must)
	if c == nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, temporalTime)
	defer cancel()
	d, err := c.WorkflowService().DescribeWorkflowExecution(ctx, &workflowservice.DescribeWorkflowExecutionRequest{
		Namespace: h.Namespace, Execution: &commonpb.WorkflowExecution{WorkflowId: h.WorkflowID, RunId: h.RunID},
	})
	if err != nil {
		return nil, false, fmt.Errorf("Temporal does not say who waits: %w", err)
	}
	for _, a := range d.GetPendingActivities() {
		if a.GetActivityId() == h.ActivityID {
			return a, true, nil
		}
	}
	return nil, true, nil
}

// converter returns the one that results are encoded and shown by.
func (t *tool) converter() (converter.DataConverter, error) {
	if t.options.DataConverter != nil {
		return t.options.DataConverter, nil
	}
	p, err := t.temporalProfile()
	if err != nil {
		return nil, err
	}
	endpoint, auth := t.host.codecEndpoint, t.host.codecAuth
	if p.Codec != nil && endpoint == "" {
		endpoint = p.Codec.Endpoint
	}
	if p.Codec != nil && auth == "" {
		auth = p.Codec.Auth
	}
	dc := converter.GetDefaultDataConverter()
	if endpoint == "" {
		return dc, nil
	}
	if file, isFile := strings.CutPrefix(auth, "@"); isFile {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--codec-auth: %w", err)
		}
		auth = strings.TrimSpace(string(text))
	}
	namespace, headers := p.Namespace, t.host.codecHeader
	return converter.NewRemoteDataConverter(dc, converter.RemoteDataConverterOptions{
		Endpoint: strings.ReplaceAll(endpoint, "{namespace}", namespace),
		ModifyRequest: func(r *http.Request) error {
			r.Header.Set("X-Namespace", namespace)
			if auth != "" {
				r.Header.Set("Authorization", auth)
			}
			for _, pair := range headers {
				if name, value, ok := strings.Cut(pair, "="); ok {
					r.Header.Set(name, value)
				}
			}
			return nil
		},
	}), nil
}
