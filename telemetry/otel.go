package telemetry

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
)

// ScopeName is the instrumentation scope of all spans and native instruments.
const ScopeName = "github.com/atmostonce/atmostonce/telemetry"

// Options are the options of NewOTel. The zero value is ready to use.
type Options struct {
	// TracerProvider makes the spans. Defaults to the global one.
	TracerProvider trace.TracerProvider
	// MeterProvider takes the metrics. Without one they go through the metrics
	// handler of Temporal's client, which has the same labels as the SDK's own
	// metrics; never to both.
	MeterProvider metric.MeterProvider
}

// OTel observes a guard; list it in interceptor.Options.Observers. One OTel
// serves any number of guards, and its methods may be called from any number of
// goroutines.
type OTel struct {
	tracer  trace.Tracer
	metrics metrics
	told    sync.Map // what was warned about once per activity type
}

var (
	_ interceptor.Observer = (*OTel)(nil)
	_ interceptor.Tracer   = (*OTel)(nil)
)

// NewOTel returns an observer. What is wrong with an instrument is reported to
// OpenTelemetry's global error handler.
func NewOTel(o Options) *OTel {
	if o.TracerProvider == nil {
		o.TracerProvider = otel.GetTracerProvider()
	}
	return &OTel{tracer: o.TracerProvider.Tracer(ScopeName), metrics: newMetrics(o.MeterProvider)}
}

// Begin implements interceptor.Observer.
func (o *OTel) Begin(ctx context.Context, e interceptor.Event) (context.Context, func(interceptor.Event)) {
	switch e.Kind {
	case interceptor.Wait:
		return o.wait(ctx, e)
	case interceptor.Notice:
		return ctx, func(e interceptor.Event) {
			o.metrics.notice(ctx, e)
			o.warn(ctx, e)
		}
	default:
		return o.call(ctx, e)
	}
}

// Trace implements interceptor.Tracer: it returns the W3C traceparent of the
// span in ctx, or "" if there is none.
func (o *OTel) Trace(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[traceparent]
}

func (o *OTel) call(ctx context.Context, e interceptor.Event) (context.Context, func(interceptor.Event)) {
	began := time.Now()
	var span trace.Span
	// A call without a key may turn out to be a skipped one, whose body's spans
	// must not be left without their parent.
	if e.Digest != "" {
		ctx, span = o.start(ctx, "atmostonce.claim", e)
	}
	return ctx, func(e interceptor.Event) {
		if span == nil && e.Kind != interceptor.Skip {
			_, span = o.start(ctx, "atmostonce.claim", e, trace.WithTimestamp(began))
		}
		if span != nil {
			finish(span, e)
		}
		o.metrics.call(ctx, e)
		if e.Reason == once.InDoubt {
			o.warn(ctx, e)
		}
	}
}

func (o *OTel) wait(ctx context.Context, e interceptor.Event) (context.Context, func(interceptor.Event)) {
	call := ctx
	var links []trace.Link
	if owner := ownerOf(e); owner.IsSampled() {
		links = append(links, trace.Link{SpanContext: owner})
	}
	ctx, span := o.start(ctx, "atmostonce.wait", e, trace.WithLinks(links...))
	return ctx, func(e interceptor.Event) {
		result := waitResult(call, e)
		if span.IsRecording() {
			span.SetAttributes(waitResultKey.String(result))
		}
		span.End()
		o.metrics.wait(call, e, result)
	}
}
