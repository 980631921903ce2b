package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/telemetry"
)

func TestMetrics_CountEachCallOnce(t *testing.T) {
	t.Parallel()
	for _, throughTemporal := range []bool{false, true} {
		b := newBench(t, setup{policy: once.Policy{OnDuplicate: once.Reject}, temporal: throughTemporal})
		require.NoError(t, b.call(done, charge{Order: "7"}))
		require.Error(t, b.call(done, charge{Order: "7"}))
		require.Error(t, b.call(failing(errors.New("no funds")), charge{Order: "8"}))
		require.Error(t, b.call(failing(once.MaybeDone(errors.New("no answer"))), charge{Order: "9"}))
		require.Equal(t, map[string]int64{"executed/": 2, "executed/in_doubt": 1, "failed/duplicate": 1},
			b.counts(t, "atmostonce.calls", "atmostonce.outcome", "error.type"))
	}
}

func TestMetrics_AreAsDescribed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, setup{policy: waiting, change: counting}, true)
		ending(succeeding)(w)
		w.working(t, "worker")
		defer w.stopped(t, "worker")
		w.observe(path{}, surrounding)
		w.beside.Wait()
		kinds := map[string]string{}
		for _, d := range observe.Metrics() {
			m := w.collected(t, d.Name)
			require.NotEmpty(t, m.Name, d.Name)
			require.Equal(t, d.Description, m.Description)
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				kinds[m.Name] = "counter " + m.Unit
			case metricdata.Histogram[float64]:
				kinds[m.Name] = fmt.Sprintln("histogram", m.Unit, data.DataPoints[0].Bounds)
			case metricdata.Gauge[float64]:
				kinds[m.Name] = "gauge " + m.Unit
			}
		}
		require.Equal(t, map[string]string{
			"atmostonce.calls":                    "counter {call}",
			"atmostonce.notices":                  "counter {notice}",
			"atmostonce.wait.duration":            "histogram s [0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 30 60 120 300]\n",
			"atmostonce.store.operation.duration": "histogram s [0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5]\n",
			"atmostonce.records":                  "gauge {record}",
			"atmostonce.record.age":               "gauge s",
		}, kinds)
	})
}

// allPaths are those of every table.
func allPaths() []path {
	return slices.Concat(freePaths, settledPaths, heldPaths, brokenPaths, modePaths, waitPaths, undecidedPaths, decidedPaths, bodyPaths, supersededPaths)
}

func TestMetrics_AreTheSameInBothSinks(t *testing.T) {
	t.Parallel()
	for _, p := range allPaths() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			var both [2]map[string]map[string]int64
			for i, throughTemporal := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) { both[i] = measuredOn(t, p, throughTemporal) })
			}
			require.Equal(t, both[0], both[1])
		})
	}
}

// measuredOn returns all that a path adds to a sink: metric → labels → count.
func measuredOn(t *testing.T, p path, throughTemporal bool) map[string]map[string]int64 {
	t.Helper()
	w := newWorld(t, setup{policy: p.policy, change: p.change, temporal: throughTemporal}, true)
	if p.before != nil {
		p.before(w)
	}
	w.observe(p, surrounding)
	w.beside.Wait()
	all := map[string]map[string]int64{}
	for _, d := range observe.Metrics() {
		all[d.Name] = map[string]int64{"series": 0}
		for _, s := range w.metric(t, d.Name) {
			if d.Name == "atmostonce.store.operation.duration" {
				// A wait asks as often as chance will have it, and the worker's stop
				// may cut a renewal off.
				s.count = 1
				if s.labels["atmostonce.store.operation"] == "renew" {
					continue
				}
			}
			if s.count != 0 {
				all[d.Name][fmt.Sprint(s.labels)] = s.count
			}
			if d.Kind == observe.Counter {
				all[d.Name]["series"]++
			}
		}
	}
	if throughTemporal {
		requireSameLabels(t, w.temporal)
	}
	return all
}

// requireSameLabels requires of each metric that all its series have the same
// labels, and a value for each: a Prometheus registry refuses what has not.
func requireSameLabels(t *testing.T, h *handler) {
	t.Helper()
	labels := map[string][]string{}
	for _, v := range h.named("atmostonce") {
		names := slices.Sorted(maps.Keys(v.tags))
		if labels[v.name] == nil {
			labels[v.name] = names
		}
		require.Equal(t, labels[v.name], names, v.name)
		require.NotContains(t, slices.Collect(maps.Values(v.tags)), "", "%s %v", v.name, v.tags)
		require.Subset(t, names, []string{"namespace", "client_name", "worker_type", "workflow_type", "activity_type", "task_queue"}, "as the SDK's own have")
	}
}

func TestMetrics_TimeWaits(t *testing.T) {
	t.Parallel()
	for _, throughTemporal := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, setup{policy: waiting, temporal: throughTemporal}, true)
			owned(func(_ *world, o owner) { pass(29 * time.Second); o.doubt() })(w)
			w.observe(path{}, surrounding)
			w.beside.Wait()
			waits := w.metric(t, "atmostonce.wait.duration")
			require.Len(t, waits, 1)
			require.Equal(t, map[string]string{
				"namespace": "default-test-namespace", "task_queue": "default-test-taskqueue", "activity_type": "ChargeCard", "atmostonce.wait.result": "owner_lost",
			}, waits[0].labels)
			require.InDelta(t, 31, waits[0].sum, 1, "at the latest after one more poll")
		})
	}
}

