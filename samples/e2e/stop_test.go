package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/store"
)

func TestStop_BodyThatFinishesInTimeIsRecorded(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	started := make(chan struct{})
	w := s.work(once.Policy{}, func(ctx context.Context, in charge) (receipt, error) {
		close(started)
		<-sdkactivity.GetWorkerStopChannel(ctx)
		return s.charge(ctx, in)
	})
	run := s.start("stopped", "one", call{})
	<-started
	w.Stop()
	s.record(store.Succeeded)
	s.served(run)
	require.EqualValues(t, 1, s.attempts(run))
	s.count(1, charged)
}

func TestStop_BodyThatIsCutShortIsInDoubt(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	guard := s.guard(once.Mark(once.Policy{}, "Charge")...)
	started := make(chan struct{})
	w := s.workWith(guard, worker.Options{WorkerStopTimeout: 300 * time.Millisecond}, func(r worker.Registry) {
		register(r, func(ctx context.Context, in charge) (receipt, error) {
			if err := s.ledger.write(charged, in.Order); err != nil {
				return receipt{}, err
			}
			close(started)
			<-ctx.Done()
			return receipt{}, ctx.Err()
		})
	})
	run := s.start("stopped", "one", call{})
	<-started
	w.Stop()
	require.False(t, s.record(store.InDoubt).Marked)

	s.work(once.Policy{}, s.charge)
	require.True(t, once.MayHaveHappened(s.held(run, once.InDoubt)))
	s.resolve(s.record(store.InDoubt), store.Succeeded, receipt{ID: "receipt for order-1"})
	s.served(run)
	s.count(1, charged)
}

func TestStop_BodyThatOutlivesItsWorkerIsStillHeard(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	guard := s.guard(once.Mark(once.Policy{}, "Charge")...)
	finish := make(chan struct{})
	w := s.workWith(guard, worker.Options{WorkerStopTimeout: 300 * time.Millisecond}, func(r worker.Registry) {
		register(r, s.zombie(finish))
	})
	run := s.start("stopped", "one", call{StartToClose: 5 * time.Second})
	s.eventually(func() bool { return len(s.ledger.lines(charged)) == 1 }, "the effect")
	w.Stop()

	s.work(once.Policy{}, s.charge)
	require.False(t, nonRetryable(s.held(run, once.InFlight)))
	s.record(store.Running)
	close(finish)
	s.served(run)
	s.record(store.Succeeded)
	s.count(1, charged)
}

// saga is a workflow that makes these charges one after another: every third by
// a remote activity, the others by local ones.
func saga(ctx workflow.Context, charges []charge) error {
	few := &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, MaximumAttempts: 2}
	local := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: soon, RetryPolicy: few})
	remote := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: soon, RetryPolicy: few})
	for i, in := range charges {
		call := workflow.ExecuteLocalActivity(local, "Charge", in)
		if i%3 == 2 {
			call = workflow.ExecuteActivity(remote, "Charge", in)
		}
		if err := call.Get(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

// Every saga is in its first charge when the old worker begins to stop, which
// the slowest of them holds up.
func TestStop_RollingDeployFailsNoWorkflow(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	s.name += "-saga" // the scene's own worker does not see this queue
	started := make(chan struct{}, 8)
	work := func(b body) worker.Worker {
		w := worker.New(s.dial(s.guard(once.Mark(once.Policy{}, "Charge")...)), s.name, worker.Options{})
		w.RegisterWorkflowWithOptions(saga, workflow.RegisterOptions{Name: "saga"})
		register(w, b)
		require.NoError(t, w.Start())
		t.Cleanup(w.Stop)
		return w
	}
	old := work(func(ctx context.Context, in charge) (receipt, error) {
		if n, first := strings.CutSuffix(in.Order, "-0"); first {
			started <- struct{}{}
			<-sdkactivity.GetWorkerStopChannel(ctx)
			<-time.After(200 * time.Millisecond)
			if n == "0" {
				<-time.After(4 * time.Second)
			}
		}
		return s.charge(ctx, in)
	})
	var runs []client.WorkflowRun
	var all []string
	for n := range cap(started) {
		var charges []charge
		for i := range 6 {
			charges = append(charges, charge{Order: fmt.Sprintf("%d-%d", n, i), Cents: 1200})
			all = append(all, charges[i].Order)
		}
		run, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: fmt.Sprint(s.name, n), TaskQueue: s.name}, "saga", charges)
		require.NoError(t, err)
		runs = append(runs, run)
	}
	for range runs {
		<-started
	}
	work(s.charge)
	old.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	for _, run := range runs {
		require.NoError(t, run.Get(ctx, nil))
	}
	require.ElementsMatch(t, all, s.ledger.lines(charged))
}

func TestStop_TakesAsLongAsWithoutTheGuardWhereNothingIsEnforced(t *testing.T) {
	t.Parallel()
	took := func(plugins ...client.Plugin) time.Duration {
		s := newScene(t, client.Options{})
		started, finish := make(chan struct{}), make(chan struct{})
		w := worker.New(s.dial(plugins...), s.name, worker.Options{DisableWorkflowWorker: true})
		register(w, func(ctx context.Context, in charge) (receipt, error) {
			close(started)
			<-finish // whatever becomes of its context
			return s.charge(ctx, in)
		})
		require.NoError(t, w.Start())
		s.start("stopped", "one", call{Attempts: 1})
		<-started
		begun := time.Now()
		w.Stop()
		close(finish)
		return time.Since(begun)
	}
	in := func(m once.Mode, marked string) client.Plugin {
		o := guardOptions(once.Mark(once.Policy{}, marked))
		o.Mode = func(string) once.Mode { return m }
		g, err := interceptor.New(store.NewMemory(store.MemoryOptions{}), o)
		require.NoError(t, err)
		return g
	}
	without := took()
	for name, guard := range map[string]client.Plugin{
		"Off": in(once.Off, "Charge"), "Observe": in(once.Observe, "Charge"),
	} {
		require.Less(t, took(guard), without+time.Second, name)
	}
}
