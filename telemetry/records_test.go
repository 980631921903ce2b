package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

const every = 15 * time.Second

func counting(o *interceptor.Options) { o.CountRecords = every }

// connected makes the guard a plugin of a client.
func (b *bench) connected(t *testing.T, namespace string) {
	t.Helper()
	o := client.Options{MetricsHandler: b.temporal, Namespace: namespace, Logger: b.lines}
	require.NoError(t, b.guard.ConfigureClient(t.Context(), client.PluginConfigureClientOptions{ClientOptions: &o}))
	require.NoError(t, b.guard.NewClient(t.Context(), client.PluginNewClientOptions{ClientOptions: o},
		func(context.Context, client.PluginNewClientOptions) error { return nil }))
}

// working has a worker run.
func (b *bench) working(t *testing.T, key string) {
	t.Helper()
	registry := &worker.PluginConfigureWorkerRegistryOptions{OnRegisterActivity: func(any, sdkactivity.RegisterOptions) {}}
	require.NoError(t, b.guard.ConfigureWorker(t.Context(), worker.PluginConfigureWorkerOptions{
		WorkerInstanceKey: key, TaskQueue: "queue", WorkerOptions: &worker.Options{}, WorkerRegistryOptions: registry,
	}))
	registry.OnRegisterActivity(done, sdkactivity.RegisterOptions{Name: "ChargeCard"})
	require.NoError(t, b.guard.StartWorker(t.Context(), worker.PluginStartWorkerOptions{WorkerInstanceKey: key},
		func(context.Context, worker.PluginStartWorkerOptions) error { return nil }))
	synctest.Wait()
}

func (b *bench) stopped(t *testing.T, key string) {
	t.Helper()
	b.guard.StopWorker(t.Context(), worker.PluginStopWorkerOptions{WorkerInstanceKey: key}, func(context.Context, worker.PluginStopWorkerOptions) {})
}

// gauges returns what is exported of a gauge, "namespace/activity/state" → value,
// without NaN.
func (b *bench) gauges(t *testing.T, name string) map[string]float64 {
	t.Helper()
	got := map[string]float64{}
	all := b.metric(t, name)
	if b.reader == nil && name == recordAge {
		all = b.temporal.metric(name + ".seconds")
	}
	for _, s := range all {
		if !math.IsNaN(s.sum) {
			got[s.value("namespace", "activity_type", "atmostonce.state")] = s.sum
		}
	}
	return got
}

const openRecords, recordAge = "atmostonce.records", "atmostonce.record.age"

// records are the values of the three states of ChargeCard.
func records(namespace string, running, inDoubt, pending float64) map[string]float64 {
	prefix := namespace + "/ChargeCard/"
	return map[string]float64{prefix + "running": running, prefix + "in_doubt": inDoubt, prefix + "pending": pending}
}

const testNamespace = "default-test-namespace"

// inBothSinks runs a test with native instruments, and with Temporal's handler.
func inBothSinks(t *testing.T, test func(t *testing.T, w *world)) {
	for _, throughTemporal := range []bool{false, true} {
		t.Run(fmt.Sprint("through Temporal: ", throughTemporal), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, setup{policy: perOrder, change: counting, temporal: throughTemporal}, true)
				w.connected(t, testNamespace)
				test(t, w)
				if throughTemporal {
					requireSameLabels(t, w.temporal)
				}
			})
		})
	}
}

func TestRecords_AreCountedByState(t *testing.T) {
	t.Parallel()
	inBothSinks(t, func(t *testing.T, w *world) {
		w.working(t, "worker")
		defer w.stopped(t, "worker")
		require.Equal(t, records(testNamespace, 0, 0, 0), w.gauges(t, openRecords), "before there is any record")
		o := w.claim()
		pass(every)
		synctest.Wait()
		require.Equal(t, records(testNamespace, 1, 0, 0), w.gauges(t, openRecords))
		require.Equal(t, records(testNamespace, 15, 0, 0), w.gauges(t, recordAge))
		doubted := o.doubt()
		pass(4 * every)
		synctest.Wait()
		require.Equal(t, records(testNamespace, 0, 1, 0), w.gauges(t, openRecords), "what is over is 0, not what it was")
		require.Equal(t, records(testNamespace, 0, 60, 0), w.gauges(t, recordAge))
		_, err := w.guard.Resolve(t.Context(), doubted, resolve.AsDone(secret), resolve.Decision{By: "ops", Why: "it is there"})
		require.NoError(t, err)
		pass(every)
		synctest.Wait()
		require.Equal(t, records(testNamespace, 0, 0, 0), w.gauges(t, openRecords))
		require.Equal(t, records(testNamespace, 0, 0, 0), w.gauges(t, recordAge))
	})
}

