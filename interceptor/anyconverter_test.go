package interceptor_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// own is a data converter as users write them: it knows one encoding, and
// nothing of converter.RawValue.
type own struct {
	encoding  string
	marshal   func(any) ([]byte, error)
	unmarshal func([]byte, any) error
}

func ownJSON() converter.DataConverter {
	return own{"json/own", json.Marshal, json.Unmarshal}
}

// ownGob does not fail on a raw value: it loses it.
func ownGob() converter.DataConverter {
	return own{"gob", func(v any) ([]byte, error) {
		if _, raw := v.(converter.RawValue); raw {
			return nil, nil
		}
		var b bytes.Buffer
		err := gob.NewEncoder(&b).Encode(v)
		return b.Bytes(), err
	}, func(data []byte, ptr any) error {
		if len(data) == 0 {
			return nil
		}
		return gob.NewDecoder(bytes.NewReader(data)).Decode(ptr)
	}}
}

// byReference is what the SDK's CodecDataConverter wants of the one inside of it.
type byReference struct{ converter.DataConverter }

func (o own) ToPayload(v any) (*commonpb.Payload, error) {
	data, err := o.marshal(v)
	return &commonpb.Payload{Metadata: map[string][]byte{converter.MetadataEncoding: []byte(o.encoding)}, Data: data}, err
}

func (o own) FromPayload(p *commonpb.Payload, ptr any) error { return o.unmarshal(p.GetData(), ptr) }

func (o own) ToPayloads(vs ...any) (*commonpb.Payloads, error) {
	all := &commonpb.Payloads{}
	for _, v := range vs {
		p, err := o.ToPayload(v)
		if err != nil {
			return nil, err
		}
		all.Payloads = append(all.Payloads, p)
	}
	return all, nil
}

func (o own) FromPayloads(ps *commonpb.Payloads, ptrs ...any) error {
	for i, p := range ps.GetPayloads() {
		if i >= len(ptrs) {
			return nil
		}
		if err := o.FromPayload(p, ptrs[i]); err != nil {
			return err
		}
	}
	return nil
}

func (o own) ToString(p *commonpb.Payload) string { return string(p.GetData()) }

func (o own) ToStrings(ps *commonpb.Payloads) (all []string) {
	for _, p := range ps.GetPayloads() {
		all = append(all, o.ToString(p))
	}
	return all
}

func foreignConverters() map[string]converter.DataConverter {
	return map[string]converter.DataConverter{
		"the SDK's":                                    converter.GetDefaultDataConverter(),
		"the SDK's, salted":                            saltedConverter(),
		"JSON of the user's":                           ownJSON(),
		"JSON of the user's, salted":                   converter.NewCodecDataConverter(&byReference{ownJSON()}, salted{}),
		"gob, which loses raw values without an error": ownGob(),
	}
}

func byOrderID() once.Policy {
	return once.Policy{Key: keys.From(byOrder), Scope: keys.PerNamespace, Match: keys.Any()}
}

func TestAnyConverter_IsGuarded(t *testing.T) {
	t.Parallel()
	for name, dc := range foreignConverters() {
		for policy, p := range map[string]once.Policy{"the hash": {}, "a key function": byOrderID()} {
			t.Run(name+"/"+policy, func(t *testing.T) {
				t.Parallel()
				s, pay := memory(), &payments{}
				for _, n := range []int{7, 7, 8, 7} {
					env := clientPlugin(t, s, interceptor.Options{Activities: once.Mark(p, "ChargeCard")}, dc)
					env.RegisterActivityWithOptions(pay.ChargeCard, sdkactivity.RegisterOptions{Name: "ChargeCard"})
					v, err := env.ExecuteActivity("ChargeCard", order(n))
					require.NoError(t, err)
					var got receipt
					require.NoError(t, v.Get(&got))
					require.NotZero(t, got)
				}
				require.Equal(t, []string{"7", "8"}, pay.charges)
			})
		}
	}
}

