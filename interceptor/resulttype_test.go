package interceptor_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/worker"
	"google.golang.org/protobuf/proto"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

func giveReceipt(context.Context) (receipt, error)         { return receipt{}, nil }
func givePointer(context.Context) (*receipt, error)        { return nil, nil } //nolint:nilnil // it is never called
func giveError(context.Context) error                      { return nil }
func giveAny(context.Context) (any, error)                 { return nil, nil } //nolint:nilnil // it is never called
func giveError2(context.Context) (error, error)            { return nil, nil } //nolint:nilnil // it is never called
func giveMap(context.Context) (map[string]int, error)      { return nil, nil } //nolint:nilnil // it is never called
func giveSlice(context.Context) ([]byte, error)            { return nil, nil }
func giveNumber(context.Context) (int64, error)            { return 0, nil }
func giveText(context.Context) (string, error)             { return "", nil }
func giveRaw(context.Context) (converter.RawValue, error)  { return converter.RawValue{}, nil }
func giveProto(context.Context) (*commonpb.Payload, error) { return nil, nil } //nolint:nilnil // it is never called

// inDoubtOf puts a record of an activity in doubt.
func inDoubtOf(t *testing.T, s store.Store, activity string) store.Record {
	t.Helper()
	b := store.Bid{Key: "v1/default/g/" + activity, Owner: "a", Lease: 1e9, TTL: 1e12, Info: store.Info{Activity: activity}}
	r, err := s.Acquire(t.Context(), b)
	require.NoError(t, err)
	b.Fence = r.Fence
	r, err = s.Settle(t.Context(), b, store.Outcome{State: store.InDoubt})
	require.NoError(t, err)
	return r
}

func TestResolve_RefusesAResultOfAnotherType(t *testing.T) {
	t.Parallel()
	encoded, err := converter.GetDefaultDataConverter().ToPayloads(receipt{ID: "r"})
	require.NoError(t, err)
	raw := converter.NewRawValue(encoded.Payloads[0])
	var nilPointer *receipt
	for _, c := range []struct {
		activity any
		result   any
		refused  string
	}{
		{giveReceipt, receipt{ID: "r"}, ""},
		{giveReceipt, "r", "giveReceipt returns interceptor_test.receipt, not string"},
		{giveReceipt, nil, "giveReceipt returns interceptor_test.receipt, not nil"},
		{giveReceipt, &receipt{ID: "r"}, "returns interceptor_test.receipt, not *interceptor_test.receipt"},
		{giveReceipt, struct{ ID string }{"r"}, ""}, // assignable
		{giveReceipt, charge{}, "returns interceptor_test.receipt, not interceptor_test.charge"},
		{giveReceipt, encoded, ""},
		{giveReceipt, raw, ""},
		{givePointer, &receipt{ID: "r"}, ""},
		{givePointer, nilPointer, ""},
		{givePointer, nil, ""},
		{givePointer, receipt{ID: "r"}, "returns *interceptor_test.receipt, not interceptor_test.receipt"},
		{giveError, nil, ""},
		{giveError, receipt{}, "giveError returns an error only: give AsDone nil, not interceptor_test.receipt"},
		{giveError, "done", "not string"},
		{giveError, nilPointer, "not *interceptor_test.receipt"},
		{giveAny, "r", ""},
		{giveAny, nil, ""},
		{giveError2, errors.New("r"), ""},
		{giveError2, "r", "returns error, not string"},
		{giveMap, map[string]int{}, ""},
		{giveMap, nil, ""},
		{giveMap, map[string]any{}, "returns map[string]int, not map[string]interface {}"},
		{giveSlice, []byte("r"), ""},
		{giveSlice, nil, ""},
		{giveSlice, "r", "returns []uint8, not string"},
		{giveNumber, int64(7), ""},
		{giveNumber, 7, "returns int64, not int"},
		{giveNumber, nil, "returns int64, not nil"},
		{giveText, "", ""},
		{giveText, nil, "returns string, not nil"},
		{giveRaw, raw, ""},
		{giveProto, &commonpb.Payload{}, ""},
		{giveProto, commonpb.Payloads{}.Payloads, "not []*common.Payload"},
	} {
		s := memory()
		g := newGuard(t, s, options(once.Mark(once.Policy{}, c.activity)))
		r := inDoubtOf(t, s, once.FuncName(c.activity))
		_, err := g.Resolve(t.Context(), r, resolve.AsDone(c.result), byAnn("why"))
		if c.refused == "" && !errors.Is(err, resolve.ErrResultType) {
			continue // not every one of them can be encoded
		}
		require.ErrorIs(t, err, resolve.ErrResultType, "%T", c.result)
		require.ErrorContains(t, err, c.refused)
		require.NotEmpty(t, c.refused, "%T: %v", c.result, err)
		require.Equal(t, r.Revision, only(t, s).Revision, "nothing is written")
		_, err = g.Resolve(t.Context(), r, resolve.AsFailed(errors.New("no")), byAnn("why"))
		require.NoError(t, err)
		_, err = g.Resolve(t.Context(), only(t, s), resolve.AsDone(c.result), byAnn("a correction"))
		require.ErrorIs(t, err, resolve.ErrResultType)
	}
}

