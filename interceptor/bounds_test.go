package interceptor

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// requireCheap bounds what f may take for an input of that many bytes.
func requireCheap(t *testing.T, input int, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	began := time.Now()
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	require.LessOrEqual(t, after.TotalAlloc-before.TotalAlloc, uint64(3*maxCauses*input+16<<20), "bytes allocated for an input of %d", input)
	require.Less(t, time.Since(began), 10*time.Second)
}

// nested is a recorded failure with n causes, one of the other.
func nested(tb testing.TB, n int) []byte {
	tb.Helper()
	var f *failurepb.Failure
	for i := range n + 1 {
		f = &failurepb.Failure{
			Message: fmt.Sprint("message ", i), Cause: f,
			FailureInfo: &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Type: "T", NonRetryable: true}},
		}
	}
	data, err := proto.Marshal(f)
	require.NoError(tb, err)
	return data
}

func TestCodec_RefusesACostlyRecordAtOnce(t *testing.T) { //nolint:paralleltest // it measures what is allocated
	c := codec{converters: newConverters(nil, nil), where: targetOf(infoOf("order-7"))}
	deepest := nested(t, maxCauses-1)
	_, failure, broken := c.replay(t.Context(), store.Outcome{State: store.Failed, Data: deepest})
	require.NoError(t, broken)
	require.Error(t, failure)
	for name, tt := range map[string]struct {
		o    store.Outcome
		want string
	}{
		"a cause too many":  {store.Outcome{State: store.Failed, Data: nested(t, maxCauses)}, "more than 100 causes"},
		"deep":              {store.Outcome{State: store.Failed, Data: nested(t, 5000)}, "more than 100 causes"},
		"deeper":            {store.Outcome{State: store.Failed, Data: nested(t, 20_000)}, "failure:"},
		"large result":      {store.Outcome{State: store.Succeeded, Data: make([]byte, 64<<20)}, "67108864 bytes are more than Options.MaxOutcome"},
		"large failure":     {store.Outcome{State: store.Failed, Data: make([]byte, 64<<20)}, "67108864 bytes are more than Options.MaxOutcome"},
		"large context":     {store.Outcome{State: store.Succeeded, Context: `{"Namespace":"` + strings.Repeat("x", 1<<20) + `"}`}, "serialization context of"},
		"deep context":      {store.Outcome{State: store.Succeeded, Context: strings.Repeat(`{"Nexus":`, 7000)}, "serialization context"},
		"large deep sealed": {store.Outcome{State: store.Failed, Context: `{"Sealed":true}`, Data: make([]byte, 64<<20)}, "67108864 bytes"},
	} {
		requireCheap(t, 0, func() {
			result, failure, broken := c.replay(t.Context(), tt.o)
			require.ErrorContains(t, broken, tt.want, name)
			require.Nil(t, result, name)
			require.NoError(t, failure, name)
		})
		requireCheap(t, 0, func() {
			o := tt.o
			o.State = store.InDoubt
			require.NoError(t, c.cause(t.Context(), o), name)
		})
	}
}

// What is sealed may be small, and what is in it large.
func TestCodec_BoundsWhatWasSealed(t *testing.T) {
	t.Parallel()
	conv := newConverters(nil, nil)
	conv.rest = converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), converter.NewZlibCodec(converter.ZlibCodecOptions{}))
	c := codec{converters: conv, where: targetOf(infoOf("order-7"))}
	p, err := conv.rest.ToPayload(make([]byte, 32<<20))
	require.NoError(t, err)
	data, err := proto.Marshal(p)
	require.NoError(t, err)
	_, _, broken := c.replay(t.Context(), store.Outcome{State: store.Succeeded, Context: `{"Sealed":true}`, Data: data})
	require.ErrorContains(t, broken, "more than Options.MaxOutcome")

	conv.limit = 1 << 20
	o, _, err := c.encode(t.Context(), strings.Repeat("x", 1<<20-100), conv.limit)
	require.NoError(t, err)
	require.Empty(t, o.Missing)
	result, _, broken := c.replay(t.Context(), o)
	require.NoError(t, broken)
	require.NotNil(t, result)
}

// growing adds to what it encodes.
type growing struct{ by int }

func (g growing) Encode(ps []*commonpb.Payload) ([]*commonpb.Payload, error) {
	for _, p := range ps {
		p.Data = append(p.Data, make([]byte, g.by)...)
	}
	return ps, nil
}

func (g growing) Decode(ps []*commonpb.Payload) ([]*commonpb.Payload, error) { return ps, nil }

// talkative fails, and says much about it.
type talkative struct{ growing }

func (talkative) Encode([]*commonpb.Payload) ([]*commonpb.Payload, error) {
	return nil, errors.New(strings.Repeat("x", 1<<20))
}