// The errors of the store, and what the metrics call them.
var storeFailures = map[string]error{
	"corrupt": store.ErrCorrupt, "version": store.ErrVersion, "full": store.ErrFull, "invalid": store.ErrInvalid,
	"unreplicated": store.ErrUnreplicated, "quarantine": store.ErrQuarantine,
	"timeout": context.DeadlineExceeded, "unavailable": errors.New("no route"),
	"": store.ErrSuperseded,
}

func TestMetrics_TimeTheStore(t *testing.T) {
	t.Parallel()
	for errorType, err := range storeFailures {
		for _, throughTemporal := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, setup{temporal: throughTemporal}, true)
				first := true
				w.store.before(func(verb string) error {
					pass(time.Second)
					if verb == "acquire" && first {
						first = false
						return fmt.Errorf("node 7: %w", err)
					}
					return nil
				})
				w.observe(path{}, surrounding)
				for _, s := range w.metric(t, "atmostonce.store.operation.duration") {
					require.InDelta(t, s.count, s.sum, 0, "each takes a second")
					require.Equal(t, "memory/default-test-namespace", s.value("atmostonce.store.type", "namespace"))
				}
				require.EqualValues(t, 1, w.counts(t, "atmostonce.store.operation.duration", "atmostonce.store.operation", "error.type")["acquire/"+errorType])
			})
		}
	}
}

func TestMetrics_DoNotTimeWhatTheCallerGaveUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, setup{}, true)
		down("acquire", context.Canceled)(w)
		w.observe(path{}, surrounding)
		require.NotContains(t, w.counts(t, "atmostonce.store.operation.duration", "atmostonce.store.operation"), "acquire")
	})
}

func TestMetrics_AnswersOfTheProtocolAreNoErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, name := range []string{"forgotten, renewed", "success beside another run's", "takeover, the owner was faster", "resolved while it runs"} {
			p := allPaths()[slices.IndexFunc(allPaths(), func(p path) bool { return p.name == name })]
			w := newWorld(t, setup{policy: p.policy}, true)
			if p.before != nil {
				p.before(w)
			}
			w.observe(p, surrounding)
			for label := range w.counts(t, "atmostonce.store.operation.duration", "atmostonce.store.operation", "error.type") {
				require.True(t, strings.HasSuffix(label, "/"), "%s: %s", name, label)
			}
		}
	})
}

func TestMetrics_NameEveryVerbOfTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, setup{policy: under(once.Rerun)}, true)
		for _, p := range []path{
			{body: func(context.Context, charge) (any, error) { pass(lease / 2); return nil, once.MaybeDone(errSecret) }},
			{body: returning(errSecret)},
		} {
			w.observe(p, surrounding)
			pass(settleDelay)
		}
		r, err := w.store.Load(t.Context(), w.key)
		require.NoError(t, err)
		_, err = w.guard.Resolve(t.Context(), r, resolve.AsNotDone(), resolve.Decision{By: "ann", Why: "it is gone"})
		require.NoError(t, err)
		close(w.stop)
		w.observe(path{}, surrounding)
		require.Equal(t, map[string]int64{"acquire": 2, "renew": 1, "settle": 1, "takeover": 1, "release": 1, "resolve": 1, "load": 2},
			w.counts(t, "atmostonce.store.operation.duration", "atmostonce.store.operation"))
	})
}

func TestMetrics_NameTheKindOfTheStore(t *testing.T) {
	t.Parallel()
	files, err := store.NewFile(filepath.Join(t.TempDir(), "store"), store.FileOptions{})
	require.NoError(t, err)
	for kind, s := range map[string]store.Store{"memory": store.NewMemory(store.MemoryOptions{}), "file": files} {
		b := newBench(t, setup{store: s})
		require.NoError(t, b.call(done, charge{Order: "7"}))
		require.Contains(t, b.counts(t, "atmostonce.store.operation.duration", "atmostonce.store.type"), kind)
		require.Equal(t, kind, attributes(b.span(t, "atmostonce.execute ChargeCard"))["atmostonce.store.type"])
	}
}

func TestMetrics_OutsideAnActivityDoNotPanic(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{})
	require.NotPanics(t, func() {
		record := telemetry.NewOTel(telemetry.Options{MeterProvider: b.meters}).Recorder()
		record(context.Background(), observe.Measurement{Metric: "atmostonce.calls", Count: 1})
		record(context.Background(), observe.Measurement{Metric: "of a later version", Count: 1})
	})
	require.Nil(t, telemetry.NewOTel(telemetry.Options{}).Recorder())
	require.Equal(t, map[string]int64{"": 1}, b.counts(t, "atmostonce.calls", "atmostonce.outcome"))
}
