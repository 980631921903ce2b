package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// hurried is a workflow whose call has no time for the settle delay.
func hurried(ctx workflow.Context, toClose time.Duration) (verdict, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ScheduleToCloseTimeout: toClose, RetryPolicy: &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond},
	})
	err := workflow.ExecuteActivity(ctx, "Charge", charge{Order: "order-1"}).Get(ctx, nil)
	return verdict{}.of(err), nil
}

func TestDefeated_PolicyIsToldAtTheFirstCall(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	s.work(once.Policy{}, s.charge)
	s.served(s.start("held", "one", call{Attempts: 5}))
	told := s.events.notice(observe.PolicyDefeated)
	require.Len(t, told, 1)
	require.ErrorContains(t, told[0].Err, "MaximumAttempts 5: InDoubt Hold holds for 2s only")
	s.served(s.start("unlimited", "one", call{}))
	require.Len(t, s.events.notice(observe.PolicyDefeated), 1)
}

func TestDefeated_RefusalSaysThatTheCalleeWasNotAsked(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	s.name += "-hurried" // the scene's own worker does not see this queue
	o := guardOptions(once.Mark(once.Policy{InDoubt: policies(s.ledger)["Reconcile"].InDoubt}, "Charge"), s.events)
	o.SettleDelay = 30 * time.Second
	g, err := interceptor.New(s.store, o)
	require.NoError(t, err)
	w := worker.New(s.dial(g), s.name, worker.Options{})
	w.RegisterWorkflowWithOptions(hurried, workflow.RegisterOptions{Name: "hurried"})
	register(w, func(context.Context, charge) (receipt, error) {
		return receipt{}, once.MaybeDone(errors.New("no answer"))
	})
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	run, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: s.name, TaskQueue: s.name}, "hurried", 5*time.Second)
	require.NoError(t, err)
	v := s.verdict(run)
	require.Equal(t, once.InDoubt, v.Why.Reason)
	require.Contains(t, v.Failure, "The call ended before the settle delay was over, so the callee was not asked")
	require.ErrorContains(t, s.events.notice(observe.PolicyDefeated)[0].Err, "ScheduleToCloseTimeout 5s: InDoubt Reconcile is never asked")
	s.count(0, asked)
	s.record(store.InDoubt)
}