func TestRecords_OfOthersAreCountedToo(t *testing.T) {
	t.Parallel()
	inBothSinks(t, func(t *testing.T, w *world) {
		o := w.bidOf("run-1")
		o.bid.Info.Activity, o.bid.Info.Holder.Namespace = "Refund", "bank"
		r, err := o.store.Acquire(t.Context(), o.bid)
		require.NoError(t, err)
		o.bid.Fence = r.Fence
		w.working(t, "worker")
		defer w.stopped(t, "worker")
		require.InDelta(t, 1, w.gauges(t, openRecords)["bank/Refund/running"], 0)
		o.succeed()
		pass(every)
		synctest.Wait()
		require.Contains(t, w.gauges(t, openRecords), "bank/Refund/running")
		require.Zero(t, w.gauges(t, openRecords)["bank/Refund/running"])
	})
}

func TestRecords_AreCountedWhileAWorkerRuns(t *testing.T) {
	t.Parallel()
	inBothSinks(t, func(t *testing.T, w *world) {
		w.claim().doubt()
		w.working(t, "one")
		w.working(t, "two")
		w.stopped(t, "one")
		w.stopped(t, "one")
		pass(every)
		synctest.Wait()
		require.Equal(t, records(testNamespace, 0, 1, 0), w.gauges(t, openRecords))
		w.stopped(t, "two")
		require.Empty(t, w.gauges(t, openRecords), "nobody knows any more")
		before := w.counts(t, "atmostonce.store.operation.duration", "atmostonce.store.operation")
		require.EqualValues(t, 2, before["list"], "one count at a time, whatever the number of workers")
		pass(time.Hour)
		require.Equal(t, before, w.counts(t, "atmostonce.store.operation.duration", "atmostonce.store.operation"))
		w.working(t, "three")
		require.Equal(t, records(testNamespace, 0, 1, 0), w.gauges(t, openRecords))
		w.stopped(t, "three")
	})
}

func TestRecords_AreNotCountedUnlessAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, setup{policy: perOrder}, true)
		w.connected(t, testNamespace)
		w.working(t, "worker")
		pass(time.Hour)
		w.stopped(t, "worker")
		require.Empty(t, w.metric(t, openRecords))
	})
}

// A worker that could not start runs nothing, and nobody stops it.
func TestRecords_AreNotCountedForAWorkerThatDidNotStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, setup{policy: perOrder, change: counting}, true)
		require.NoError(t, w.guard.ConfigureWorker(t.Context(), worker.PluginConfigureWorkerOptions{
			WorkerInstanceKey: "worker", WorkerOptions: &worker.Options{}, WorkerRegistryOptions: &worker.PluginConfigureWorkerRegistryOptions{},
		}))
		require.Error(t, w.guard.StartWorker(t.Context(), worker.PluginStartWorkerOptions{WorkerInstanceKey: "worker"},
			func(context.Context, worker.PluginStartWorkerOptions) error { return errors.New("no server") }))
		synctest.Wait()
		require.Empty(t, w.counts(t, "atmostonce.store.operation.duration", "atmostonce.store.operation"))
	})
}

func TestRecords_GoToTheHandlerOfEachClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, setup{policy: perOrder, change: counting, temporal: true}, true)
		first := w.temporal
		w.connected(t, testNamespace)
		w.temporal = newHandler()
		w.connected(t, "bank")
		w.claim()
		w.working(t, "worker")
		defer w.stopped(t, "worker")
		for _, h := range []*handler{first, w.temporal} {
			require.InDelta(t, 1, (&bench{temporal: h}).gauges(t, openRecords)[testNamespace+"/ChargeCard/running"], 0)
		}
	})
}

// A guard that is no plugin of a client learns of its metrics handler and of the
// namespace from a call.
func TestRecords_OfAWorkersPlugin(t *testing.T) {
	t.Parallel()
	for _, throughTemporal := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, setup{policy: perOrder, change: counting, temporal: throughTemporal}, true)
			w.working(t, "worker")
			defer w.stopped(t, "worker")
			require.Empty(t, w.gauges(t, openRecords))
			w.observe(path{}, surrounding)
			pass(every)
			synctest.Wait()
			require.Equal(t, records(testNamespace, 0, 0, 0), w.gauges(t, openRecords))
		})
	}
}

// listed is a store whose listing does what a test sets.
type listed struct {
	store.Store
	list  atomic.Pointer[func(ctx context.Context) error]
	asked atomic.Int32
}

func (l *listed) does(f func(ctx context.Context) error) { l.list.Store(&f) }

func (l *listed) List(ctx context.Context, q store.Query) iter.Seq2[store.Record, error] {
	l.asked.Add(1)
	return func(yield func(store.Record, error) bool) {
		if f := l.list.Load(); f != nil {
			if err := (*f)(ctx); err != nil && !yield(store.Record{}, err) {
				return
			}
		}
		for r, err := range l.Store.List(ctx, q) {
			if !yield(r, err) {
				return
			}
		}
	}
}

