package telemetry_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/telemetry"
)

type charge struct {
	Order string
	Note  string
}

func byOrder(in charge) string { return in.Order }

// bench is a guard over one activity, ChargeCard, and all that can be seen of it.
type bench struct {
	guard  *interceptor.Guard
	plain  bool // the guard is an interceptor of the worker, not a plugin
	spans  *tracetest.SpanRecorder
	tracer *sdktrace.TracerProvider
	reader *sdkmetric.ManualReader // nil: metrics go to temporal
	meters *sdkmetric.MeterProvider
	events *events
	// What goes through Temporal.
	temporal *handler
	lines    *lines
}

type setup struct {
	policy    once.Policy
	temporal  bool // metrics through Temporal's handler
	noEvents  bool // no LoggerProvider
	sampler   sdktrace.Sampler
	observers []observe.Observer         // before the one that is tested
	store     store.Store                // defaults to a new one in memory
	change    func(*interceptor.Options) // the last word on the guard's options
	options   telemetry.Options          // besides the providers
}

// The times of every guard here, which are the defaults.
const (
	lease       = time.Minute
	settleDelay = 30 * time.Second
	holdRetry   = 30 * time.Second
)

func newBench(tb testing.TB, s setup) *bench {
	tb.Helper()
	b := &bench{spans: tracetest.NewSpanRecorder(), events: &events{}, temporal: newHandler(), lines: &lines{}}
	if s.sampler == nil {
		s.sampler = sdktrace.AlwaysSample()
	}
	b.tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(b.spans), sdktrace.WithSampler(s.sampler))
	o := s.options
	o.TracerProvider = b.tracer
	if !s.temporal {
		b.reader = sdkmetric.NewManualReader()
		b.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(b.reader))
		o.MeterProvider = b.meters
	}
	if !s.noEvents {
		o.LoggerProvider = sdklog.NewLoggerProvider(sdklog.WithProcessor(b.events))
	}
	b.guard = newGuard(tb, s, append(s.observers, telemetry.NewOTel(o))...)
	return b
}

func newGuard(tb testing.TB, s setup, observers ...observe.Observer) *interceptor.Guard {
	tb.Helper()
	if s.store == nil {
		s.store = store.NewMemory(store.MemoryOptions{})
	}
	o := interceptor.Options{
		Activities: once.Mark(s.policy, "ChargeCard"), DataConverter: converter.GetDefaultDataConverter(), Observers: observers,
	}
	if s.change != nil {
		s.change(&o)
	}
	g, err := interceptor.New(s.store, o)
	require.NoError(tb, err)
	return g
}

// environment is one in which fn serves ChargeCard; the interceptors are outside
// of the guard.
func (b *bench) environment(fn any, outer ...sdkinterceptor.WorkerInterceptor) *testsuite.TestActivityEnvironment {
	var s testsuite.WorkflowTestSuite
	s.SetLogger(b.lines)
	s.SetMetricsHandler(b.temporal)
	env := s.NewTestActivityEnvironment()
	o := worker.Options{Interceptors: outer, Plugins: []worker.Plugin{b.guard}}
	if b.plain {
		o = worker.Options{Interceptors: append(outer, b.guard)}
	}
	o.WorkerStopTimeout = 10 * time.Second // else the guard waits until an answer is sent
	env.SetWorkerOptions(o)
	env.RegisterActivityWithOptions(fn, sdkactivity.RegisterOptions{Name: "ChargeCard"})
	return env
}

// call runs ChargeCard once, served by fn.
func (b *bench) call(fn any, in charge) error {
	_, err := b.environment(fn).ExecuteActivity("ChargeCard", in)
	return err
}

func done(context.Context, charge) (string, error) { return "receipt", nil }

func failing(err error) func(context.Context, charge) (string, error) {
	return func(context.Context, charge) (string, error) { return "", err }
}

// running starts a call that runs until it is let go, then ends without error.
func running(t *testing.T, b *bench, in charge) (letGo func()) {
	t.Helper()
	started, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- b.call(func(context.Context, charge) (string, error) {
			close(started)
			<-release
			return "receipt", nil
		}, in)
	}()
	<-started
	return func() {
		close(release)
		require.NoError(t, <-ended)
	}
}

// ended returns the spans with that name, in the order in which they ended.
func (b *bench) ended(name string) (found []sdktrace.ReadOnlySpan) {
	for _, s := range b.spans.Ended() {
		if s.Name() == name {
			found = append(found, s)
		}
	}
	return found
}

// span returns the only span with that name.
func (b *bench) span(t *testing.T, name string) sdktrace.ReadOnlySpan {
	t.Helper()
	found := b.ended(name)
	require.Len(t, found, 1, "%s in %v", name, tracetest.SpanStubsFromReadOnlySpans(b.spans.Ended()))
	return found[0]
}

func attributes(s sdktrace.ReadOnlySpan) map[string]any {
	m := map[string]any{}
	for _, a := range s.Attributes() {
		m[string(a.Key)] = a.Value.AsInterface()
	}
	return m
}

// requireLink requires that the only link of from leads to to.
func requireLink(t *testing.T, from, to sdktrace.ReadOnlySpan) {
	t.Helper()
	require.Len(t, from.Links(), 1)
	link := from.Links()[0].SpanContext
	require.Equal(t, to.SpanContext().TraceID(), link.TraceID())
	require.Equal(t, to.SpanContext().SpanID(), link.SpanID())
}
