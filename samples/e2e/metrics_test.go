package e2e

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"
	"go.temporal.io/sdk/converter"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/telemetry"
)

const (
	callsTotal    = "atmostonce_calls_total"
	noticesTotal  = "atmostonce_notices_total"
	waitDuration  = "atmostonce_wait_duration_seconds"
	storeDuration = "atmostonce_store_operation_duration_seconds"
)

// exposition is what Prometheus would scrape of a process.
type exposition struct {
	registry *prometheus.Registry
	provider *sdkmetric.MeterProvider
}

func newExposition(t *testing.T) *exposition {
	t.Helper()
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
	require.NoError(t, err)
	return &exposition{registry, sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))}
}

// handler returns one for Temporal's client.
func (e *exposition) handler() client.MetricsHandler {
	return opentelemetry.NewMetricsHandler(opentelemetry.MetricsHandlerOptions{Meter: e.provider.Meter("temporal-sdk-go"), UseMonotonicCounters: true})
}

type series struct {
	labels map[string]string
	count  float64 // of a histogram, how many values it has
}

// scrape returns all series by metric.
func (e *exposition) scrape(t *testing.T) map[string][]series {
	t.Helper()
	families, err := e.registry.Gather()
	require.NoError(t, err)
	all := map[string][]series{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			one := series{labels: map[string]string{}, count: m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())}
			for _, label := range m.GetLabel() {
				one.labels[label.GetName()] = label.GetValue()
			}
			all[family.GetName()] = append(all[family.GetName()], one)
		}
	}
	return all
}

// labels returns the sets of labels, each once.
func labels(all []series) (sets []map[string]string) {
	for _, s := range all {
		sets = append(sets, s.labels)
	}
	return sets
}

// counted returns what the series have counted, by the values of two labels,
// without those at 0.
func counted(all []series, first, second string) map[[2]string]float64 {
	sums := map[[2]string]float64{}
	for _, s := range all {
		if s.count != 0 {
			sums[[2]string{s.labels[first], s.labels[second]}] += s.count
		}
	}
	return sums
}

func callsOf(scraped map[string][]series) map[[2]string]float64 {
	return counted(scraped[callsTotal], "atmostonce_outcome", "error_type")
}

func noticesOf(scraped map[string][]series) map[[2]string]float64 {
	return counted(scraped[noticesTotal], "atmostonce_notice", "error_type")
}

func operationsOf(scraped map[string][]series) map[[2]string]float64 {
	return counted(scraped[storeDuration], "atmostonce_store_operation", "error_type")
}

// requireTemporalLabels asserts that the series have the labels of the SDK's own
// metrics of activities, and these besides.
func requireTemporalLabels(t *testing.T, scraped map[string][]series, metric string, more ...string) {
	t.Helper()
	sdk := scraped["temporal_activity_execution_latency_seconds"]
	require.NotEmpty(t, sdk)
	require.NotEmpty(t, scraped[metric])
	want := slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(sdk[0].labels)), more...)))
	for _, s := range scraped[metric] {
		require.Equal(t, want, slices.Sorted(maps.Keys(s.labels)), metric)
	}
}

// harmless are the notices that no alert is about.
var harmless = map[observe.Notice]bool{
	observe.RenewFailed: true, observe.SettleDelayed: true, observe.Reconciled: true, observe.Overruled: true,
	observe.NoHeader: true, observe.OneAttempt: true, observe.PolicyDefeated: true, observe.Resolved: true, observe.Erased: true, observe.Observed: true,
}

