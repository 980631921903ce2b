package e2e

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/store"
)

// ownJSON is a data converter as users write them: it knows JSON, and nothing of
// converter.RawValue.
type ownJSON struct{}

func (ownJSON) ToPayload(v any) (*commonpb.Payload, error) {
	data, err := json.Marshal(v)
	return &commonpb.Payload{Metadata: map[string][]byte{converter.MetadataEncoding: []byte("json/own")}, Data: data}, err
}

func (ownJSON) FromPayload(p *commonpb.Payload, ptr any) error {
	return json.Unmarshal(p.GetData(), ptr)
}

func (c ownJSON) ToPayloads(vs ...any) (*commonpb.Payloads, error) {
	all := &commonpb.Payloads{}
	for _, v := range vs {
		p, err := c.ToPayload(v)
		if err != nil {
			return nil, err
		}
		all.Payloads = append(all.Payloads, p)
	}
	return all, nil
}

func (c ownJSON) FromPayloads(ps *commonpb.Payloads, ptrs ...any) error {
	for i, p := range ps.GetPayloads() {
		if i == len(ptrs) {
			return nil
		}
		if err := c.FromPayload(p, ptrs[i]); err != nil {
			return err
		}
	}
	return nil
}

func (ownJSON) ToString(p *commonpb.Payload) string { return string(p.GetData()) }

func (c ownJSON) ToStrings(ps *commonpb.Payloads) (all []string) {
	for _, p := range ps.GetPayloads() {
		all = append(all, c.ToString(p))
	}
	return all
}

// A converter of the user's own, which knows nothing of raw values: the activity
// runs once, across a reset too, and a waiter keeps its slot with heartbeats.
func TestConverter_OfTheUsersOwn(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{DataConverter: ownJSON{}})
	s.work(perOrderWaits(), s.charge)
	first := s.start("one", "one", call{})
	s.served(first)
	s.served(s.start("other", "one", call{}))
	s.served(s.reset(first))
	s.count(1, charged)
}

func perOrderWaits() once.Policy {
	p := perOrder
	p.OnDuplicate = once.Wait
	return p
}

// sealer is a plugin that has the client encrypt.
type sealer struct{ client.PluginBase }

func (sealer) Name() string { return "sealer" }

func (sealer) ConfigureClient(_ context.Context, o client.PluginConfigureClientOptions) error {
	o.ClientOptions.DataConverter = encrypted(true).DataConverter
	return nil
}

// In any order of plugins the answers of guarded activities are sealed as without
// the guard, or the client is refused with a line that says what to do.
func TestConverter_OfAnotherPlugin(t *testing.T) {
	t.Parallel()
	s := newScene(t, encrypted(true))
	s.options.DataConverter = nil // the plugin brings it
	guard := s.guard(once.Mark(once.Policy{}, "Charge")...)
	_, err := client.DialContext(t.Context(), client.Options{HostPort: server.Address, Logger: quiet, Plugins: []client.Plugin{guard, sealer{}}})
	require.ErrorContains(t, err, "list the guard last in client.Options.Plugins")

	w := worker.New(s.dial(sealer{}, s.guard(once.Mark(once.Policy{}, "Charge")...)), s.name, worker.Options{DisableWorkflowWorker: true})
	register(w, s.charge)
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	run := s.start("one", "one", call{})
	s.served(run)
	s.served(s.reset(run))
	s.count(1, charged)
	for _, result := range s.results(run) {
		require.Equal(t, sealed, string(result.Payloads[0].Metadata[converter.MetadataEncoding]))
	}
	require.NotContains(t, string(s.record(store.Succeeded).Outcome.Data), "receipt")
}

// Where something outside of the data converter encrypts, the guard cannot see it:
// Options.DataConverter seals what it stores, and Temporal gets what it would get
// without the guard.
func TestConverter_EncryptionInAGRPCInterceptor(t *testing.T) {
	t.Parallel()
	codec := sealing{aead: encryptedAEAD()}
	seal, err := converter.NewPayloadCodecGRPCClientInterceptor(converter.PayloadCodecGRPCClientInterceptorOptions{Codecs: []converter.PayloadCodec{codec}})
	require.NoError(t, err)
	s := newScene(t, client.Options{ConnectionOptions: client.ConnectionOptions{DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(seal)}}})
	o := guardOptions(once.Mark(perOrder, "Charge"), s.events)
	o.DataConverter = encrypted(false).DataConverter
	guard, err := interceptor.New(s.store, o)
	require.NoError(t, err)
	s.workWith(guard, worker.Options{}, func(r worker.Registry) { register(r, s.charge) })
	s.served(s.start("one", "one", call{}))
	s.served(s.start("other", "one", call{}))
	s.count(1, charged)
	require.NotContains(t, string(s.record(store.Succeeded).Outcome.Data), "receipt for order-1")

	plain, err := client.DialContext(t.Context(), client.Options{HostPort: server.Address, Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(plain.Close)
	through := s.client
	s.client = plain
	for _, result := range s.results(s.runs[0]) {
		require.Equal(t, sealed, string(result.Payloads[0].Metadata[converter.MetadataEncoding]), "at Temporal, too")
	}
	s.client = through
}

// A message whose encoding differs each time is one input still, across a reset of
// a workflow that makes it anew.
func TestConverter_EqualMessagesAreOneInput(t *testing.T) {
	t.Parallel()
	binary := converter.NewCompositeDataConverter(converter.NewNilPayloadConverter(), converter.NewByteSlicePayloadConverter(),
		converter.NewProtoPayloadConverter(), converter.NewJSONPayloadConverter())
	s := newScene(t, client.Options{DataConverter: binary})
	s.workWith(s.guard(once.Mark(once.Policy{}, "Charge")...), worker.Options{}, func(r worker.Registry) {
		register(r, func(context.Context, *structpb.Struct) (receipt, error) {
			return receipt{ID: "receipt for order-1"}, s.ledger.write(charged, "order-1")
		})
	})
	queue := s.name
	w := worker.New(s.client, queue+"-message", worker.Options{LocalActivityWorkerOnly: true})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context, c call) (verdict, error) {
		fields := map[string]any{}
		for _, name := range strings.Fields("order cents currency customer card street city country") {
			fields[name] = c.Input.Order
		}
		in, err := structpb.NewStruct(fields)
		if err != nil {
			return verdict{}, err
		}
		var v verdict
		ctx = workflow.WithTaskQueue(c.context(ctx), queue)
		return v.of(workflow.ExecuteActivity(ctx, "Charge", in).Get(ctx, &v.Receipt)), nil
	}, workflow.RegisterOptions{Name: "message"})
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	s.name += "-message"
	run := s.start("one", "message", call{})
	require.Empty(t, s.verdict(run).Failure)
	for range 10 {
		run = s.reset(run)
		require.Empty(t, s.verdict(run).Failure)
	}
	s.name = queue
	s.count(1, charged)
}