// A mark by name has the types of the function that a worker of this guard
// registers.
func TestResolve_KnowsTheTypesOfWhatIsRegistered(t *testing.T) {
	t.Parallel()
	s := memory()
	g := newGuard(t, s, options(once.Mark(once.Policy{}, "eu_ChargeCard", "Unknown"), once.Mark(once.Policy{}, (*payments).Refund)))
	w := lazyWorker(t, []client.Plugin{g}, worker.Options{})
	w.RegisterActivityWithOptions(&payments{}, sdkactivity.RegisterOptions{Name: "eu_"})
	for activity, wrong := range map[string]any{"eu_ChargeCard": "r", "eu_Refund": receipt{}, "Refund": receipt{}} {
		_, err := g.Resolve(t.Context(), inDoubtOf(t, s, activity), resolve.AsDone(wrong), byAnn("why"))
		require.ErrorIs(t, err, resolve.ErrResultType, activity)
		require.ErrorContains(t, err, activity+" returns")
	}
	_, err := g.Resolve(t.Context(), inDoubtOf(t, s, "Unknown"), resolve.AsDone("r"), byAnn("why"))
	require.NoError(t, err, "nothing is known of it")
}

// Two workers may run two functions under one name: the result of either is one.
func TestResolve_TakesTheResultOfEitherFunction(t *testing.T) {
	t.Parallel()
	s := memory()
	g := newGuard(t, s, options(once.Mark(once.Policy{}, "Give")))
	for _, fn := range []any{giveReceipt, giveText} {
		lazyWorker(t, []client.Plugin{g}, worker.Options{}).RegisterActivityWithOptions(fn, sdkactivity.RegisterOptions{Name: "Give"})
	}
	r := inDoubtOf(t, s, "Give")
	_, err := g.Resolve(t.Context(), r, resolve.AsDone(7), byAnn("why"))
	require.ErrorIs(t, err, resolve.ErrResultType)
	r, err = g.Resolve(t.Context(), r, resolve.AsDone("r"), byAnn("why"))
	require.NoError(t, err)
	_, err = g.Resolve(t.Context(), r, resolve.AsDone(receipt{}), byAnn("why"))
	require.NoError(t, err)
}

// JSON becomes a value of the type that the activity returns, where that is known.
func TestResolve_DecodesJSONIntoTheActivitysType(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		activity any
		text     string
		want     any // nil: it is refused
	}{
		{giveReceipt, `{"ID":"r"}`, receipt{ID: "r"}},
		{giveReceipt, `{"id":"r","Idd":"r"}`, nil},
		{giveReceipt, `{"ID":7}`, nil},
		{giveReceipt, `{"ID":"r"`, nil},
		{giveReceipt, ``, nil},
		{givePointer, `{"ID":"r"}`, receipt{ID: "r"}},
		{giveNumber, `7`, int64(7)},
		{giveNumber, `"7"`, nil},
		{giveMap, `{"a":1}`, map[string]int{"a": 1}},
		{giveText, `"r"`, "r"},
		{giveError, `"r"`, nil},
	} {
		s := memory()
		g := newGuard(t, s, options(once.Mark(once.Policy{}, c.activity)))
		r, err := g.Resolve(t.Context(), inDoubtOf(t, s, once.FuncName(c.activity)), resolve.AsDone(resolve.JSON(c.text)), byAnn("why"))
		if c.want == nil {
			require.ErrorIs(t, err, resolve.ErrResultType, c.text)
			continue
		}
		require.NoError(t, err, c.text)
		payloads, got := &commonpb.Payloads{}, reflect.New(reflect.TypeOf(c.want))
		require.NoError(t, proto.Unmarshal(r.Outcome.Data, payloads))
		require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(payloads, got.Interface()))
		require.Equal(t, c.want, got.Elem().Interface())
	}
}

func TestResolve_DecodesJSONIntoTheTypeOfEitherFunction(t *testing.T) {
	t.Parallel()
	s := memory()
	g := newGuard(t, s, options(once.Mark(once.Policy{}, "Give")))
	for _, fn := range []any{giveReceipt, giveText} {
		lazyWorker(t, []client.Plugin{g}, worker.Options{}).RegisterActivityWithOptions(fn, sdkactivity.RegisterOptions{Name: "Give"})
	}
	r := inDoubtOf(t, s, "Give")
	for _, text := range []string{`"r"`, `{"ID":"r"}`} {
		var err error
		r, err = g.Resolve(t.Context(), r, resolve.AsDone(resolve.JSON(text)), byAnn("why"))
		require.NoError(t, err)
	}
	_, err := g.Resolve(t.Context(), r, resolve.AsDone(resolve.JSON(`7`)), byAnn("why"))
	require.ErrorIs(t, err, resolve.ErrResultType)
}

// Of an activity that the guard does not know, JSON is recorded as it is.
func TestResolve_KeepsJSONOfAnUnknownType(t *testing.T) {
	t.Parallel()
	s := memory()
	g := newGuard(t, s, options(once.Mark(once.Policy{}, "Known")))
	r, err := g.Resolve(t.Context(), inDoubtOf(t, s, "Unknown"), resolve.AsDone(resolve.JSON(`{"n": 9007199254740993}`)), byAnn("why"))
	require.NoError(t, err)
	payloads, got := &commonpb.Payloads{}, json.RawMessage{}
	require.NoError(t, proto.Unmarshal(r.Outcome.Data, payloads))
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(payloads, &got))
	require.JSONEq(t, `{"n":9007199254740993}`, string(got))
	_, err = g.Resolve(t.Context(), inDoubtOf(t, memory(), "Unknown"), resolve.AsDone(resolve.JSON(`{`)), byAnn("why"))
	require.ErrorIs(t, err, resolve.ErrResultType)
}