// requireKnown asserts that alerts on the marked activity, and on no other, have
// their series before anything has happened.
func (s *scene) requireKnown(scraped map[string][]series) {
	s.t.Helper()
	known := map[string]map[[2]string]bool{callsTotal: {}, noticesTotal: {}}
	for metric, first := range map[string]string{callsTotal: "atmostonce_outcome", noticesTotal: "atmostonce_notice"} {
		for _, one := range scraped[metric] {
			require.Equal(s.t, []string{client.DefaultNamespace, s.name, "Charge"},
				[]string{one.labels["namespace"], one.labels["task_queue"], one.labels["activity_type"]})
			known[metric][[2]string{one.labels[first], strings.TrimPrefix(one.labels["error_type"], "none")}] = true
		}
	}
	for _, m := range observe.Metrics() {
		switch m.Name {
		case "atmostonce.calls":
			for _, outcome := range m.Labels[3].Values {
				require.Contains(s.t, known[callsTotal], [2]string{outcome, ""})
			}
		case "atmostonce.notices":
			for _, notice := range m.Labels[3].Values {
				if !harmless[observe.Notice(notice)] {
					require.Contains(s.t, known[noticesTotal], [2]string{notice, ""})
				}
			}
		}
	}
	for _, reason := range []string{"in_doubt", "outcome_not_kept", "bad_key", "bad_record", "bad_setup", "store_down"} {
		require.Contains(s.t, known[callsTotal], [2]string{"failed", reason})
	}
	require.Contains(s.t, known[callsTotal], [2]string{"executed", "in_doubt"})
}

// oneCall has a call executed.
func (s *scene) oneCall() {
	s.t.Helper()
	s.served(s.start("first", "one", call{}))
}

// twoMore has a call replayed and one refused.
func (s *scene) twoMore() {
	s.t.Helper()
	s.served(s.start("second", "one", call{}))
	require.Equal(s.t, once.Mismatch, s.verdict(s.start("third", "one", call{Input: charge{Order: "order-1", Cents: 99}})).Why.Reason)
	s.count(1, charged)
}

// requireThreeCalls asserts what they come to, and that they gave birth to no series.
func requireThreeCalls(t *testing.T, before, after map[string][]series) {
	t.Helper()
	require.Equal(t, map[[2]string]float64{{"executed", "none"}: 1, {"duplicate", "none"}: 1, {"failed", "mismatch"}: 1}, callsOf(after))
	require.Empty(t, noticesOf(after))
	// A slow body has its lease renewed besides.
	require.Subset(t, operationsOf(after), map[[2]string]float64{{"acquire", "none"}: 3, {"settle", "none"}: 1})
	requireTemporalLabels(t, after, callsTotal, "atmostonce_outcome", "error_type")
	requireTemporalLabels(t, after, noticesTotal, "atmostonce_notice", "error_type")
	requireTemporalLabels(t, after, storeDuration, "atmostonce_store_type", "atmostonce_store_operation", "error_type")
	for _, metric := range []string{callsTotal, noticesTotal} {
		require.ElementsMatch(t, labels(before[metric]), labels(after[metric]))
	}
	for _, metric := range []string{callsTotal, noticesTotal, storeDuration} {
		for _, one := range after[metric] {
			require.Equal(t, "none", one.labels["workflow_type"])
		}
	}
	for _, one := range after[storeDuration] {
		require.Equal(t, []string{client.DefaultNamespace, "none", "none", "memory"},
			[]string{one.labels["namespace"], one.labels["task_queue"], one.labels["activity_type"], one.labels["atmostonce_store_type"]})
	}
}

func TestMetrics_OfAPluginOfTheClientAreKnownFromTheStart(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	scraped := newExposition(t)
	s.options.MetricsHandler = scraped.handler()
	s.workWith(s.guard(once.Mark(perOrder, "Charge")...), worker.Options{}, func(r worker.Registry) {
		register(r, s.charge)
		r.RegisterActivityWithOptions(nothing, sdkactivity.RegisterOptions{Name: "Unmarked"})
	})
	before := scraped.scrape(t)
	s.requireKnown(before)
	require.Empty(t, callsOf(before))
	require.Empty(t, noticesOf(before))

	s.oneCall()
	s.twoMore()
	s.verdict(s.start("unmarked", "one", call{Activity: "Unmarked"}))
	requireThreeCalls(t, before, scraped.scrape(t))
}

