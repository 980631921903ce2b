package telemetry_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/telemetry"
)

type charge struct {
	Order string
	Note  string
}

// bench is a guard over one activity, ChargeCard, and all that can be seen of it.
type bench struct {
	guard  *interceptor.Guard
	store  *store.Memory
	spans  *tracetest.SpanRecorder
	tracer *sdktrace.TracerProvider
	reader *sdkmetric.ManualReader // nil: metrics go to temporal
	// What goes through Temporal.
	temporal *handler
	lines    *lines
}

type setup struct {
	policy    once.Policy
	lease     time.Duration // defaults to a minute
	temporal  bool          // metrics through Temporal's handler
	sampler   sdktrace.Sampler
	observers []interceptor.Observer // before the one that is tested
}

func newBench(t *testing.T, s setup) *bench {
	t.Helper()
	b := &bench{
		store: store.NewMemory(store.MemoryOptions{}), spans: tracetest.NewSpanRecorder(),
		temporal: &handler{seen: &seen{counts: map[string]int64{}, labels: map[string]map[string]string{}}}, lines: &lines{},
	}
	if s.lease == 0 {
		s.lease = time.Minute
	}
	if s.sampler == nil {
		s.sampler = sdktrace.AlwaysSample()
	}
	b.tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(b.spans), sdktrace.WithSampler(s.sampler))
	o := telemetry.Options{TracerProvider: b.tracer}
	if !s.temporal {
		b.reader = sdkmetric.NewManualReader()
		o.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(b.reader))
	}
	var err error
	b.guard, err = interceptor.New(b.store, interceptor.Options{
		Activities: once.Mark(s.policy, "ChargeCard"), DataConverter: converter.GetDefaultDataConverter(),
		Lease: s.lease, SettleDelay: s.lease / 2,
		Observers: append(s.observers, telemetry.NewOTel(o)),
	})
	require.NoError(t, err)
	return b
}

// environment is one in which fn serves ChargeCard.
func (b *bench) environment(fn any) *testsuite.TestActivityEnvironment {
	var s testsuite.WorkflowTestSuite
	s.SetLogger(b.lines)
	s.SetMetricsHandler(b.temporal)
	env := s.NewTestActivityEnvironment()
	env.SetWorkerOptions(worker.Options{Plugins: []worker.Plugin{b.guard}})
	env.RegisterActivityWithOptions(fn, sdkactivity.RegisterOptions{Name: "ChargeCard"})
	return env
}

// call runs ChargeCard once, served by fn.
func (b *bench) call(fn any, in charge) error {
	_, err := b.environment(fn).ExecuteActivity("ChargeCard", in)
	return err
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

// wait makes one call wait for another with the same input.
func wait(t *testing.T, b *bench, in charge) {
	t.Helper()
	letGo := running(t, b, in)
	waited := make(chan error, 1)
	go func() { waited <- b.call(done, in) }()
	require.Eventually(t, func() bool { return len(b.spans.Started()) == 3 }, soon, time.Millisecond)
	letGo()
	require.NoError(t, <-waited)
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

// collected returns what the meter provider has under that name.
func (b *bench) collected(t *testing.T, name string) metricdata.Metrics {
	t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(t, b.reader.Collect(context.Background(), &all))
	for _, scope := range all.ScopeMetrics {
		require.Equal(t, telemetry.ScopeName, scope.Scope.Name)
		for _, m := range scope.Metrics {
			if m.Name == name {
				return m
			}
		}
	}
	require.FailNow(t, "no metric "+name)
	return metricdata.Metrics{}
}

// counts returns a native counter's points as "value of key, value of key" → sum.
func (b *bench) counts(t *testing.T, name string, keys ...attribute.Key) map[string]int64 {
	t.Helper()
	sum, ok := b.collected(t, name).Data.(metricdata.Sum[int64])
	require.True(t, ok)
	require.True(t, sum.IsMonotonic)
	got := map[string]int64{}
	for _, p := range sum.DataPoints {
		label := ""
		for _, key := range keys {
			v, _ := p.Attributes.Value(key)
			label += "/" + v.AsString()
		}
		got[label[1:]] += p.Value
	}
	return got
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

// handler is a metrics handler for Temporal's client.
type handler struct {
	*seen
	tags map[string]string
}

type seen struct {
	mu     sync.Mutex
	counts map[string]int64
	labels map[string]map[string]string // by metric, of the last call
}

func (h *handler) WithTags(tags map[string]string) client.MetricsHandler {
	all := map[string]string{}
	maps.Copy(all, h.tags)
	maps.Copy(all, tags)
	return &handler{h.seen, all}
}

func (h *handler) record(name string, n int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[name] += n
	h.labels[name] = h.tags
}

func (h *handler) Counter(name string) client.MetricsCounter {
	return counter(func(n int64) { h.record(name, n) })
}

func (h *handler) Gauge(string) client.MetricsGauge { return gauge{} }

func (h *handler) Timer(name string) client.MetricsTimer {
	return timer(func(time.Duration) { h.record(name, 1) })
}

type (
	counter func(int64)
	gauge   struct{}
	timer   func(time.Duration)
)

func (c counter) Inc(n int64)          { c(n) }
func (gauge) Update(float64)           {}
func (t timer) Record(d time.Duration) { t(d) }

// lines keeps what is logged.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) keep(level, msg string, fields []any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, fmt.Sprintln(append([]any{level, msg}, fields...)...))
}

func (l *lines) Debug(msg string, fields ...any) { l.keep("DEBUG", msg, fields) }
func (l *lines) Info(msg string, fields ...any)  { l.keep("INFO", msg, fields) }
func (l *lines) Warn(msg string, fields ...any)  { l.keep("WARN", msg, fields) }
func (l *lines) Error(msg string, fields ...any) { l.keep("ERROR", msg, fields) }

// containing returns the lines that contain what.
func (l *lines) containing(what string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		if strings.Contains(line, what) {
			found = append(found, line)
		}
	}
	return found
}

const soon = 20 * time.Second
