package interceptor_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

// stopper stops the worker that it is a plugin of as the SDK does.
type stopper struct {
	worker.PluginBase
	guard   *interceptor.Guard
	key     string
	options *worker.Options
}

func (s *stopper) Name() string { return "stopper" }

func (s *stopper) ConfigureWorker(_ context.Context, o worker.PluginConfigureWorkerOptions) error {
	s.key, s.options = o.WorkerInstanceKey, o.WorkerOptions
	return nil
}

// stop returns how long the guard held up the SDK's own stop, and then the end
// of the worker's.
func (s *stopper) stop(sdk func()) (before, after time.Duration) {
	began := time.Now()
	var ended time.Time
	s.guard.StopWorker(context.Background(), worker.PluginStopWorkerOptions{WorkerInstanceKey: s.key},
		func(context.Context, worker.PluginStopWorkerOptions) {
			before = time.Since(began)
			sdk()
			ended = time.Now()
		})
	return before, time.Since(ended)
}

// stopping runs a body on a worker with these options, and returns once it has
// begun. what waits for the call's answer.
func stopping(t *testing.T, s store.Store, o interceptor.Options, wo worker.Options, body func(ctx context.Context) error) (st *stopper, answered func() error) {
	t.Helper()
	g := newGuard(t, s, o)
	st = &stopper{guard: g}
	wo.Plugins = []worker.Plugin{g, st}
	env := environment(t)
	env.SetWorkerOptions(wo)
	begun := make(chan struct{})
	env.RegisterActivityWithOptions(func(ctx context.Context, _ charge) error {
		close(begun)
		return body(ctx)
	}, sdkactivity.RegisterOptions{Name: "ChargeCard"})
	env.RegisterActivityWithOptions((&payments{}).Refund, sdkactivity.RegisterOptions{Name: "Refund"})
	answer := make(chan error, 1)
	go func() {
		_, err := env.ExecuteActivity("ChargeCard", order(7))
		answer <- err
	}()
	<-begun
	return st, func() error { return <-answer }
}

func TestStop_LetsGuardedBodiesEndBeforeTheSDKCancelsThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memory()
		w, answered := stopping(t, s, options(once.Mark(once.Policy{}, "ChargeCard")), worker.Options{}, func(ctx context.Context) error {
			<-sdkactivity.GetWorkerStopChannel(ctx)
			later(3 * time.Second)
			return nil
		})
		before, after := w.stop(func() { require.Equal(t, store.Succeeded, only(t, s).State) })
		require.Equal(t, 3*time.Second, before)
		require.Zero(t, after)
		require.NoError(t, answered())
		require.Zero(t, w.options.WorkerStopTimeout, "it is the user's")
	})
}

func TestStop_WaitsTenSecondsAtMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		canceled := make(chan struct{})
		w, answered := stopping(t, memory(), options(once.Mark(once.Policy{}, "ChargeCard")), worker.Options{}, func(context.Context) error {
			<-canceled
			later(time.Second)
			return nil
		})
		before, after := w.stop(func() { close(canceled) })
		require.Equal(t, 10*time.Second, before)
		require.Equal(t, time.Second, after, "the body ends, and is recorded")
		require.NoError(t, answered())
	})
}

// A guard that is a plugin of the client and of the worker is asked twice.
func TestStop_WaitsOnceWhereTheGuardIsListedTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		canceled := make(chan struct{})
		w, answered := stopping(t, memory(), options(once.Mark(once.Policy{}, "ChargeCard")), worker.Options{}, func(context.Context) error {
			<-canceled
			return nil
		})
		began := time.Now()
		var before time.Duration
		w.guard.StopWorker(t.Context(), worker.PluginStopWorkerOptions{WorkerInstanceKey: w.key},
			func(context.Context, worker.PluginStopWorkerOptions) {
				w.stop(func() {
					before = time.Since(began)
					close(canceled)
				})
			})
		require.Equal(t, 10*time.Second, before)
		require.NoError(t, answered())
	})
}