func TestCodec_KeepsNothingThatItWouldNotRead(t *testing.T) {
	t.Parallel()
	conv := newConverters(nil, nil)
	conv.rest = converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), growing{20 << 20})
	o, _, err := codec{converters: conv, where: targetOf(infoOf("order-7"))}.encode(t.Context(), "x", engine.MaxOutcome)
	require.NoError(t, err)
	require.Nil(t, o.Data)
	require.Contains(t, o.Missing, "sealed by Options.DataConverter")

	c := codec{converters: newConverters(nil, nil), where: targetOf(infoOf("order-7"))}
	o, replayed := c.encodeFailure(t.Context(), temporal.NewApplicationError("m", "T", strings.Repeat("x", 4<<20)))
	require.Empty(t, o.Missing)
	require.ErrorContains(t, replayed, "m (atmostonce has left out its details and causes: its 41")

	conv.rest = converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), talkative{})
	o, _, _ = codec{converters: conv, where: targetOf(infoOf("order-7"))}.encode(t.Context(), "x", engine.MaxOutcome)
	require.Less(t, len(o.Missing), maxMissing+100)
}

// A call without a failure might take the effect for granted: a failure that cannot
// be kept as it is, is replayed without what does not fit.
func TestCodec_KeepsTheKindOfEachFailure(t *testing.T) {
	t.Parallel()
	small := newConverters(nil, nil)
	small.limit = 1
	sealed := newConverters(nil, nil)
	sealed.rest = converter.GetDefaultDataConverter()
	sealed.limit = 1
	for name, conv := range map[string]*converters{"usual": newConverters(nil, nil), "small": small, "sealed": sealed} {
		for _, err := range []error{
			temporal.NewApplicationError("declined", "T", strings.Repeat("x", 4<<20)),
			temporal.NewApplicationErrorWithCause("declined", "T", errors.New(strings.Repeat("x", 4<<20))),
			temporal.NewApplicationError("declined"+strings.Repeat("x", 4<<20), "T"),
			temporal.NewApplicationError("declined\xff", "T"),
			temporal.NewApplicationErrorWithCause("declined", "T", errors.New("\xff")),
		} {
			c := codec{converters: conv, where: targetOf(infoOf("order-7"))}
			o, answer := c.encodeFailure(t.Context(), err)
			require.Empty(t, o.Missing, name)
			_, failure, broken := c.replay(t.Context(), o)
			require.NoError(t, broken, name)
			require.Equal(t, answer.Error(), failure.Error())
			app := (*temporal.ApplicationError)(nil)
			require.ErrorAs(t, failure, &app)
			require.Equal(t, "T", app.Type())
			require.True(t, app.NonRetryable())
			require.Contains(t, app.Message(), "declined")
			require.Contains(t, app.Message(), "left out its details and causes")
		}
	}
}

func TestResolve_RefusesAnErrorThatCannotBeKept(t *testing.T) {
	t.Parallel()
	s := store.NewMemory(store.MemoryOptions{})
	g, err := New(s, Options{Activities: once.Mark(once.Policy{}, "ChargeCard")})
	require.NoError(t, err)
	conv := newConverters(nil, nil)
	g.clients.last = &clientInfo{converters: conv, meter: newMeter(nil)}
	conv.rest = converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), growing{20 << 20})
	b := store.Bid{Key: "v1/default/g/ChargeCard", Owner: "a", Lease: time.Minute, TTL: time.Hour, Info: store.Info{Activity: "ChargeCard"}}
	_, err = s.Acquire(t.Context(), b)
	require.NoError(t, err)
	r, err := s.Settle(t.Context(), b, store.Outcome{State: store.InDoubt})
	require.NoError(t, err)
	for what, f := range map[string]resolve.Finding{"error": resolve.AsFailed(errors.New("declined")), "result": resolve.AsDone("r-7")} {
		_, err = g.Resolve(t.Context(), r, f, resolve.Decision{By: "ann", Why: "asked"})
		require.ErrorContains(t, err, "the "+what+": sealed by Options.DataConverter")
	}
}

// shownCause is an error that makes its text of that of its cause.
type shownCause struct{ cause error }

func (s shownCause) Error() string { return "shown: " + s.cause.Error() }
func (s shownCause) Unwrap() error { return s.cause }

// endless is an error that is its own cause.
type endless struct{}

func (endless) Error() string   { return "endless" }
func (e endless) Unwrap() error { return e }

