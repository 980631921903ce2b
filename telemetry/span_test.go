package telemetry_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/telemetry"
)

func TestSpan_ExecuteIsTheParentOfTheBody(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{})
	var body trace.SpanContext
	require.NoError(t, b.call(func(ctx context.Context, _ charge) (string, error) {
		body = trace.SpanContextFromContext(ctx)
		return "receipt", nil
	}, charge{Order: "7"}))
	span := b.span(t, "atmostonce.execute ChargeCard")
	require.Equal(t, span.SpanContext(), body)
	require.False(t, span.Parent().IsValid())
	require.Equal(t, "memory", attributes(span)["atmostonce.store.type"])
}

const parentInHeader = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// tracerData is the header in which Temporal's tracing interceptors send a span.
func tracerData(t *testing.T, data any) *commonpb.Header {
	t.Helper()
	payload, err := converter.GetDefaultDataConverter().ToPayload(data)
	require.NoError(t, err)
	return &commonpb.Header{Fields: map[string]*commonpb.Payload{"_tracer-data": payload}}
}

// encodedHeader is what the tracing interceptors send if they are set to encode
// headers, by the client's codec.
func encodedHeader(t *testing.T) converter.RawValue {
	t.Helper()
	plain, err := converter.GetDefaultDataConverter().ToPayload(map[string]string{"traceparent": parentInHeader})
	require.NoError(t, err)
	encoded, err := converter.NewZlibCodec(converter.ZlibCodecOptions{AlwaysEncode: true}).Encode([]*commonpb.Payload{plain})
	require.NoError(t, err)
	return converter.NewRawValue(encoded[0])
}

func TestSpan_HasTheParentThatTheHeaderNames(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		data   any
		parent string
	}{
		"readable":   {map[string]string{"traceparent": parentInHeader}, "b7ad6b7169203331"},
		"invalid":    {map[string]string{"traceparent": "00-0-0-01"}, "0000000000000000"},
		"unreadable": {[]int{1}, "0000000000000000"},
		"encoded":    {encodedHeader(t), "0000000000000000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, setup{})
			env := b.environment(done)
			env.SetHeader(tracerData(t, c.data))
			_, err := env.ExecuteActivity("ChargeCard", charge{Order: "7"})
			require.NoError(t, err)
			require.Equal(t, c.parent, b.span(t, "atmostonce.execute ChargeCard").Parent().SpanID().String())
		})
	}
}

// upper is a propagator of its own kind.
type upper struct{ propagation.TraceContext }

func (u upper) Extract(ctx context.Context, c propagation.TextMapCarrier) context.Context {
	return u.TraceContext.Extract(ctx, propagation.MapCarrier{"traceparent": c.Get("PARENT")})
}

func TestSpan_ReadsTheHeaderAsTheTracingInterceptorWroteIt(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{options: telemetry.Options{HeaderKey: "trace", Propagator: upper{}}})
	env := b.environment(done)
	header := tracerData(t, map[string]string{"PARENT": parentInHeader})
	header.Fields["trace"], header.Fields["_tracer-data"] = header.Fields["_tracer-data"], nil
	env.SetHeader(header)
	_, err := env.ExecuteActivity("ChargeCard", charge{Order: "7"})
	require.NoError(t, err)
	require.Equal(t, "b7ad6b7169203331", b.span(t, "atmostonce.execute ChargeCard").Parent().SpanID().String())
}

// tracing starts a span around each call, as another observer may.
type tracing struct{ tracer trace.Tracer }

func (o tracing) Begin(ctx context.Context, _ observe.Event) (context.Context, func(observe.Event)) {
	ctx, span := o.tracer.Start(ctx, "ChargeCard")
	return ctx, func(observe.Event) { span.End() }
}

func TestSpan_HasTheParentOfTheObserverBefore(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{observers: []observe.Observer{tracing{sdktrace.NewTracerProvider().Tracer("test")}}})
	env := b.environment(done)
	env.SetHeader(tracerData(t, map[string]string{"traceparent": parentInHeader}))
	_, err := env.ExecuteActivity("ChargeCard", charge{Order: "7"})
	require.NoError(t, err)
	parent := b.span(t, "atmostonce.execute ChargeCard").Parent()
	require.True(t, parent.IsValid())
	require.NotEqual(t, "b7ad6b7169203331", parent.SpanID().String())
}

