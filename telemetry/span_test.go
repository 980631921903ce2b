package telemetry_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/telemetry"
)

func done(context.Context, charge) (string, error) { return "receipt", nil }

func failing(err error) func(context.Context, charge) (string, error) {
	return func(context.Context, charge) (string, error) { return "", err }
}

func byOrder(in charge) string { return in.Order }

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
	require.Equal(t, trace.SpanKindInternal, span.SpanKind())
	require.Equal(t, sdktrace.Status{}, span.Status())
	require.Equal(t, telemetry.ScopeName, span.InstrumentationScope().Name)
	require.False(t, span.Parent().IsValid())
	require.Empty(t, span.Links())
	require.Empty(t, span.Events())
	got := attributes(span)
	require.Len(t, got["atmostonce.key.digest"], 16)
	delete(got, "atmostonce.key.digest")
	require.Equal(t, map[string]any{
		"atmostonce.outcome": "executed", "atmostonce.policy": "Return",
		"temporalWorkflowID": "default-test-workflow-id", "temporalRunID": "default-test-run-id",
		"temporalActivityID": got["temporalActivityID"], "temporalActivityAttempt": int64(1),
	}, got)
	require.NotEmpty(t, got["temporalActivityID"])
}

const parentInHeader = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// tracerData is the header in which Temporal's tracing interceptors send a span.
func tracerData(t *testing.T, data any) *commonpb.Header {
	t.Helper()
	payload, err := converter.GetDefaultDataConverter().ToPayload(data)
	require.NoError(t, err)
	return &commonpb.Header{Fields: map[string]*commonpb.Payload{"_tracer-data": payload}}
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

// tracing starts a span around each call, as a tracing interceptor does.
type tracing struct{ tracer trace.Tracer }

func (o tracing) Begin(ctx context.Context, _ interceptor.Event) (context.Context, func(interceptor.Event)) {
	ctx, span := o.tracer.Start(ctx, "RunActivity:ChargeCard")
	return ctx, func(interceptor.Event) { span.End() }
}

func TestSpan_PrefersTheParentInTheContext(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{observers: []interceptor.Observer{tracing{sdktrace.NewTracerProvider().Tracer("test")}}})
	env := b.environment(done)
	env.SetHeader(tracerData(t, map[string]string{"traceparent": parentInHeader}))
	_, err := env.ExecuteActivity("ChargeCard", charge{Order: "7"})
	require.NoError(t, err)
	parent := b.span(t, "atmostonce.execute ChargeCard").Parent()
	require.True(t, parent.IsValid())
	require.NotEqual(t, "b7ad6b7169203331", parent.SpanID().String())
}

func TestSpan_SaysHowTheBodyFailed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err       error
		status    codes.Code
		errorType string
	}{
		"application error": {temporal.NewApplicationError("no funds", "CardDeclined"), codes.Error, "CardDeclined"},
		"other error":       {errors.New("no funds"), codes.Error, "*errors.errorString"},
		"benign error": {temporal.NewApplicationErrorWithOptions("later", "NotYet",
			temporal.ApplicationErrorOptions{Category: temporal.ApplicationErrorCategoryBenign}), codes.Unset, "NotYet"},
		"in doubt": {once.MaybeDone(errors.New("no answer")), codes.Error, "in_doubt"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, setup{})
			require.Error(t, b.call(failing(c.err), charge{Order: "7"}))
			span := b.span(t, "atmostonce.execute ChargeCard")
			require.Equal(t, sdktrace.Status{Code: c.status}, span.Status(), "an error's text may hold input")
			require.Equal(t, c.errorType, attributes(span)["error.type"])
			require.Empty(t, span.Events())
		})
	}
}

func TestSpan_EndsWhenTheBodyPanics(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{})
	require.Error(t, b.call(func(context.Context, charge) error {
		panic("in the body")
	}, charge{Order: "7"}))
	span := b.span(t, "atmostonce.execute ChargeCard")
	require.Equal(t, codes.Error, span.Status().Code)
	require.Equal(t, "in_doubt", attributes(span)["error.type"])
}