// An error that a body returns can have any number of causes. Its record can be
// replayed.
func TestCodec_LeavesOutCausesWithoutEnd(t *testing.T) { //nolint:paralleltest // it measures what is allocated
	c := codec{converters: newConverters(nil, nil), where: targetOf(infoOf("order-7"))}
	wrap := map[string]func(error) error{
		"fmt":         func(err error) error { return fmt.Errorf("w: %w", err) },
		"shown":       func(err error) error { return shownCause{err} },
		"application": func(err error) error { return temporal.NewApplicationErrorWithCause("w", "T", err) },
		"canceled": func(err error) error {
			return temporal.NewCanceledErrorWithOptions(temporal.CanceledErrorOptions{Message: "w", Cause: err})
		},
		"timeout": func(err error) error { return temporal.NewTimeoutError(1, err) },
		"endless": func(error) error { return endless{} },
	}
	for name, wrap := range wrap {
		for _, n := range []int{1, maxCauses - 2, maxCauses - 1, maxCauses, maxCauses + 1, 5000} {
			err := errors.New("the first")
			for range n {
				err = wrap(err)
			}
			var o store.Outcome
			var answer error
			began := time.Now()
			o, answer = c.encodeFailure(t.Context(), err)
			require.Less(t, time.Since(began), 5*time.Second, "%s: %d", name, n)
			require.Empty(t, o.Missing, "%s: %d", name, n)
			_, failure, broken := c.replay(t.Context(), o)
			require.NoError(t, broken, "%s: %d", name, n)
			require.Equal(t, answer.Error(), failure.Error())
			require.Less(t, len(o.Data), 1<<20)
			if n > maxCauses || name == "endless" {
				require.ErrorContains(t, failure, "(atmostonce has left out its causes: more than 100", "%s: %d", name, n)
			} else if n < maxCauses-2 {
				require.NotContains(t, failure.Error(), "left out")
				require.Equal(t, n >= 1, errors.Unwrap(failure) != nil, "%s: the causes are kept", name)
			}
			require.False(t, isRetryable(failure), name)
		}
	}
}

func isRetryable(err error) bool {
	app := (*temporal.ApplicationError)(nil)
	return !errors.As(err, &app) || !app.NonRetryable()
}

func FuzzCodec_Replay(f *testing.F) {
	c := codec{converters: newConverters(nil, nil), where: targetOf(infoOf("order-7"))}
	for _, result := range []any{nil, "text", 7, []byte{0xff}, map[string]any{"a": []int{1}}} {
		o, _, err := c.encode(f.Context(), result, engine.MaxOutcome)
		require.NoError(f, err)
		f.Add(o.Data, o.Context, false)
	}
	for _, err := range []error{
		errors.New("x"), temporal.NewApplicationError("m", "T", 1, "details"), temporal.NewCanceledError("d"),
		temporal.NewTimeoutError(1, errors.New("y"), "beat"), fmt.Errorf("w: %w", temporal.NewApplicationError("m", "PanicError")),
	} {
		o, _ := c.encodeFailure(f.Context(), err)
		f.Add(o.Data, o.Context, true)
		doubt := c.doubt(f.Context(), err)
		f.Add(doubt.Data, doubt.Context, true)
	}
	f.Add(nested(f, 2000), `{"Sealed":true}`, true)
	f.Add(nested(f, maxCauses-1), `{"Own":true,"WorkflowID":"another"}`, true)
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f}, `{"Nexus":{"Namespace":"x"}}`, false)
	// A codec that takes for granted that there is a nonce panics.
	f.Add([]byte("\n 2\x1600000000000000000000002\x06000000"), "{}", false)
	attributes, err := proto.Marshal(&failurepb.Failure{EncodedAttributes: &commonpb.Payload{
		Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(strings.Repeat(`{"message":`, 9000)),
	}})
	require.NoError(f, err)
	f.Add(attributes, "", true)
	f.Fuzz(func(t *testing.T, data []byte, context string, failed bool) {
		o := store.Outcome{State: store.Succeeded, Data: data, Context: context}
		if failed {
			o.State = store.Failed
		}
		for _, conv := range []*converters{newConverters(nil, nil), sealedCauses()} {
			c := codec{converters: conv, where: targetOf(infoOf("order-7"))}
			var failure, broken error
			requireCheap(t, len(data)+len(context), func() { _, failure, broken = c.replay(t.Context(), o) })
			requireCheap(t, len(data)+len(context), func() {
				_ = c.cause(t.Context(), store.Outcome{State: store.InDoubt, Data: data, Context: context})
			})
			if failure == nil || broken != nil {
				continue
			}
			// What was replayed can be recorded and replayed again.
			again, answer := c.encodeFailure(t.Context(), failure)
			if again.Missing != "" {
				continue
			}
			_, failure, broken = c.replay(t.Context(), again)
			require.NoError(t, broken)
			require.Equal(t, answer.Error(), failure.Error())
		}
	})
}

func FuzzCodec_Context(f *testing.F) {
	c := codec{converters: newConverters(nil, nil), where: targetOf(infoOf("order-7"))}
	f.Add(c.seal(f.Context(), store.Outcome{}).Context)
	f.Add(strings.Repeat(`{"Nexus":`, 9000))
	f.Add(`{"Namespace":"\ud800"}`)
	f.Fuzz(func(t *testing.T, context string) {
		_, where, _, err := c.open(t.Context(), store.Outcome{State: store.Succeeded, Context: context})
		if err != nil {
			return
		}
		text, err := json.Marshal(where)
		require.NoError(t, err)
		_, again, _, err := c.open(t.Context(), store.Outcome{State: store.Succeeded, Context: string(text)})
		require.NoError(t, err)
		require.Equal(t, where, again)
	})
}