// A guard without a client encodes by Options.DataConverter what one with a client
// only seals by it.
func TestAnyConverter_ResolvedByAProcessWithoutAClient(t *testing.T) {
	t.Parallel()
	s := memory()
	o := interceptor.Options{Activities: once.Mark(once.Policy{}, "ChargeCard"), DataConverter: saltedConverter()}
	run := func() (got receipt, err error) {
		env := clientPlugin(t, s, o, nil)
		env.RegisterActivityWithOptions(func(context.Context, charge) (receipt, error) {
			return receipt{}, once.MaybeDone(errors.New("it broke"))
		}, sdkactivity.RegisterOptions{Name: "ChargeCard"})
		v, err := env.ExecuteActivity("ChargeCard", order(7))
		if err == nil {
			err = v.Get(&got)
		}
		return got, err
	}
	_, err := run()
	requireReason(t, err, once.InDoubt, true)
	_, err = newGuard(t, s, o).Resolve(t.Context(), only(t, s), resolve.AsDone(receipt{ID: "found"}), byAnn("seen at the provider"))
	require.NoError(t, err)
	require.Contains(t, string(only(t, s).Outcome.Data), "binary/salted", "it rests sealed")
	got, err := run()
	require.NoError(t, err)
	require.Equal(t, receipt{ID: "found"}, got)
}

// An activity may take payloads as its argument; they are no input of the SDK's
// then.
func TestAnyConverter_PayloadsAsAnArgument(t *testing.T) {
	t.Parallel()
	s, ran := memory(), 0
	for _, kind := range []string{"a", "b", "b"} {
		env := clientPlugin(t, s, interceptor.Options{Activities: once.Mark(once.Policy{}, "Forward")}, saltedConverter())
		env.RegisterActivityWithOptions(func(context.Context, *commonpb.Payloads) error { ran++; return nil }, sdkactivity.RegisterOptions{Name: "Forward"})
		_, err := env.ExecuteActivity("Forward", &commonpb.Payloads{Payloads: []*commonpb.Payload{{
			Metadata: map[string][]byte{converter.MetadataEncoding: []byte("binary/plain"), "kind": []byte(kind)}, Data: []byte{1},
		}}})
		require.NoError(t, err)
	}
	require.Equal(t, 2, ran)
}

func TestAnyConverter_DynamicActivities(t *testing.T) {
	t.Parallel()
	installations := map[string]func(*testing.T, store.Store, converter.DataConverter) *testsuite.TestActivityEnvironment{
		"plugin of the client": func(t *testing.T, s store.Store, dc converter.DataConverter) *testsuite.TestActivityEnvironment {
			t.Helper()
			return clientPlugin(t, s, interceptor.Options{Activities: once.Mark(byOrderID(), "ChargeCard")}, dc)
		},
		"plugin of the worker": func(t *testing.T, s store.Store, dc converter.DataConverter) *testsuite.TestActivityEnvironment {
			t.Helper()
			g := newGuard(t, s, interceptor.Options{DataConverter: dc, Activities: once.Mark(byOrderID(), "ChargeCard")})
			return environment(t, g).SetDataConverter(dc)
		},
	}
	for how, install := range installations {
		for name, dc := range foreignConverters() {
			t.Run(how+"/"+name, func(t *testing.T) {
				t.Parallel()
				s, ran := memory(), 0
				execute := func(n int) error {
					env := install(t, s, dc)
					env.RegisterDynamicActivity(func(context.Context, converter.EncodedValues) (string, error) { ran++; return "done", nil },
						sdkactivity.DynamicRegisterOptions{})
					_, err := env.ExecuteActivity("ChargeCard", order(n))
					return err
				}
				err := execute(7)
				unreadable := name == "JSON of the user's, salted" && how == "plugin of the client" ||
					how == "plugin of the worker" && name == "gob, which loses raw values without an error"
				if unreadable {
					requireReason(t, err, once.BadKey, false)
					require.Zero(t, ran)
					return
				}
				require.NoError(t, err)
				require.NoError(t, execute(7))
				require.NoError(t, execute(8))
				require.Equal(t, 2, ran)
			})
		}
	}
}