// It learns the metrics handler from a call.
func TestMetrics_OfAWorkersGuardAreKnownFromItsFirstCall(t *testing.T) {
	t.Parallel()
	for name, install := range map[string]func(*interceptor.Guard) worker.Options{
		"plugin": func(g *interceptor.Guard) worker.Options { return worker.Options{Plugins: []worker.Plugin{g}} },
		"interceptor": func(g *interceptor.Guard) worker.Options {
			return worker.Options{Interceptors: []sdkinterceptor.WorkerInterceptor{g}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, client.Options{})
			o := guardOptions(once.Mark(perOrder, "Charge"), s.events)
			o.DataConverter = converter.GetDefaultDataConverter()
			guard, err := interceptor.New(s.store, o)
			require.NoError(t, err)
			scraped := newExposition(t)
			s.options.MetricsHandler = scraped.handler()
			onWorker := install(guard)
			onWorker.DisableWorkflowWorker = true
			w := worker.New(s.dial(), s.name, onWorker)
			register(w, s.charge)
			require.NoError(t, w.Start())
			t.Cleanup(w.Stop)
			require.NotContains(t, scraped.scrape(t), callsTotal)

			s.oneCall()
			before := scraped.scrape(t)
			s.requireKnown(before)
			s.twoMore()
			requireThreeCalls(t, before, scraped.scrape(t))
		})
	}
}

func TestMetrics_OfAMeterProviderAreNotTemporals(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	scraped, native := newExposition(t), newExposition(t)
	s.options.MetricsHandler = scraped.handler()
	s.workWith(s.observed(perOrder, telemetry.NewOTel(telemetry.Options{MeterProvider: native.provider})), worker.Options{},
		func(r worker.Registry) { register(r, s.charge) })
	before := native.scrape(t)
	s.requireKnown(before)
	s.oneCall()
	s.twoMore()
	after := native.scrape(t)
	require.Equal(t, map[[2]string]float64{{"executed", ""}: 1, {"duplicate", ""}: 1, {"failed", "mismatch"}: 1}, callsOf(after))
	require.Subset(t, operationsOf(after), map[[2]string]float64{{"acquire", ""}: 3, {"settle", ""}: 1})
	require.ElementsMatch(t, labels(before[callsTotal]), labels(after[callsTotal]))
	temporals := scraped.scrape(t)
	require.Contains(t, temporals, "temporal_activity_execution_latency_seconds")
	for metric := range temporals {
		require.NotContains(t, metric, "atmostonce")
	}
}

func TestMetrics_EachClientHasItsOwn(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	guard := s.guard(once.Mark(perOrder, "Charge")...)
	expositions, clients := []*exposition{newExposition(t), newExposition(t)}, []client.Client{}
	for _, scraped := range expositions {
		s.options.MetricsHandler = scraped.handler()
		clients = append(clients, s.dial(guard))
	}
	for i, want := range []string{"executed", "duplicate"} {
		w := worker.New(clients[i], s.name, worker.Options{DisableWorkflowWorker: true})
		register(w, s.charge)
		require.NoError(t, w.Start())
		s.served(s.start(want, "one", call{}))
		w.Stop()
	}
	for i, want := range []string{"executed", "duplicate"} {
		scraped := expositions[i].scrape(t)
		s.requireKnown(scraped)
		require.Equal(t, map[[2]string]float64{{want, "none"}: 1}, callsOf(scraped))
	}
}

func TestMetrics_OfAWait(t *testing.T) {
	t.Parallel()
	finish := make(chan struct{})
	s, owner := owned(t, waits(once.Hold), finish)
	scraped := newExposition(t)
	s.options.MetricsHandler = scraped.handler()
	s.work(waits(once.Hold), s.charge)
	waiter := s.start("waiter", "one", call{})
	s.waited(waiter, 1, 0)
	s.eventually(func() bool { return len(scraped.scrape(t)[storeDuration]) > 0 }, "the waiter has asked for the key")
	close(finish)
	s.served(owner)
	s.served(waiter)
	got := scraped.scrape(t)
	require.Equal(t, map[[2]string]float64{{"completed", "Charge"}: 1}, counted(got[waitDuration], "atmostonce_wait_result", "activity_type"))
	requireTemporalLabels(t, got, waitDuration, "atmostonce_wait_result")
}
