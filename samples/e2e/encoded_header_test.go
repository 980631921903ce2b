package e2e

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
)

// lenient passes on what it did not encode, as the SDK asks of codecs. It has the
// SDK decode a call's other headers, too: the guard's is plain.
type lenient struct{ sealing }

func (c lenient) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := slices.Clone(payloads)
	for i, p := range payloads {
		if string(p.GetMetadata()[converter.MetadataEncoding]) != sealed {
			continue
		}
		plain, err := c.sealing.Decode([]*commonpb.Payload{p})
		if err != nil {
			return nil, err
		}
		out[i] = plain[0]
	}
	return out, nil
}

func (c lenient) WithSerializationContext(converter.SerializationContext) converter.PayloadCodec {
	return c
}

type tenantKey struct{}

// tenants propagates a value, and asks for its encoding by the client's codec, which
// the SDK does from 1.51 on.
type tenants struct{}

const tenant = "tenant-7"

func (tenants) EncodeHeaders() bool { return true }

func (tenants) set(w workflow.HeaderWriter) error {
	p, err := converter.GetDefaultDataConverter().ToPayload(tenant)
	w.Set("tenant", p)
	return err
}

func (t tenants) Inject(_ context.Context, w workflow.HeaderWriter) error { return t.set(w) }
func (t tenants) InjectFromWorkflow(_ workflow.Context, w workflow.HeaderWriter) error {
	return t.set(w)
}

func (tenants) Extract(ctx context.Context, r workflow.HeaderReader) (context.Context, error) {
	p, _ := r.Get("tenant")
	var name string
	err := converter.GetDefaultDataConverter().FromPayload(p, &name)
	return context.WithValue(ctx, tenantKey{}, name), err
}

func (tenants) ExtractToWorkflow(ctx workflow.Context, _ workflow.HeaderReader) (workflow.Context, error) {
	return ctx, nil
}

// Headers leave and arrive with the guard as they do without it.
func TestHeader_OfAPropagatorIsEncodedAsWithoutTheGuard(t *testing.T) {
	t.Parallel()
	var encodings []string
	for _, guarded := range []bool{false, true} {
		o := client.Options{DataConverter: converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), lenient{sealing{aead: encryptedAEAD()}})}
		o.ContextPropagators = []workflow.ContextPropagator{tenants{}}
		s := newScene(t, o)
		var plugins []client.Plugin
		if guarded {
			plugins = []client.Plugin{s.guard(once.Mark(once.Policy{}, "Charge")...)}
		}
		queue := s.name + "-both"
		w := worker.New(s.dial(plugins...), queue, worker.Options{})
		w.RegisterWorkflowWithOptions(one, workflow.RegisterOptions{Name: "one"})
		var got any
		register(w, func(ctx context.Context, in charge) (receipt, error) {
			got = ctx.Value(tenantKey{})
			return s.charge(ctx, in)
		})
		require.NoError(t, w.Start())
		t.Cleanup(w.Stop)
		s.name = queue
		run := s.start("one", "one", call{})
		s.served(run)
		require.Equal(t, tenant, got)
		for _, e := range s.history(run) {
			if scheduled := e.GetActivityTaskScheduledEventAttributes(); scheduled != nil {
				encodings = append(encodings, string(scheduled.GetHeader().GetFields()["tenant"].GetMetadata()[converter.MetadataEncoding]))
			}
		}
	}
	require.Len(t, encodings, 2)
	require.Equal(t, encodings[0], encodings[1])
}
