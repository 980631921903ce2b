package telemetry

import (
	"context"
	"errors"
	"strings"
	"unicode"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.temporal.io/sdk/converter"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/store"
)

const (
	digestKey     = attribute.Key("atmostonce.key.digest")
	outcomeKey    = attribute.Key("atmostonce.outcome")
	policyKey     = attribute.Key("atmostonce.policy")
	noticeKey     = attribute.Key("atmostonce.notice")
	waitResultKey = attribute.Key("atmostonce.wait.result")

	// As Temporal's tracing interceptor has them, so that one search finds both.
	workflowIDKey = attribute.Key("temporalWorkflowID")
	runIDKey      = attribute.Key("temporalRunID")
	activityIDKey = attribute.Key("temporalActivityID")
	attemptKey    = attribute.Key("temporalActivityAttempt")

	traceparent = "traceparent"
	traceHeader = "_tracer-data" // where Temporal's tracing interceptors keep the span
)

func (o *OTel) start(ctx context.Context, name string, e interceptor.Event, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = withParent(ctx)
	}
	ctx, span := o.tracer.Start(ctx, name+" "+e.Activity, options...)
	if span.IsRecording() {
		span.SetAttributes(policyKey.String(e.Policy.String()), attemptKey.Int(int(e.Attempt)))
		for _, a := range []attribute.KeyValue{
			digestKey.String(e.Digest), workflowIDKey.String(e.WorkflowID), runIDKey.String(e.RunID), activityIDKey.String(e.ActivityID),
		} {
			if a.Value.AsString() != "" { // a standalone activity has no workflow
				span.SetAttributes(a)
			}
		}
	}
	return ctx, span
}

// withParent puts the span into ctx that came with the activity's header.
func withParent(ctx context.Context) context.Context {
	payload := sdkinterceptor.Header(ctx)[traceHeader]
	if payload == nil {
		return ctx
	}
	carrier := propagation.MapCarrier{}
	if converter.GetDefaultDataConverter().FromPayload(payload, &carrier) != nil {
		return ctx // not readable: tracing must not fail work
	}
	return propagation.TraceContext{}.Extract(ctx, carrier)
}

// finish gives the span of a call its name and all that is known now.
func finish(span trace.Span, e interceptor.Event) {
	defer span.End()
	if !span.IsRecording() {
		return
	}
	span.SetName("atmostonce." + e.Kind.String() + " " + e.Activity)
	span.SetAttributes(outcomeKey.String(outcome(e)))
	if owner := ownerOf(e); owner.IsSampled() && owner.SpanID() != span.SpanContext().SpanID() {
		span.AddLink(trace.Link{SpanContext: owner})
	}
	if kind := errorType(e); kind != "" {
		span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		if !isBenign(e.Err) {
			// No description: an error's message may hold input.
			span.SetStatus(codes.Error, "")
		}
	}
}

// ownerOf returns the execute span of the run that the event is about: the one
// that was taken over, or else the record's owner. It is invalid if that is not
// known.
func ownerOf(e interceptor.Event) trace.SpanContext {
	owner := e.Earlier.Info.Trace
	if owner == "" {
		owner = e.Record.Info.Trace
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{traceparent: owner})
	return trace.SpanContextFromContext(ctx)
}

func outcome(e interceptor.Event) string {
	switch e.Kind {
	case interceptor.Execute:
		return "executed"
	case interceptor.Duplicate:
		return "duplicate"
	case interceptor.Skip:
		return "skipped"
	default:
		return "failed"
	}
}

// waitResult says how a wait ended. ctx is the waiting call's.
func waitResult(ctx context.Context, e interceptor.Event) string {
	switch e.Reason {
	case "":
	case once.InDoubt:
		return "owner_lost"
	case once.InFlight:
		if errors.Is(ctx.Err(), context.Canceled) {
			return "cancelled"
		}
		return "timeout"
	default:
		return reasonType(e.Reason)
	}
	switch {
	case e.Record.State == store.Succeeded:
		return "completed"
	case e.Record.State == store.Failed:
		return "failed"
	case e.Record.Origin == store.First:
		return "released"
	default:
		return "owner_lost"
	}
}

// errorType is the guard's reason, or else the type of the error that the
// attempt ended in.
func errorType(e interceptor.Event) string {
	if e.Reason != "" || e.Err == nil {
		return reasonType(e.Reason)
	}
	if app := (*temporal.ApplicationError)(nil); errors.As(e.Err, &app) && app.Type() != "" {
		return app.Type()
	}
	return semconv.ErrorType(e.Err).Value.AsString()
}

// reasonType returns "in_doubt" for "atmostonce.InDoubt".
func reasonType(r once.Reason) string {
	var b strings.Builder
	for i, c := range strings.TrimPrefix(string(r), "atmostonce.") {
		if i > 0 && unicode.IsUpper(c) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// isBenign reports whether Temporal itself would not count err as a failure.
func isBenign(err error) bool {
	app := (*temporal.ApplicationError)(nil)
	return errors.As(err, &app) && app.Category() == temporal.ApplicationErrorCategoryBenign
}
