package telemetry_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/telemetry"
)

// client returns one that has the guard as its plugin, and no server.
func (b *bench) client(t *testing.T, namespace string) client.Client {
	t.Helper()
	c, err := client.NewLazyClient(client.Options{
		HostPort: "127.0.0.1:1", Namespace: namespace, Logger: b.lines, MetricsHandler: b.temporal, Plugins: []client.Plugin{b.guard},
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// start starts a worker, which ends at once.
func start(t *testing.T, c client.Client) {
	t.Helper()
	w := worker.New(c, "queue", worker.Options{})
	w.RegisterActivityWithOptions(done, sdkactivity.RegisterOptions{Name: "ChargeCard"})
	w.RegisterActivityWithOptions(done, sdkactivity.RegisterOptions{Name: "Unmarked"})
	require.Error(t, w.Start())
}

func TestSeries_AreThereWhenTheWorkerStarts(t *testing.T) {
	t.Parallel()
	for _, throughTemporal := range []bool{false, true} {
		b := newBench(t, setup{temporal: throughTemporal})
		start(t, b.client(t, "shop"))
		for name, n := range map[string]int{"atmostonce.calls": preparedCalls, "atmostonce.notices": preparedNotices} {
			all := b.metric(t, name)
			require.Len(t, all, n)
			for _, s := range all {
				require.Zero(t, s.count)
				require.Equal(t, "shop/queue/ChargeCard", s.value("namespace", "task_queue", "activity_type"))
			}
		}
		requireSameLabels(t, b.temporal)
	}
}

func TestSeries_OfSeveralNamespacesAreNotGuessedAt(t *testing.T) {
	t.Parallel()
	for _, throughTemporal := range []bool{false, true} {
		b := newBench(t, setup{temporal: throughTemporal})
		shop, bank := b.client(t, "shop"), b.client(t, "bank")
		start(t, shop)
		start(t, bank)
		require.Empty(t, b.metric(t, "atmostonce.calls"), "whose worker an activity belongs to shows at its first call")
	}
}

// A guard that is no plugin of a client learns of its namespace and its metrics
// from the first call.
func TestSeries_AreThereBeforeTheFirstCallCounts(t *testing.T) {
	t.Parallel()
	for _, throughTemporal := range []bool{false, true} {
		b := newBench(t, setup{temporal: throughTemporal})
		require.NoError(t, b.call(func(context.Context, charge) error {
			require.Empty(t, b.counts(t, "atmostonce.calls"))
			require.Len(t, b.metric(t, "atmostonce.calls"), preparedCalls)
			require.Len(t, b.metric(t, "atmostonce.notices"), preparedNotices)
			return nil
		}, charge{Order: "7"}))
	}
}

// throughClient returns an environment whose calls come through a client that
// has the guard as its plugin.
func throughClient(t *testing.T, g *interceptor.Guard, h *handler) *testsuite.TestActivityEnvironment {
	t.Helper()
	o := client.Options{MetricsHandler: h}
	require.NoError(t, g.ConfigureClient(t.Context(), client.PluginConfigureClientOptions{ClientOptions: &o}))
	require.NoError(t, g.NewClient(t.Context(), client.PluginNewClientOptions{ClientOptions: o},
		func(context.Context, client.PluginNewClientOptions) error { return nil }))
	b := &bench{guard: g, temporal: newHandler(), lines: &lines{}} // the environment's own handler is not asked
	env := b.environment(done)
	env.SetContextPropagators(o.ContextPropagators)
	t.Cleanup(func() { require.Empty(t, b.temporal.named("atmostonce")) })
	return env
}

func TestSeries_AreOpenedOnce(t *testing.T) {
	t.Parallel()
	h := newHandler()
	env := throughClient(t, newBench(t, setup{temporal: true}).guard, h)
	opened := 0
	for n := range 3 {
		_, err := env.ExecuteActivity("ChargeCard", charge{Order: "7"})
		require.NoError(t, err)
		if n == 1 {
			opened = h.opened
		}
	}
	require.Equal(t, opened, h.opened, "a series is looked up under its tags once")
	require.Equal(t, map[string]int64{"executed/": 1, "duplicate/": 2}, (&bench{temporal: h}).counts(t, "atmostonce.calls", "atmostonce.outcome", "error.type"))
}

func TestSeries_OfSeveralClientsAreKeptApart(t *testing.T) {
	t.Parallel()
	g := newBench(t, setup{temporal: true}).guard
	handlers := [2]*handler{newHandler(), newHandler()}
	var envs [2]*testsuite.TestActivityEnvironment
	for i, h := range handlers {
		envs[i] = throughClient(t, g, h)
	}
	for i, h := range handlers {
		require.Empty(t, h.named("atmostonce_calls"), "whose client an activity belongs to shows at its first call")
		for range i + 1 {
			_, err := envs[i].ExecuteActivity("ChargeCard", charge{Order: "7"})
			require.NoError(t, err)
		}
		got := (&bench{temporal: h}).counts(t, "atmostonce.calls", "activity_type")
		require.Equal(t, map[string]int64{"ChargeCard": int64(i + 1)}, got)
		require.Len(t, h.metric("atmostonce.calls"), preparedCalls)
	}
}

func TestSeries_NobodyListensTo(t *testing.T) {
	t.Parallel()
	g := newBench(t, setup{temporal: true}).guard
	o := client.Options{MetricsHandler: client.MetricsNopHandler}
	require.NoError(t, g.ConfigureClient(t.Context(), client.PluginConfigureClientOptions{ClientOptions: &o}))
	require.NoError(t, g.NewClient(t.Context(), client.PluginNewClientOptions{ClientOptions: o},
		func(context.Context, client.PluginNewClientOptions) error { return nil }))
	require.NoError(t, (&bench{guard: g, temporal: newHandler(), lines: &lines{}}).call(done, charge{Order: "7"}))
}

// Not parallel, for it counts allocations.
func TestSeries_MakeTheirAttributesOnce(t *testing.T) {
	b := newBench(t, setup{})
	record := telemetry.NewOTel(telemetry.Options{MeterProvider: b.meters}).Recorder()
	for _, x := range []observe.Measurement{
		{Metric: "atmostonce.calls", Count: 1, Values: [5]string{"shop", "queue", "ChargeCard", "executed"}},
		{Metric: "atmostonce.wait.duration", Duration: 1, Values: [5]string{"shop", "queue", "ChargeCard", "completed"}},
	} {
		allocations := testing.AllocsPerRun(100, func() { record(t.Context(), x) })
		require.LessOrEqual(t, allocations, 1.0, "a set of attributes takes many")
	}
}

// refusing is a meter provider that makes no instrument.
type refusing struct{ noop.MeterProvider }

func (refusing) Meter(string, ...metric.MeterOption) metric.Meter { return refusingMeter{} }

type refusingMeter struct{ noop.Meter }

func (refusingMeter) Int64Counter(string, ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return nil, errSecret
}

func (refusingMeter) Float64Histogram(string, ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	return nil, errSecret
}

func (refusingMeter) Float64ObservableGauge(string, ...metric.Float64ObservableGaugeOption) (metric.Float64ObservableGauge, error) {
	return nil, errSecret
}

func TestSeries_OfAnInstrumentThatCannotBeMade(t *testing.T) {
	var handled []error
	before := otel.GetErrorHandler()
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { handled = append(handled, err) }))
	t.Cleanup(func() { otel.SetErrorHandler(before) })
	g := newGuard(t, setup{store: store.NewMemory(store.MemoryOptions{}), policy: once.Policy{}},
		telemetry.NewOTel(telemetry.Options{MeterProvider: refusing{}}))
	require.NoError(t, (&bench{guard: g, temporal: newHandler(), lines: &lines{}}).call(done, charge{Order: "7"}))
	require.Len(t, handled, 6)
}
