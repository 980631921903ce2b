package telemetry_test

import (
	"log/slog"
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

// BenchmarkGuard is one activity task in the SDK's test environment.
func BenchmarkGuard(b *testing.B) {
	for _, kind := range []string{"first", "duplicate"} {
		b.Run(kind, func(b *testing.B) {
			var off float64
			for _, level := range levels {
				b.Run(level.name, func(b *testing.B) {
					took := benchmarkTask(b, level.observers(), kind == "duplicate")
					if level.name == "off" {
						off = float64(took)
					}
					b.ReportMetric(float64(took)/off, "×off")
				})
			}
		})
	}
}

func benchmarkTask(b *testing.B, observers []observe.Observer, duplicate bool) time.Duration {
	b.Helper()
	g := newGuard(b, setup{store: store.NewMemory(store.MemoryOptions{})}, observers...)
	var s testsuite.WorkflowTestSuite
	s.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	s.SetMetricsHandler(client.MetricsNopHandler)
	env := s.NewTestActivityEnvironment()
	env.SetWorkerOptions(worker.Options{Interceptors: []sdkinterceptor.WorkerInterceptor{g}})
	env.RegisterActivityWithOptions(done, sdkactivity.RegisterOptions{Name: "ChargeCard"})
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		in := charge{Order: strconv.Itoa(n)}
		if duplicate {
			in.Order = "7"
		}
		_, err := env.ExecuteActivity("ChargeCard", in)
		require.NoError(b, err)
	}
	return b.Elapsed() / time.Duration(b.N)
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
