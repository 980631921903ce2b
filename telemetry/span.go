package telemetry

import (
	"cmp"
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/atmostonce/atmostonce/internal/sdkside"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

const (
	digestKey     = attribute.Key("atmostonce.key.digest")
	outcomeKey    = attribute.Key("atmostonce.outcome")
	policyKey     = attribute.Key("atmostonce.policy")
	ageKey        = attribute.Key("atmostonce.record.age")
	storeKey      = attribute.Key("atmostonce.store.type")
	waitResultKey = attribute.Key("atmostonce.wait.result")

	// Of links, or of the span where there is nothing to link to.
	linkKey               = attribute.Key("atmostonce.link")
	originalWorkflowIDKey = attribute.Key("atmostonce.original.workflow_id")
	originalRunIDKey      = attribute.Key("atmostonce.original.run_id")
	originalAttemptKey    = attribute.Key("atmostonce.original.attempt")

	// As Temporal's tracing interceptor has them, so that one search finds both.
	workflowIDKey = attribute.Key("temporalWorkflowID")
	runIDKey      = attribute.Key("temporalRunID")
	activityIDKey = attribute.Key("temporalActivityID")

	attemptKey = attribute.Key("temporalActivityAttempt") // which Temporal's own tracing interceptor lacks

	traceparent = "traceparent"
)

func (o *OTel) start(ctx context.Context, name string, e observe.Event, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = o.withParent(ctx)
	}
	ctx, span := o.tracer.Start(ctx, name+" "+e.Activity, options...)
	if span.IsRecording() {
		span.SetAttributes(policyKey.String(e.Policy.String()), storeKey.String(e.Store))
		span.SetAttributes(identity(e)...)
	}
	return ctx, span
}

// withParent puts the span into ctx that came with the activity's header.
func (o *OTel) withParent(ctx context.Context) context.Context {
	texts := sdkside.Header(ctx, o.headerKey)
	if texts == nil {
		return ctx
	}
	return o.propagator.Extract(ctx, propagation.MapCarrier(texts))
}

// identity says which attempt e is about.
func identity(e observe.Event) []attribute.KeyValue {
	all := []attribute.KeyValue{attemptKey.Int(int(e.Attempt))}
	for _, a := range []attribute.KeyValue{
		digestKey.String(e.Digest), workflowIDKey.String(e.WorkflowID), runIDKey.String(e.RunID), activityIDKey.String(e.ActivityID),
	} {
		if a.Value.AsString() != "" { // a standalone activity has no workflow
			all = append(all, a)
		}
	}
	return all
}

// finish gives the span of a call its name and all that is known now.
func finish(span trace.Span, e observe.Event) {
	defer span.End()
	if !span.IsRecording() {
		return
	}
	span.SetName("atmostonce." + e.Kind.String() + " " + e.Activity)
	span.SetAttributes(outcomeKey.String(e.Outcome()))
	links, rest := toOriginal(e)
	for _, link := range links {
		if link.SpanContext.SpanID() != span.SpanContext().SpanID() {
			span.AddLink(link)
		}
	}
	span.SetAttributes(rest...)
	if r := e.Record; e.Kind != observe.KindExecute && !r.Claimed.IsZero() && r.Now.After(r.Claimed) {
		span.SetAttributes(ageKey.Float64(r.Now.Sub(r.Claimed).Seconds()))
	}
	if kind := errorType(e); kind != "" {
		span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		if _, benign := sdkside.Failure(e.Err); !benign {
			// No description: an error's message may hold input.
			span.SetStatus(codes.Error, "")
		}
	}
}

// toOriginal links to the execute span of the run that e is about. Where there is
// no such span to find, rest says what is known of that run.
func toOriginal(e observe.Event) (links []trace.Link, rest []attribute.KeyValue) {
	about := original(e)
	carrier := propagation.MapCarrier{traceparent: originalRecord(e).Info.Trace}
	owner := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
	if !owner.IsSampled() {
		return nil, about
	}
	return []trace.Link{{SpanContext: owner, Attributes: append(about, linkKey.String("original"))}}, nil
}

// original says whose run e is about, unless it is this attempt's own.
func original(e observe.Event) (about []attribute.KeyValue) {
	h := originalRecord(e).Info.Holder
	run := cmp.Or(h.RunID, h.ActivityRunID)
	if run == e.RunID && h.ActivityID == e.ActivityID && h.Attempt == e.Attempt {
		return nil
	}
	if h.WorkflowID != "" {
		about = append(about, originalWorkflowIDKey.String(h.WorkflowID))
	}
	if run != "" {
		about = append(about, originalRunIDKey.String(run))
	}
	if h.Attempt != 0 {
		about = append(about, originalAttemptKey.Int(int(h.Attempt)))
	}
	return about
}

// originalRecord is of the run that was taken over, or else of the key's owner.
func originalRecord(e observe.Event) store.Record {
	if e.Earlier.State != "" {
		return e.Earlier
	}
	return e.Record
}

// errorType is the guard's reason, or else the type of the error that the
// attempt ended in.
func errorType(e observe.Event) string {
	if e.Reason != "" || e.Err == nil {
		return e.ErrorType()
	}
	if kind, _ := sdkside.Failure(e.Err); kind != "" {
		return kind
	}
	return semconv.ErrorType(once.Plain(e.Err)).Value.AsString()
}