func TestStop_IsShownToABodyThatAskedWithAContextThatHasEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, answered := stopping(t, memory(), options(once.Mark(once.Policy{}, "ChargeCard")), worker.Options{}, func(ctx context.Context) error {
			short, cancel := context.WithCancel(ctx)
			sdkactivity.GetWorkerStopChannel(short)
			cancel()
			later(time.Second) // what followed it is gone
			<-sdkactivity.GetWorkerStopChannel(ctx)
			return nil
		})
		later(2 * time.Second)
		before, _ := w.stop(func() {})
		require.Zero(t, before)
		require.NoError(t, answered())
	})
}

func TestStop_LeavesAStopTimeoutThatIsSetToTheSDK(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, answered := stopping(t, memory(), options(once.Mark(once.Policy{}, "ChargeCard")),
			worker.Options{WorkerStopTimeout: 20 * time.Second}, func(context.Context) error {
				later(15 * time.Second)
				return nil
			})
		before, after := w.stop(func() {})
		require.Zero(t, before)
		require.Equal(t, 15*time.Second, after)
		require.NoError(t, answered())
	})
}

func TestStop_TakesNoLongerWhereNothingIsEnforced(t *testing.T) {
	t.Parallel()
	in := func(m once.Mode) interceptor.Options {
		o := options(once.Mark(once.Policy{}, "ChargeCard"))
		o.Mode = func(string) once.Mode { return m }
		return o
	}
	skipped := keys.FromCall(func(keys.Call) (string, error) { return "", keys.ErrSkip })
	for name, o := range map[string]interceptor.Options{
		"not marked": options(once.Mark(once.Policy{}, "Refund")),
		"Off":        in(once.Off),
		"Observe":    in(once.Observe),
		"skipped":    options(once.Mark(once.Policy{Key: skipped, Scope: keys.PerNamespace}, "ChargeCard")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				w, answered := stopping(t, memory(), o, worker.Options{}, func(context.Context) error {
					<-release
					return nil
				})
				before, after := w.stop(func() {})
				require.Zero(t, before+after)
				close(release)
				require.NoError(t, answered())
			})
		})
	}
}

// The environment stops its worker when the call is answered, which waits for the
// record for 10 s.
func TestStop_WaitsForNoRecordUnderObserve(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		down := newFaulty()
		down.set("settle", fault{times: always})
		o := options(once.Mark(once.Policy{}, "ChargeCard"))
		o.Mode = func(string) once.Mode { return once.Observe }
		began := time.Now()
		_, answered := stopping(t, down, o, worker.Options{}, func(context.Context) error { return nil })
		require.NoError(t, answered())
		require.Equal(t, 10*time.Second, time.Since(began))
	})
}

func TestStop_WaitsForARecordThatTheAnswerDidNotWaitFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		s.set("settle", fault{times: always})
		began := time.Now()
		_, answered := stopping(t, s, options(once.Mark(once.Policy{}, "ChargeCard")), worker.Options{}, func(context.Context) error { return nil })
		later(13 * time.Second) // the answer came after 10 s
		s.set("settle", fault{})
		require.NoError(t, answered())
		require.Less(t, 13*time.Second, time.Since(began))
		require.Equal(t, store.Succeeded, only(t, s).State)
	})
}

// A worker in its stop refuses nothing to a workflow's local activities: each
// refusal would be an attempt that failed.
func TestStop_LocalActivityThatHasNotBegunIsRun(t *testing.T) {
	t.Parallel()
	p := &payments{}
	g := newGuard(t, memory(), options(once.Mark(once.Policy{}, p.ChargeCard)))
	w := &stopper{guard: g}
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quiet)
	env := suite.NewTestWorkflowEnvironment()
	env.SetWorkerOptions(worker.Options{Plugins: []worker.Plugin{g, w}})
	env.RegisterActivity(p)
	over, stopped := make(chan struct{}), make(chan struct{})
	env.RegisterActivityWithOptions(func(context.Context) error {
		begun := make(chan struct{})
		go func() {
			defer close(stopped)
			w.stop(func() { close(begun); <-over })
		}()
		<-begun
		return nil
	}, sdkactivity.RegisterOptions{Name: "Stop"})
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
			StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
		})
		if err := workflow.ExecuteLocalActivity(ctx, "Stop").Get(ctx, nil); err != nil {
			return err
		}
		return workflow.ExecuteLocalActivity(ctx, p.ChargeCard, order(7)).Get(ctx, nil)
	})
	close(over)
	<-stopped
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []string{"7"}, p.charges)
}