func TestSpan_DuplicateLinksToTheExecution(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{})
	require.NoError(t, b.call(done, charge{Order: "7"}))
	require.NoError(t, b.call(done, charge{Order: "7"}))
	span := b.span(t, "atmostonce.duplicate ChargeCard")
	requireLink(t, span, b.span(t, "atmostonce.execute ChargeCard"))
	require.Equal(t, trace.SpanKindInternal, span.SpanKind())
	require.Equal(t, sdktrace.Status{}, span.Status())
	require.Equal(t, "duplicate", attributes(span)["atmostonce.outcome"])
	require.NotContains(t, attributes(span), "error.type")
}

func TestSpan_DuplicateOfAFailureSaysSo(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{policy: once.Policy{OnFailure: once.Lock}})
	for range 2 {
		require.Error(t, b.call(failing(temporal.NewApplicationError("no funds", "CardDeclined")), charge{Order: "7"}))
	}
	span := b.span(t, "atmostonce.duplicate ChargeCard")
	requireLink(t, span, b.span(t, "atmostonce.execute ChargeCard"))
	require.Equal(t, codes.Error, span.Status().Code)
	require.Equal(t, "CardDeclined", attributes(span)["error.type"])
}

func TestSpan_FailLinksToTheExecution(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy    once.Policy
		first     func(context.Context, charge) (string, error)
		errorType string
		policyIs  string
	}{
		"rejected": {once.Policy{OnDuplicate: once.Reject}, done, "duplicate", "Reject"},
		"mismatch": {once.Policy{Key: keys.From(byOrder), Scope: keys.PerWorkflow}, done, "mismatch", "Return"},
		"in doubt": {once.Policy{InDoubt: once.Fail, Match: keys.Any()}, failing(once.MaybeDone(errors.New("no answer"))), "in_doubt", "Return"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, setup{policy: c.policy})
			err := b.call(c.first, charge{Order: "7"})
			require.Equal(t, name == "in doubt", err != nil)
			second := charge{Order: "7"}
			if name == "mismatch" {
				second.Note = "other"
			}
			require.Error(t, b.call(done, second))
			span := b.span(t, "atmostonce.fail ChargeCard")
			requireLink(t, span, b.span(t, "atmostonce.execute ChargeCard"))
			require.Equal(t, trace.SpanKindInternal, span.SpanKind())
			require.Equal(t, sdktrace.Status{Code: codes.Error}, span.Status())
			got := attributes(span)
			require.Equal(t, "failed", got["atmostonce.outcome"])
			require.Equal(t, c.errorType, got["error.type"])
			require.Equal(t, c.policyIs, got["atmostonce.policy"])
			require.LessOrEqual(t, len(got), 10)
		})
	}
}

func TestSpan_InFlightIsNoError(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{})
	letGo := running(t, b, charge{Order: "7"})
	err := b.call(done, charge{Order: "7"})
	require.True(t, once.Is(err, once.InFlight), "%v", err)
	letGo()
	span := b.span(t, "atmostonce.fail ChargeCard")
	requireLink(t, span, b.span(t, "atmostonce.execute ChargeCard"))
	require.Equal(t, sdktrace.Status{}, span.Status(), "it is benign")
	require.Equal(t, "in_flight", attributes(span)["error.type"])
}

func TestSpan_WaitIsAChildOfTheDuplicate(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{policy: once.Policy{OnDuplicate: once.Wait}})
	wait(t, b, charge{Order: "7"})

	waiting, duplicate, execute := b.span(t, "atmostonce.wait ChargeCard"), b.span(t, "atmostonce.duplicate ChargeCard"), b.span(t, "atmostonce.execute ChargeCard")
	require.Equal(t, duplicate.SpanContext().SpanID(), waiting.Parent().SpanID())
	requireLink(t, waiting, execute)
	requireLink(t, duplicate, execute)
	require.Equal(t, trace.SpanKindInternal, waiting.SpanKind())
	require.Equal(t, sdktrace.Status{}, waiting.Status())
	require.Equal(t, "completed", attributes(waiting)["atmostonce.wait.result"])
	require.Equal(t, attributes(duplicate)["atmostonce.key.digest"], attributes(waiting)["atmostonce.key.digest"])
}

