package telemetry

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	sdkactivity "go.temporal.io/sdk/activity"

	"github.com/atmostonce/atmostonce/interceptor"
)

const (
	callsName   = "atmostonce.calls"
	noticesName = "atmostonce.notices"
	waitName    = "atmostonce.wait.duration"
)

// metrics writes to native instruments, or where there are none to the metrics
// handler of the activity in the context.
type metrics struct {
	native         bool
	calls, notices metric.Int64Counter
	waits          metric.Float64Histogram
}

func newMetrics(p metric.MeterProvider) (m metrics) {
	if p == nil {
		return m
	}
	m.native = true
	meter := p.Meter(ScopeName)
	var errs [3]error
	m.calls, errs[0] = meter.Int64Counter(callsName, metric.WithUnit("{call}"),
		metric.WithDescription("Guarded activity attempts."))
	m.notices, errs[1] = meter.Int64Counter(noticesName, metric.WithUnit("{notice}"),
		metric.WithDescription("What the guard noticed beside its answers."))
	m.waits, errs[2] = meter.Float64Histogram(waitName, metric.WithUnit("s"),
		metric.WithDescription("Time that calls kept their slot until another call had ended."),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300))
	for _, err := range errs {
		if err != nil {
			otel.Handle(err)
		}
	}
	return m
}

func (m metrics) call(ctx context.Context, e interceptor.Event) {
	kind := reasonType(e.Reason)
	if kind == "" && !m.native {
		kind = "none" // Prometheus through Temporal's handler needs every label every time
	}
	attributes := []attribute.KeyValue{outcomeKey.String(outcome(e))}
	if kind != "" {
		attributes = append(attributes, semconv.ErrorTypeKey.String(kind))
	}
	m.count(ctx, m.calls, callsName, e, attributes)
}

func (m metrics) notice(ctx context.Context, e interceptor.Event) {
	m.count(ctx, m.notices, noticesName, e, []attribute.KeyValue{noticeKey.String(e.Notice)})
}

func (m metrics) wait(ctx context.Context, e interceptor.Event, result string) {
	attributes := []attribute.KeyValue{waitResultKey.String(result)}
	switch {
	case m.native:
		m.waits.Record(ctx, e.Took.Seconds(), metric.WithAttributes(append(attributes, place(ctx, e)...)...))
	case sdkactivity.IsActivity(ctx):
		sdkactivity.GetMetricsHandler(ctx).WithTags(tags(attributes)).Timer(underscored(waitName)).Record(e.Took)
	}
}

func (m metrics) count(ctx context.Context, c metric.Int64Counter, name string, e interceptor.Event, attributes []attribute.KeyValue) {
	switch {
	case m.native:
		c.Add(ctx, 1, metric.WithAttributes(append(attributes, place(ctx, e)...)...))
	case sdkactivity.IsActivity(ctx):
		sdkactivity.GetMetricsHandler(ctx).WithTags(tags(attributes)).Counter(underscored(name)).Inc(1)
	}
}

// place returns the labels that Temporal's handler has of itself.
func place(ctx context.Context, e interceptor.Event) []attribute.KeyValue {
	labels := []attribute.KeyValue{attribute.String("activity_type", e.Activity)}
	if sdkactivity.IsActivity(ctx) {
		info := sdkactivity.GetInfo(ctx)
		labels = append(labels, attribute.String("namespace", info.Namespace), attribute.String("task_queue", info.TaskQueue))
	}
	return labels
}

func tags(attributes []attribute.KeyValue) map[string]string {
	m := make(map[string]string, len(attributes))
	for _, a := range attributes {
		m[underscored(string(a.Key))] = a.Value.AsString()
	}
	return m
}

func underscored(name string) string { return strings.ReplaceAll(name, ".", "_") }