// failingList runs a test on a store whose listing may fail.
func failingList(t *testing.T, test func(t *testing.T, w *world, l *listed)) {
	inBothSinks(t, func(t *testing.T, w *world) {
		l := &listed{Store: w.store.Memory}
		quiet := w.bench
		w.bench = newBench(t, setup{policy: perOrder, change: counting, temporal: quiet.reader == nil, store: l})
		w.connected(t, testNamespace)
		w.claim().doubt()
		w.working(t, "worker")
		defer w.stopped(t, "worker")
		require.Equal(t, records(testNamespace, 0, 1, 0), w.gauges(t, openRecords))
		test(t, w, l)
	})
}

func TestRecords_AreNotKnownWhileTheStoreFails(t *testing.T) {
	t.Parallel()
	failingList(t, func(t *testing.T, w *world, l *listed) {
		l.does(func(context.Context) error { return errors.New("no route") })
		pass(time.Hour)
		synctest.Wait()
		require.Empty(t, w.gauges(t, openRecords), "what was known an hour ago is not known now")
		require.Empty(t, w.gauges(t, recordAge))
		require.EqualValues(t, 240, w.counts(t, "atmostonce.store.operation.duration", "atmostonce.store.operation", "error.type")["list/unavailable"])
		require.Len(t, w.lines.containing("WARN"), 1, "when it begins")
		require.Contains(t, w.lines.containing("WARN")[0], "no route; and 2 more")
		l.does(func(context.Context) error { return nil })
		pass(every)
		synctest.Wait()
		require.Equal(t, records(testNamespace, 0, 1, 0), w.gauges(t, openRecords))
		require.Len(t, w.lines.containing("counted again"), 1)
		require.Len(t, w.lines.containing("WARN"), 1)
	})
}

func TestRecords_ThatCannotBeReadHideNoOthers(t *testing.T) {
	t.Parallel()
	failingList(t, func(t *testing.T, w *world, l *listed) {
		l.does(func(context.Context) error { return fmt.Errorf("one: %w", store.ErrCorrupt) })
		pass(every)
		synctest.Wait()
		require.Equal(t, records(testNamespace, 0, 1, 0), w.gauges(t, openRecords))
		require.Len(t, w.lines.containing("cannot be read are not counted"), 1)
		failures := []error{store.ErrCorrupt, errors.New("no route"), store.ErrVersion}
		l.does(func(context.Context) (err error) {
			err, failures = failures[0], failures[1:]
			return err
		})
		pass(every)
		synctest.Wait()
		require.Empty(t, w.gauges(t, openRecords), "the rest was not counted, either")
	})
}

func TestRecords_OfAStoreThatHangsOrPanics(t *testing.T) { // alone: it counts goroutines
	failingList(t, func(t *testing.T, w *world, l *listed) {
		free := make(chan struct{})
		l.does(func(context.Context) error { <-free; return nil }) // it ignores its context
		asked, goroutines := l.asked.Load(), runtime.NumGoroutine()
		pass(time.Hour)
		synctest.Wait()
		require.Equal(t, asked+1, l.asked.Load(), "another count is not begun beside the one that hangs")
		require.LessOrEqual(t, runtime.NumGoroutine(), goroutines+20)
		require.Empty(t, w.gauges(t, openRecords))
		require.Greater(t, w.counts(t, "atmostonce.store.operation.duration", "atmostonce.store.operation", "error.type")["list/timeout"], int64(100))
		require.Len(t, w.lines.containing("WARN"), 1)
		l.does(func(context.Context) error { return nil })
		close(free)
		pass(2 * every)
		synctest.Wait()
		require.Equal(t, records(testNamespace, 0, 1, 0), w.gauges(t, openRecords))
		l.does(func(context.Context) error { panic("list") })
		pass(every)
		synctest.Wait()
		require.Empty(t, w.gauges(t, openRecords))
	})
}

// The count of a worker that has stopped may not be back yet when another one starts.
func TestRecords_OfAWorkerThatStartsAtOnce(t *testing.T) {
	t.Parallel()
	failingList(t, func(t *testing.T, w *world, l *listed) {
		l.does(func(ctx context.Context) error { pass(time.Second); return ctx.Err() })
		pass(every)
		synctest.Wait()
		w.stopped(t, "worker")
		w.working(t, "next")
		defer w.stopped(t, "next")
		require.Empty(t, w.gauges(t, openRecords))
		pass(10 * time.Second)
		synctest.Wait()
		require.Equal(t, records(testNamespace, 0, 1, 0), w.gauges(t, openRecords))
		require.Empty(t, w.lines.containing("WARN"), "nothing failed")
		require.Zero(t, w.counts(t, "atmostonce.store.operation.duration", "atmostonce.store.operation", "error.type")["list/timeout"])
	})
}
