package interceptor_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/store"
)

// salted is a codec that gives other bytes each time, and passes on what it did
// not encode.
type salted struct{}

const saltedEncoding = "binary/salted"

func (salted) Encode(ps []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(ps))
	for i, p := range ps {
		data, err := proto.Marshal(p)
		if err != nil {
			return nil, err
		}
		out[i] = &commonpb.Payload{
			Metadata: map[string][]byte{converter.MetadataEncoding: []byte(saltedEncoding)}, Data: append([]byte(rand.Text()), data...),
		}
	}
	return out, nil
}

func (salted) Decode(ps []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(ps))
	for i, p := range ps {
		if out[i] = p; string(p.Metadata[converter.MetadataEncoding]) != saltedEncoding {
			continue
		}
		out[i] = &commonpb.Payload{}
		if err := proto.Unmarshal(p.Data[len(rand.Text()):], out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func saltedConverter() converter.DataConverter {
	return converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), salted{})
}

// An installation runs activities under a guard of ChargeCard, and a codec.
type installation func(t *testing.T, s store.Store) *testsuite.TestActivityEnvironment

// asClientPlugin sees the input as it comes from Temporal.
func asClientPlugin(t *testing.T, s store.Store) *testsuite.TestActivityEnvironment {
	t.Helper()
	return clientPlugin(t, s, interceptor.Options{Activities: once.Mark(once.Policy{}, "ChargeCard")}, saltedConverter())
}

// clientPlugin returns an environment whose worker belongs to a client with that
// converter and the guard as its plugin.
func clientPlugin(t *testing.T, s store.Store, guarded interceptor.Options, dc converter.DataConverter) *testsuite.TestActivityEnvironment {
	t.Helper()
	g := newGuard(t, s, guarded)
	o := client.Options{DataConverter: dc}
	require.NoError(t, g.ConfigureClient(t.Context(), client.PluginConfigureClientOptions{ClientOptions: &o}))
	env := environment(t, g)
	configure := func(_ context.Context, configured client.PluginNewClientOptions) error {
		env.SetDataConverter(configured.ClientOptions.DataConverter)
		env.SetContextPropagators(configured.ClientOptions.ContextPropagators)
		return nil
	}
	require.NoError(t, g.NewClient(t.Context(), client.PluginNewClientOptions{ClientOptions: o}, configure))
	return env
}

// asWorkerPlugin sees what the SDK has decoded the input to.
func asWorkerPlugin(t *testing.T, s store.Store) *testsuite.TestActivityEnvironment {
	t.Helper()
	o := options(once.Mark(once.Policy{}, "ChargeCard"))
	o.DataConverter = saltedConverter()
	return environment(t, newGuard(t, s, o)).SetDataConverter(o.DataConverter)
}

type signature func(env *testsuite.TestActivityEnvironment)

// takes is an activity with one parameter.
func takes[T any](env *testsuite.TestActivityEnvironment) {
	env.RegisterActivityWithOptions(func(context.Context, T) error { return nil }, sdkactivity.RegisterOptions{Name: "ChargeCard"})
}

func takesTwo(env *testsuite.TestActivityEnvironment) {
	env.RegisterActivityWithOptions(func(context.Context, string, string) error { return nil }, sdkactivity.RegisterOptions{Name: "ChargeCard"})
}

func takesNothing(env *testsuite.TestActivityEnvironment) {
	env.RegisterActivityWithOptions(func(context.Context) error { return nil }, sdkactivity.RegisterOptions{Name: "ChargeCard"})
}

func takesAnything(env *testsuite.TestActivityEnvironment) {
	env.RegisterDynamicActivity(func(context.Context, converter.EncodedValues) error { return nil }, sdkactivity.DynamicRegisterOptions{})
}

func raw(encoding, data string) converter.RawValue {
	return converter.NewRawValue(&commonpb.Payload{
		Metadata: map[string][]byte{converter.MetadataEncoding: []byte(encoding)}, Data: []byte(data),
	})
}