// The link of the paths leads to a span that somebody made up; this one leads to
// one that was exported.
func TestSpan_WaitAndDuplicateLinkToTheExecution(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, setup{policy: once.Policy{OnDuplicate: once.Wait}})
		letGo := running(t, b, charge{Order: "7"})
		waited := make(chan error, 1)
		go func() { waited <- b.call(done, charge{Order: "7"}) }()
		pass(time.Second)
		letGo()
		require.NoError(t, <-waited)

		waiting, duplicate, execute := b.span(t, "atmostonce.wait ChargeCard"), b.span(t, "atmostonce.duplicate ChargeCard"), b.span(t, "atmostonce.execute ChargeCard")
		requireLink(t, waiting, execute)
		requireLink(t, duplicate, execute)
		require.Equal(t, duplicate.SpanContext().SpanID(), waiting.Parent().SpanID())
	})
}

func TestSpan_ExecuteLinksToTheRunThatItTookOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, setup{policy: once.Policy{InDoubt: once.Rerun}})
		require.Error(t, b.call(failing(once.MaybeDone(errSecret)), charge{Order: "7"}))
		pass(settleDelay)
		require.NoError(t, b.call(done, charge{Order: "7"}))
		runs := b.ended("atmostonce.execute ChargeCard")
		require.Len(t, runs, 2)
		require.Empty(t, runs[0].Links())
		requireLink(t, runs[1], runs[0])
	})
}

func TestSpan_DoesNotLinkToNonsense(t *testing.T) {
	t.Parallel()
	for _, traceparent := range []string{"", "nonsense"} {
		b := newBench(t, setup{})
		o := telemetry.NewOTel(telemetry.Options{TracerProvider: b.tracer})
		e := observe.Event{Kind: observe.KindWait, Activity: "ChargeCard", Digest: "0123456789abcdef",
			Record: store.Record{Info: store.Info{Trace: traceparent}}}
		_, end := o.Begin(t.Context(), e)
		end(e)
		require.Empty(t, b.span(t, "atmostonce.wait ChargeCard").Links(), traceparent)
		e.Kind = observe.KindClaim
		_, end = o.Begin(t.Context(), e)
		e.Kind = observe.KindDuplicate
		end(e)
		require.Empty(t, b.span(t, "atmostonce.duplicate ChargeCard").Links(), traceparent)
	}
}

func TestSpan_SkippedCallHasNone(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]setup{
		"by the key function": {policy: once.Policy{Scope: keys.PerWorkflow, Key: badKey(keys.ErrSkip)}},
		"by the mode":         {change: inMode(once.Off)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, s)
			require.NoError(t, b.call(func(ctx context.Context, _ charge) error {
				require.False(t, trace.SpanContextFromContext(ctx).IsValid(), "a parent that is not exported makes orphans")
				return nil
			}, charge{Order: "7"}))
			require.Empty(t, b.spans.Started())
		})
	}
}

func TestSpan_SamplerSeesTheActivityType(t *testing.T) {
	t.Parallel()
	s := &asked{}
	b := newBench(t, setup{sampler: s})
	require.NoError(t, b.call(done, charge{Order: "7"}))
	require.Equal(t, []string{"atmostonce.claim ChargeCard"}, s.names)
}

// asked is a sampler that keeps what it was asked about.
type asked struct{ names []string }

func (a *asked) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	a.names = append(a.names, p.Name)
	return sdktrace.AlwaysSample().ShouldSample(p)
}

func (a *asked) Description() string { return "asked" }

func TestSpan_UnsampledCallsAreGuardedAlike(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{sampler: sdktrace.NeverSample()})
	runs := 0
	for range 2 {
		require.NoError(t, b.call(func(context.Context, charge) error { runs++; return nil }, charge{Order: "7"}))
	}
	require.Equal(t, 1, runs)
	require.Empty(t, b.spans.Ended())
	require.Equal(t, map[string]int64{"executed": 1, "duplicate": 1}, b.counts(t, "atmostonce.calls", "atmostonce.outcome"))
}

func TestTrace_IsEmptyWithoutASpan(t *testing.T) {
	t.Parallel()
	require.Empty(t, telemetry.NewOTel(telemetry.Options{}).Traceparent(t.Context()))
}
