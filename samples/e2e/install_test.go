package e2e

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

func TestLocalActivity_HasOneEffectAcrossAFailedWorkflowTask(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	guard := s.guard(once.Mark(once.Policy{}, "Charge")...)
	queue := s.name + "-local"
	w := worker.New(s.dial(guard), queue, worker.Options{})
	var failed atomic.Bool
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context, in charge) (r receipt, err error) {
		ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: soon})
		err = workflow.ExecuteLocalActivity(ctx, "Charge", in).Get(ctx, &r)
		if failed.CompareAndSwap(false, true) {
			panic("this workflow task fails")
		}
		return r, err
	}, workflow.RegisterOptions{Name: "local"})
	register(w, s.charge)
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)

	run, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: s.name + "-local", TaskQueue: queue}, "local",
		charge{Order: "order-1"})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	var r receipt
	require.NoError(t, run.Get(ctx, &r))
	require.Equal(t, "receipt for order-1", r.ID)
	s.event(run, enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED)
	s.count(1, charged)
	require.Len(t, s.events.kind(observe.KindDuplicate), 1)
}

func TestInstall_ThreeTimesRunsTheBodyOnce(t *testing.T) {
	t.Parallel()
	s := newScene(t, encrypted(false))
	guard := s.guard(once.Mark(once.Policy{OnDuplicate: once.Wait}, "Charge")...)
	s.workWith(guard, worker.Options{
		Plugins:      []worker.Plugin{guard},
		Interceptors: []sdkinterceptor.WorkerInterceptor{guard},
	}, func(r worker.Registry) { register(r, s.charge) })
	run := s.start("thrice", "one", call{})
	s.served(run)
	require.EqualValues(t, 1, s.attempts(run))
	s.count(1, charged)
	require.Len(t, s.events.kind(observe.KindExecute), 1)
	require.Empty(t, s.events.kind(observe.KindWait))
}

func TestRollingDeploy_ANewFieldKeepsTheKey(t *testing.T) {
	t.Parallel()
	type newCharge struct {
		Order    string
		Cents    int
		Currency string
	}
	s := newScene(t, client.Options{})
	policy := once.Policy{InDoubt: once.Rerun}
	dead := make(chan struct{})
	old := s.work(policy, func(ctx context.Context, in charge) (receipt, error) {
		if err := s.ledger.write(keyed, once.Key(ctx)); err != nil {
			return receipt{}, err
		}
		defer close(dead)
		panic("the old build dies")
	})
	run := s.start("deploy", "one", call{})
	<-dead
	old.Stop()
	s.record(store.InDoubt)

	var takeover atomic.Bool
	s.workWith(s.guard(once.Mark(policy, "Charge")...), worker.Options{}, func(r worker.Registry) {
		r.RegisterActivityWithOptions(func(ctx context.Context, in newCharge) (receipt, error) {
			claim, _ := once.FromContext(ctx)
			takeover.Store(claim.Takeover)
			return receiptOf(charge{Order: in.Order}), s.ledger.write(keyed, once.Key(ctx))
		}, sdkactivity.RegisterOptions{Name: "Charge"})
	})
	s.served(run)
	got := s.ledger.lines(keyed)
	require.Len(t, got, 2)
	require.Equal(t, got[0], got[1])
	require.True(t, takeover.Load())
	s.record(store.Succeeded)
}
