package e2e

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/telemetry"
)

// The names of spans.
const (
	startActivity = "StartActivity:Charge"
	runActivity   = "RunActivity:Charge"
	executeSpan   = "atmostonce.execute Charge"
	duplicateSpan = "atmostonce.duplicate Charge"
	failSpan      = "atmostonce.fail Charge"
	waitSpan      = "atmostonce.wait Charge"
	calleeSpan    = "POST /charges"
)

// traced is where the spans of one process go: what links two of them went
// through the store or through Temporal.
type traced struct {
	recorder *tracetest.SpanRecorder
	provider *sdktrace.TracerProvider
}

func newTraced(o ...sdktrace.TracerProviderOption) *traced {
	recorder := tracetest.NewSpanRecorder()
	return &traced{recorder, sdktrace.NewTracerProvider(append(o, sdktrace.WithSpanProcessor(recorder))...)}
}

// interceptor returns Temporal's tracing interceptor.
func (p *traced) interceptor(t *testing.T, o opentelemetry.TracerOptions) sdkinterceptor.Interceptor {
	t.Helper()
	o.Tracer = p.provider.Tracer("temporal-sdk-go")
	i, err := opentelemetry.NewTracingInterceptor(o)
	require.NoError(t, err)
	return i
}

func (p *traced) observer(o telemetry.Options) observe.Observer {
	o.TracerProvider = p.provider
	return telemetry.NewOTel(o)
}

// calling is a body that calls somebody, which it has a span for.
func (p *traced) calling(b body) body {
	return func(ctx context.Context, in charge) (receipt, error) {
		ctx, span := p.provider.Tracer("payments").Start(ctx, calleeSpan)
		defer span.End()
		return b(ctx, in)
	}
}

// ended returns the spans with that name, in the order in which they ended.
func (p *traced) ended(name string) (found []sdktrace.ReadOnlySpan) {
	for _, span := range p.recorder.Ended() {
		if span.Name() == name {
			found = append(found, span)
		}
	}
	return found
}

// only returns the only span with that name.
func (p *traced) only(t *testing.T, name string) sdktrace.ReadOnlySpan {
	t.Helper()
	found := p.ended(name)
	require.Len(t, found, 1, "%s in %v", name, names(p.recorder.Ended()))
	return found[0]
}

func names(spans []sdktrace.ReadOnlySpan) (all []string) {
	for _, span := range spans {
		all = append(all, span.Name())
	}
	return all
}

func attributesOf(span sdktrace.ReadOnlySpan) map[string]any {
	all := map[string]any{}
	for _, a := range span.Attributes() {
		all[string(a.Key)] = a.Value.AsInterface()
	}
	return all
}

func traceparent(span sdktrace.ReadOnlySpan) string {
	sc := span.SpanContext()
	return fmt.Sprintf("00-%s-%s-%s", sc.TraceID(), sc.SpanID(), sc.TraceFlags())
}

func requireParent(t *testing.T, parent, span sdktrace.ReadOnlySpan) {
	t.Helper()
	require.Equal(t, parent.SpanContext().TraceID(), span.SpanContext().TraceID(), "%s and %s", parent.Name(), span.Name())
	require.Equal(t, parent.SpanContext().SpanID(), span.Parent().SpanID(), "%s of %s", parent.Name(), span.Name())
}

// newTracedScene is a scene whose clients and workers trace: those of the test
// itself, which run the workflows, into the first process.
func newTracedScene(t *testing.T) (*scene, *traced) {
	t.Helper()
	p := newTraced()
	return newScene(t, client.Options{Interceptors: []sdkinterceptor.ClientInterceptor{p.interceptor(t, opentelemetry.TracerOptions{})}}), p
}

// observed returns a guard of Charge that these observe too.
func (s *scene) observed(p once.Policy, observers ...observe.Observer) *interceptor.Guard {
	s.t.Helper()
	g, err := interceptor.New(s.store, guardOptions(once.Mark(p, "Charge"), append(observers, s.events)...))
	require.NoError(s.t, err)
	return g
}

// workIn is work in a process of its own, as far as tracing goes.
func (s *scene) workIn(p *traced, policy once.Policy, b body) worker.Worker {
	s.t.Helper()
	process := *s
	if len(s.options.Interceptors) > 0 {
		process.options.Interceptors = []sdkinterceptor.ClientInterceptor{p.interceptor(s.t, opentelemetry.TracerOptions{})}
	}
	return process.workWith(s.observed(policy, p.observer(telemetry.Options{})),
		worker.Options{MaxConcurrentActivityExecutionSize: 1}, func(r worker.Registry) { register(r, p.calling(b)) })
}

// requireLinked asserts that the only link of a span leads to that execute span,
// which was an attempt of a call of the run.
func requireLinked(t *testing.T, span, original sdktrace.ReadOnlySpan, run client.WorkflowRun, attempt int64) {
	t.Helper()
	require.Len(t, span.Links(), 1, span.Name())
	link := span.Links()[0]
	require.Equal(t, original.SpanContext().TraceID(), link.SpanContext.TraceID(), span.Name())
	require.Equal(t, original.SpanContext().SpanID(), link.SpanContext.SpanID(), span.Name())
	got := map[string]any{}
	for _, a := range link.Attributes {
		got[string(a.Key)] = a.Value.AsInterface()
	}
	require.Equal(t, map[string]any{
		"atmostonce.link": "original", "atmostonce.original.workflow_id": run.GetID(),
		"atmostonce.original.run_id": run.GetRunID(), "atmostonce.original.attempt": attempt,
	}, got, span.Name())
}