func protoJSON(data string) converter.RawValue { return raw(converter.MetadataEncodingProtoJSON, data) }

type chargeV2 struct {
	Order    string
	Cents    int
	Currency string
}

var execution = &commonpb.WorkflowExecution{WorkflowId: "order-7", RunId: "run"}

// Everything that an activity can be given has one record, whichever
// installation asks.
func TestInput_IsTheSameFromTheWireAndFromItsValues(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		activity signature
		args     []any
	}{
		"a struct":             {takes[charge], []any{charge{"7", 100}}},
		"a pointer":            {takes[*charge], []any{&charge{"7", 100}}},
		"a nil pointer":        {takes[*charge], []any{(*charge)(nil)}},
		"an untyped nil":       {takes[*charge], []any{nil}},
		"a map":                {takes[map[string]any], []any{map[string]any{"b": 1.5, "a": []any{nil, true, "<&>"}}}},
		"a nil map":            {takes[map[string]int], []any{map[string]int(nil)}},
		"a nil slice":          {takes[[]int], []any{[]int(nil)}},
		"an empty slice":       {takes[[]int], []any{[]int{}}},
		"bytes":                {takes[[]byte], []any{[]byte{0, 255}}},
		"nil bytes":            {takes[[]byte], []any{[]byte(nil)}},
		"no bytes":             {takes[[]byte], []any{[]byte{}}},
		"an empty string":      {takes[string], []any{""}},
		"a large integer":      {takes[uint64], []any{uint64(1<<64 - 1)}},
		"an interface":         {takes[any], []any{"x"}},
		"two parameters":       {takesTwo, []any{"7", "8"}},
		"no parameter":         {takesNothing, nil},
		"protobuf":             {takes[*commonpb.WorkflowExecution], []any{execution}},
		"a nil message":        {takes[*commonpb.WorkflowExecution], []any{(*commonpb.WorkflowExecution)(nil)}},
		"a raw value":          {takes[converter.RawValue], []any{raw("own/encoding", "\x00data")}},
		"a raw value of JSON":  {takes[converter.RawValue], []any{raw(converter.MetadataEncodingJSON, `{"b": 1, "a": 2}`)}},
		"a dynamic without it": {takesAnything, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := memory()
			for _, install := range []installation{asClientPlugin, asWorkerPlugin, asClientPlugin} {
				env := install(t, s)
				tc.activity(env)
				_, err := env.ExecuteActivity("ChargeCard", tc.args...)
				require.NoError(t, err)
			}
			only(t, s)
		})
	}
}

// inputs returns the digests of two calls, which are of one activity type in one
// workflow.
func inputs(t *testing.T, install installation, first, second call) [2]string {
	t.Helper()
	var digests [2]string
	for i, c := range []call{first, second} {
		s := memory()
		env := install(t, s)
		c.activity(env)
		_, err := env.ExecuteActivity("ChargeCard", c.args...)
		require.NoError(t, err)
		digests[i] = only(t, s).Info.Input
	}
	return digests
}

type call struct {
	activity signature
	args     []any
}

func with(activity signature, args ...any) call { return call{activity, args} }

const id = uint64(1<<53 + 1) // and the one before it are the same as float64