// around is an interceptor of the user's, around the guard.
type around struct {
	sdkinterceptor.WorkerInterceptorBase
	sdkinterceptor.ActivityInboundInterceptorBase
	saw    *[]any
	change func(any) any
}

func (a *around) InterceptActivity(_ context.Context, next sdkinterceptor.ActivityInboundInterceptor) sdkinterceptor.ActivityInboundInterceptor {
	inbound := &around{saw: a.saw, change: a.change}
	inbound.ActivityInboundInterceptorBase.Next = next
	return inbound
}

func (a *around) ExecuteActivity(ctx context.Context, in *sdkinterceptor.ExecuteActivityInput) (any, error) {
	result, err := a.Next.ExecuteActivity(ctx, in)
	*a.saw = append(*a.saw, result)
	if a.change != nil {
		result = a.change(result)
	}
	return result, err
}

func TestResult_IsTypedForInterceptorsAroundTheGuard(t *testing.T) {
	t.Parallel()
	for name, dc := range foreignConverters() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, pay := memory(), &payments{}
			var saw []any
			for range 2 {
				o := options(once.Mark(once.Policy{}, "ChargeCard"))
				o.DataConverter = dc
				env := (&testsuite.WorkflowTestSuite{}).NewTestActivityEnvironment()
				env.SetDataConverter(dc)
				env.SetWorkerOptions(worker.Options{
					Interceptors: []sdkinterceptor.WorkerInterceptor{&around{saw: &saw}}, Plugins: []worker.Plugin{newGuard(t, s, o)},
				})
				env.RegisterActivityWithOptions(pay.ChargeCard, sdkactivity.RegisterOptions{Name: "ChargeCard"})
				v, err := env.ExecuteActivity("ChargeCard", order(7))
				require.NoError(t, err)
				var got receipt
				require.NoError(t, v.Get(&got))
				require.Equal(t, got, saw[len(saw)-1])
			}
			require.Len(t, pay.charges, 1)
			require.Equal(t, saw[0], saw[1])
		})
	}
}

type receiptV2 struct {
	ID       string
	Currency string
}

// A replayed outcome reaches Temporal as it was recorded, although an interceptor
// of an older build has looked at it, unless that has changed it.
func TestResult_StaysWhatIsRecorded(t *testing.T) {
	t.Parallel()
	s := memory()
	run := func(fn any, change func(any) any) (got receiptV2) {
		guard := newGuard(t, s, interceptor.Options{Activities: once.Mark(once.Policy{}, "ChargeCard")})
		o := client.Options{DataConverter: saltedConverter()}
		require.NoError(t, guard.ConfigureClient(t.Context(), client.PluginConfigureClientOptions{ClientOptions: &o}))
		env := (&testsuite.WorkflowTestSuite{}).NewTestActivityEnvironment()
		require.NoError(t, guard.NewClient(t.Context(), client.PluginNewClientOptions{ClientOptions: o},
			func(context.Context, client.PluginNewClientOptions) error { return nil }))
		env.SetDataConverter(o.DataConverter).SetContextPropagators(o.ContextPropagators)
		var saw []any
		env.SetWorkerOptions(worker.Options{
			Interceptors: []sdkinterceptor.WorkerInterceptor{&around{saw: &saw, change: change}}, Plugins: []worker.Plugin{guard},
		})
		env.RegisterActivityWithOptions(fn, sdkactivity.RegisterOptions{Name: "ChargeCard"})
		v, err := env.ExecuteActivity("ChargeCard", order(7))
		require.NoError(t, err)
		require.NoError(t, v.Get(&got))
		return got
	}
	newer := func(context.Context, charge) (*receiptV2, error) { return &receiptV2{"r", "EUR"}, nil }
	older := func(context.Context, charge) (*receipt, error) { return nil, errors.New("it does not run") }
	same := func(v any) any { return v }
	require.Equal(t, receiptV2{"r", "EUR"}, run(newer, same))
	require.Equal(t, receiptV2{"r", "EUR"}, run(older, same))
	require.Equal(t, receiptV2{"changed", ""}, run(older, func(v any) any {
		v.(*receipt).ID = "changed"
		return v
	}))
}