func TestSpan_WaitSaysHowItEnded(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	expired, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	for _, c := range []struct {
		want string
		ctx  context.Context
		end  interceptor.Event
	}{
		{"completed", t.Context(), interceptor.Event{Record: store.Record{State: store.Succeeded}}},
		{"failed", t.Context(), interceptor.Event{Record: store.Record{State: store.Failed}}},
		{"released", t.Context(), interceptor.Event{Record: store.Record{State: store.Running, Origin: store.First}}},
		{"owner_lost", t.Context(), interceptor.Event{Record: store.Record{State: store.Running, Origin: store.Taken}}},
		{"owner_lost", t.Context(), interceptor.Event{Reason: once.InDoubt}},
		{"timeout", expired, interceptor.Event{Reason: once.InFlight}},
		{"cancelled", canceled, interceptor.Event{Reason: once.InFlight}},
		{"store_down", t.Context(), interceptor.Event{Reason: once.StoreDown}},
	} {
		b := newBench(t, setup{})
		o := telemetry.NewOTel(telemetry.Options{TracerProvider: b.tracer})
		_, end := o.Begin(c.ctx, interceptor.Event{Kind: interceptor.Wait, Activity: "ChargeCard"})
		c.end.Kind = interceptor.Wait
		end(c.end)
		require.Equal(t, c.want, attributes(b.span(t, "atmostonce.wait ChargeCard"))["atmostonce.wait.result"])
	}
}

func TestSpan_ExecuteLinksToTheRunBeforeIt(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{})
	o := telemetry.NewOTel(telemetry.Options{TracerProvider: b.tracer})
	claim := interceptor.Event{Kind: interceptor.Claim, Activity: "ChargeCard", Digest: "0123456789abcdef"}
	ctx, end := o.Begin(t.Context(), claim)
	own := o.Trace(ctx)
	require.Len(t, own, 55)
	end(interceptor.Event{Kind: interceptor.Execute, Activity: "ChargeCard", Record: store.Record{Info: store.Info{Trace: own}}})
	first := b.span(t, "atmostonce.execute ChargeCard")
	require.Empty(t, first.Links(), "its own record is no other run")

	_, end = o.Begin(t.Context(), claim)
	end(interceptor.Event{Kind: interceptor.Execute, Activity: "ChargeCard", Takeover: true, Record: store.Record{Info: store.Info{Trace: own}}})
	requireLink(t, b.ended("atmostonce.execute ChargeCard")[1], first)
}

func TestSpan_DoesNotLinkToWhatIsNotThere(t *testing.T) {
	t.Parallel()
	for _, traceparent := range []string{"", "nonsense",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", // not sampled
	} {
		b := newBench(t, setup{})
		o := telemetry.NewOTel(telemetry.Options{TracerProvider: b.tracer})
		e := interceptor.Event{Kind: interceptor.Wait, Activity: "ChargeCard", Digest: "0123456789abcdef",
			Record: store.Record{Info: store.Info{Trace: traceparent}}}
		_, end := o.Begin(t.Context(), e)
		end(e)
		require.Empty(t, b.span(t, "atmostonce.wait ChargeCard").Links(), traceparent)
		e.Kind = interceptor.Claim
		_, end = o.Begin(t.Context(), e)
		e.Kind = interceptor.Duplicate
		end(e)
		require.Empty(t, b.span(t, "atmostonce.duplicate ChargeCard").Links(), traceparent)
	}
}

func TestSpan_SkippedCallHasNone(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{policy: once.Policy{Scope: keys.PerWorkflow,
		Key: keys.FromCall(func(keys.Call) (string, error) { return "", keys.ErrSkip })}})
	require.NoError(t, b.call(func(ctx context.Context, _ charge) error {
		require.False(t, trace.SpanContextFromContext(ctx).IsValid(), "a parent that is not exported makes orphans")
		return nil
	}, charge{Order: "7"}))
	require.Empty(t, b.spans.Started())
	require.Equal(t, map[string]int64{"skipped/": 1}, b.counts(t, "atmostonce.calls", "atmostonce.outcome", "error.type"))
}

func TestSpan_KeylessCallIsAFail(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{policy: once.Policy{Scope: keys.PerWorkflow,
		Key: keys.FromCall(func(keys.Call) (string, error) { return "", errors.New("no order") })}})
	require.Error(t, b.call(done, charge{Order: "7"}))
	span := b.span(t, "atmostonce.fail ChargeCard")
	require.Equal(t, "bad_key", attributes(span)["error.type"])
	require.NotContains(t, attributes(span), "atmostonce.key.digest")
}

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
	require.Empty(t, telemetry.NewOTel(telemetry.Options{}).Trace(t.Context()))
}