func TestInput_TellsCallsApart(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		first, second call
		// blind says that what the SDK decodes is the same for both.
		blind bool
	}{
		"nil and zero":                   {first: with(takes[*charge], nil), second: with(takes[*charge], &charge{})},
		"nil and missing":                {first: with(takes[*charge], nil), second: with(takes[*charge]), blind: true},
		"zero and missing":               {first: with(takes[charge], charge{}), second: with(takes[charge]), blind: true},
		"one and two":                    {first: with(takes[string], "7"), second: with(takes[string], "7", "8"), blind: true},
		"nil and an empty slice":         {first: with(takes[[]int], []int(nil)), second: with(takes[[]int], []int{})},
		"no bytes and an empty string":   {first: with(takes[[]byte], []byte{}), second: with(takes[string], "")},
		"where one parameter ends":       {first: with(takesTwo, "7", "88"), second: with(takesTwo, "78", "8")},
		"large integers":                 {first: with(takes[uint64], id), second: with(takes[uint64], id-1)},
		"large integers in an interface": {first: with(takes[any], id), second: with(takes[any], id-1), blind: true},
		"large integers in a map":        {first: with(takes[map[string]any], map[string]any{"id": id}), second: with(takes[map[string]any], map[string]any{"id": id - 1}), blind: true},
		"a field that this build does not know": {
			first: with(takes[charge], chargeV2{"7", 100, "EUR"}), second: with(takes[charge], chargeV2{"7", 100, "USD"}), blind: true,
		},
		"raw values":                  {first: with(takes[converter.RawValue], raw("own", "1")), second: with(takes[converter.RawValue], raw("own", "2"))},
		"encodings of raw values":     {first: with(takes[converter.RawValue], raw("own", "1")), second: with(takes[converter.RawValue], raw("other", "1"))},
		"protobuf and its plain JSON": {first: with(takes[converter.RawValue], protoJSON("{}")), second: with(takes[converter.RawValue], raw(converter.MetadataEncodingJSON, "{}"))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wire := inputs(t, asClientPlugin, tc.first, tc.second)
			require.NotEqual(t, wire[0], wire[1])
			values := inputs(t, asWorkerPlugin, tc.first, tc.second)
			require.Equal(t, tc.blind, values[0] == values[1])
		})
	}
	t.Run("of a dynamic activity", func(t *testing.T) {
		t.Parallel()
		wire := inputs(t, asClientPlugin, with(takesAnything, order(7)), with(takesAnything, order(8)))
		require.NotEqual(t, wire[0], wire[1])
		wire = inputs(t, asClientPlugin, with(takesAnything, "7", "8"), with(takesAnything, "7", "9"))
		require.NotEqual(t, wire[0], wire[1], "the last argument counts too")
	})
}

// What is sent is the same, and only the activity or the spelling differs.
func TestInput_FromTheWireIsWhatWasSent(t *testing.T) {
	t.Parallel()
	spelled, err := protojson.Marshal(execution)
	require.NoError(t, err)
	for name, tc := range map[string]struct{ first, second call }{
		"a build with one more field": {with(takes[charge], charge{"7", 100}), with(takes[chargeV2], charge{"7", 100})},
		"a build with one field less": {with(takes[chargeV2], chargeV2{"7", 100, "EUR"}), with(takes[charge], chargeV2{"7", 100, "EUR"})},
		"a dynamic activity":          {with(takes[charge], order(7)), with(takesAnything, order(7))},
		"a raw value":                 {with(takes[charge], order(7)), with(takes[converter.RawValue], order(7))},
		"an interface":                {with(takes[charge], order(7)), with(takes[any], order(7))},
		"an integer of another type":  {with(takes[uint64], id), with(takes[any], id)},
		"JSON that is spelled otherwise": {
			with(takes[charge], raw(converter.MetadataEncodingJSON, "{ \"Cents\": 100,\n\"Order\": \"\\u0037\" }")), with(takes[charge], order(7)),
		},
		"protobuf that is spelled otherwise": {
			with(takes[*commonpb.WorkflowExecution], protoJSON(fmt.Sprintf("%s ", spelled))),
			with(takes[*commonpb.WorkflowExecution], protoJSON(`{ "runId":"run",  "workflowId": "order-7" }`)),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wire := inputs(t, asClientPlugin, tc.first, tc.second)
			require.Equal(t, wire[0], wire[1])
		})
	}
}

func TestInput_OfADynamicActivityWithoutTheWire(t *testing.T) {
	t.Parallel()
	s := memory()
	for _, in := range []any{order(7), order(7), order(8)} {
		env := asWorkerPlugin(t, s)
		takesAnything(env)
		_, err := env.ExecuteActivity("ChargeCard", in)
		require.NoError(t, err)
	}
	records := 0
	for _, err := range s.List(t.Context(), store.Query{}) {
		require.NoError(t, err)
		records++
	}
	require.Equal(t, 2, records)
}
