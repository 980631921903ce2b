package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/atmostonce/atmostonce/observe"
)

// ScopeName is the instrumentation scope of all spans, instruments and log
// events. Its version is observe.Version.
const ScopeName = "github.com/atmostonce/atmostonce/telemetry"

// Options are the options of NewOTel. The zero value is ready to use.
type Options struct {
	// TracerProvider makes the spans. Defaults to the global one.
	TracerProvider trace.TracerProvider
	// MeterProvider takes the guard's metrics. Without one they go through the
	// metrics handler of Temporal's client; never to both.
	MeterProvider metric.MeterProvider
	// LoggerProvider takes events about what somebody should look into. Without
	// one there are none; the warnings in the activity's log are there in any case.
	LoggerProvider log.LoggerProvider

	// HeaderKey and Propagator are those of Temporal's tracing interceptor. They
	// are needed where the guard runs outside of it, and so finds the parent of its
	// spans only in the header that the interceptor has sent. Default to
	// "_tracer-data" and W3C Trace Context.
	HeaderKey  string
	Propagator propagation.TextMapPropagator
}

// OTel observes a guard; list it in interceptor.Options.Observers. One OTel
// serves any number of guards, and its methods may be called from any number of
// goroutines.
type OTel struct {
	tracer trace.Tracer
	meter  *meter     // nil: metrics go through Temporal
	logger log.Logger // nil: no events

	headerKey  string
	propagator propagation.TextMapPropagator
}

var (
	_ observe.Observer      = (*OTel)(nil)
	_ observe.Traceparenter = (*OTel)(nil)
	_ observe.Recorder      = (*OTel)(nil)
	_ observe.Selector      = (*OTel)(nil)
)

// NewOTel returns an observer. What is wrong with an instrument is reported to
// OpenTelemetry's global error handler.
func NewOTel(o Options) *OTel {
	if o.TracerProvider == nil {
		o.TracerProvider = otel.GetTracerProvider()
	}
	if o.HeaderKey == "" {
		o.HeaderKey = "_tracer-data"
	}
	if o.Propagator == nil {
		o.Propagator = propagation.TraceContext{}
	}
	t := &OTel{headerKey: o.HeaderKey, propagator: o.Propagator}
	t.tracer = o.TracerProvider.Tracer(ScopeName, trace.WithInstrumentationVersion(observe.Version), trace.WithSchemaURL(semconv.SchemaURL))
	if o.MeterProvider != nil {
		t.meter = newMeter(o.MeterProvider.Meter(ScopeName, metric.WithInstrumentationVersion(observe.Version), metric.WithSchemaURL(semconv.SchemaURL)))
	}
	if o.LoggerProvider != nil {
		t.logger = o.LoggerProvider.Logger(ScopeName, log.WithInstrumentationVersion(observe.Version), log.WithSchemaURL(semconv.SchemaURL))
	}
	return t
}

// Begin implements observe.Observer.
func (o *OTel) Begin(ctx context.Context, e observe.Event) (context.Context, func(observe.Event)) {
	switch e.Kind {
	case observe.KindWait:
		return o.wait(ctx, e)
	case observe.KindNotice:
		return ctx, func(e observe.Event) { o.log(ctx, e) }
	default:
		return o.call(ctx, e)
	}
}

// Selects implements observe.Selector: notices are for log events only.
func (o *OTel) Selects(k observe.Kind) bool {
	return k != observe.KindNotice || o.logger != nil
}

// Traceparent implements observe.Traceparenter: it returns the W3C traceparent of the
// span in ctx, or "" if there is none.
func (o *OTel) Traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[traceparent]
}

// Recorder implements observe.Recorder.
func (o *OTel) Recorder() func(context.Context, observe.Measurement) {
	if o.meter == nil {
		return nil
	}
	return o.meter.record
}

func (o *OTel) call(ctx context.Context, e observe.Event) (context.Context, func(observe.Event)) {
	began := time.Now()
	var span trace.Span
	// A call without a key may turn out to be a skipped one, whose body's spans
	// need their parent.
	if e.Digest != "" {
		ctx, span = o.start(ctx, "atmostonce.claim", e)
	}
	return ctx, func(e observe.Event) {
		if span == nil && e.Kind != observe.KindSkip {
			ctx, span = o.start(ctx, "atmostonce.claim", e, trace.WithTimestamp(began))
		}
		if span != nil {
			finish(span, e)
		}
		o.log(ctx, e)
	}
}

func (o *OTel) wait(ctx context.Context, e observe.Event) (context.Context, func(observe.Event)) {
	links, rest := toOriginal(e)
	ctx, span := o.start(ctx, "atmostonce.wait", e, trace.WithLinks(links...))
	return ctx, func(e observe.Event) {
		if span.IsRecording() {
			span.SetAttributes(waitResultKey.String(string(e.Waited)))
			span.SetAttributes(rest...)
		}
		span.End()
	}
}
