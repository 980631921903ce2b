package telemetry_test

import (
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/telemetry"
)

// levels are how much telemetry there is: none, an observer that does nothing,
// spans that are not sampled, and spans that are. The last two measure natively,
// too.
var levels = []struct {
	name      string
	observers func() []observe.Observer
}{
	{"off", func() []observe.Observer { return nil }},
	{"idle", func() []observe.Observer { return []observe.Observer{past{}} }},
	{"unsampled", sampledBy(sdktrace.NeverSample())},
	{"sampled", sampledBy(sdktrace.AlwaysSample())},
}

func sampledBy(sampler sdktrace.Sampler) func() []observe.Observer {
	return func() []observe.Observer {
		return []observe.Observer{telemetry.NewOTel(telemetry.Options{
			TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler)),
			MeterProvider:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())),
		})}
	}
}

// BenchmarkGuard is one activity task in the SDK's test environment, at each level in turn:
// the median of each, and the median of what a level has taken more than the first one, in
// the same turn.
func BenchmarkGuard(b *testing.B) {
	for _, kind := range []string{"first", "duplicate"} {
		b.Run(kind, func(b *testing.B) {
			tasks := make([]func(order int), len(levels))
			for i, level := range levels {
				tasks[i] = task(b, level.observers(), kind == "duplicate")
			}
			took, more := make([][]time.Duration, len(levels)), make([][]time.Duration, len(levels))
			for n := 0; b.Loop(); n++ {
				var turn [8]time.Duration
				for i := range tasks {
					i = (i + n) % len(tasks)
					began := time.Now()
					tasks[i](n)
					turn[i] = time.Since(began)
				}
				for i := range tasks {
					took[i], more[i] = append(took[i], turn[i]), append(more[i], turn[i]-turn[0])
				}
			}
			b.ReportMetric(0, "ns/op")
			for i, level := range levels {
				b.ReportMetric(micros(took[i]), level.name+"-µs")
				b.ReportMetric(micros(more[i]), "+"+level.name+"-µs")
			}
		})
	}
}

// micros is the median.
func micros(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)/2]) / float64(time.Microsecond)
}

// BenchmarkAllocs is what a task allocates at each level.
func BenchmarkAllocs(b *testing.B) {
	for _, kind := range []string{"first", "duplicate"} {
		for _, level := range levels {
			b.Run(kind+"/"+level.name, func(b *testing.B) {
				run := task(b, level.observers(), kind == "duplicate")
				b.ReportAllocs()
				for n := 0; b.Loop(); n++ {
					run(n)
				}
			})
		}
	}
}

// task returns what executes an activity task, for an order of its own or for a duplicate.
func task(b *testing.B, observers []observe.Observer, duplicate bool) func(order int) {
	b.Helper()
	g := newGuard(b, setup{store: store.NewMemory(store.MemoryOptions{})}, observers...)
	var s testsuite.WorkflowTestSuite
	s.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	s.SetMetricsHandler(client.MetricsNopHandler)
	env := s.NewTestActivityEnvironment()
	env.SetWorkerOptions(worker.Options{Interceptors: []sdkinterceptor.WorkerInterceptor{g}})
	env.RegisterActivityWithOptions(done, sdkactivity.RegisterOptions{Name: "ChargeCard"})
	return func(order int) {
		in := charge{Order: strconv.Itoa(order)}
		if duplicate {
			in.Order = "7"
		}
		_, err := env.ExecuteActivity("ChargeCard", in)
		require.NoError(b, err)
	}
}

// BenchmarkObserver is what the guard reports of a call, and no more: a begin and
// an end.
func BenchmarkObserver(b *testing.B) {
	e := observe.Event{
		Kind: observe.KindClaim, Activity: "ChargeCard", Digest: "0123456789abcdef", Store: "memory",
		WorkflowID: orderWorkflow, RunID: "run-2", ActivityID: "4", Attempt: 1,
	}
	ended := e
	ended.Kind = observe.KindDuplicate
	ended.Record = store.Record{Info: store.Info{Trace: "00-" + originalTrace + "-" + originalSpan + "-01"}}
	for _, level := range levels[2:] {
		for kind, end := range map[string]observe.Event{"first": {Kind: observe.KindExecute, Activity: "ChargeCard"}, "duplicate": ended} {
			b.Run(kind+"/"+level.name, func(b *testing.B) {
				o := level.observers()[0]
				b.ReportAllocs()
				for b.Loop() {
					_, told := o.Begin(b.Context(), e)
					told(end)
				}
			})
		}
	}
}

// BenchmarkMeasurement is one count.
func BenchmarkMeasurement(b *testing.B) {
	x := observe.Measurement{Metric: "atmostonce.calls", Count: 1, Values: [5]string{"shop", "queue", "ChargeCard", "executed"}}
	record := telemetry.NewOTel(telemetry.Options{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))}).Recorder()
	b.ReportAllocs()
	for b.Loop() {
		record(b.Context(), x)
	}
}
