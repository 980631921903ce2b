package e2e

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// beforeTheGuard starts a workflow on a worker without a guard, which has its
// effect and is stopped before it has reported it.
func (s *scene) beforeTheGuard() client.WorkflowRun {
	s.t.Helper()
	w := worker.New(s.client, s.name, worker.Options{DisableWorkflowWorker: true})
	register(w, func(ctx context.Context, in charge) (receipt, error) {
		if err := s.ledger.write(charged, in.Order); err != nil {
			return receipt{}, err
		}
		<-ctx.Done()
		<-time.After(time.Second) // its last words come too late
		return receipt{}, ctx.Err()
	})
	require.NoError(s.t, w.Start())
	run := s.start("migrated", "one", call{StartToClose: 3 * time.Second})
	s.eventually(func() bool { return len(s.ledger.lines(charged)) == 1 }, "the effect of the time before the guard")
	w.Stop()
	return run
}

func TestAdoption_OfARunningSystem(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		distrust bool
		charges  int
	}{
		"distrusted": {true, 1},
		"trusted":    {false, 2}, // as Temporal would without a guard
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, client.Options{})
			run := s.beforeTheGuard()
			o := guardOptions(once.Mark(once.Policy{InDoubt: once.Fail}, "Charge"), s.events)
			if c.distrust {
				o.DistrustBefore = time.Now()
			}
			g, err := interceptor.New(s.store, o)
			require.NoError(t, err)
			s.workWith(g, worker.Options{}, func(r worker.Registry) { register(r, s.charge) })
			v := s.verdict(run)
			require.Equal(t, c.distrust, v.MayHaveHappened)
			s.count(c.charges, charged)

			// A call that is scheduled under the guard is trusted.
			s.verdict(s.start("new", "one", call{Input: charge{Order: "order-2"}}))
			s.count(c.charges+1, charged)
		})
	}
}

// The guard first only observes, then enforces on what it has recorded.
func TestAdoption_FromObserveToEnforce(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	o := guardOptions(once.Mark(perOrder, "Charge"), s.events)
	var mode atomic.Uint32
	mode.Store(uint32(once.Observe))
	o.Mode = func(string) once.Mode { return once.Mode(mode.Load()) }
	g, err := interceptor.New(s.store, o)
	require.NoError(t, err)
	s.workWith(g, worker.Options{}, func(r worker.Registry) { register(r, s.charge) })
	s.served(s.start("first", "one", call{}))
	s.served(s.start("second", "one", call{}))
	s.count(2, charged)
	require.Len(t, s.events.notice(observe.Observed), 1)

	mode.Store(uint32(once.Enforce))
	s.served(s.start("third", "one", call{}))
	s.count(2, charged)
	s.record(store.Succeeded)
}

// A reset activity begins again with attempt 1.
func TestAdoption_ResetActivityIsNotTheFirstAttempt(t *testing.T) {
	t.Parallel()
	reset := func(t *testing.T) (*scene, client.WorkflowRun) {
		t.Helper()
		s := newScene(t, client.Options{})
		run := s.beforeTheGuard()
		s.eventually(func() bool {
			d, err := s.client.DescribeWorkflowExecution(t.Context(), run.GetID(), run.GetRunID())
			return err == nil && len(d.GetPendingActivities()) == 1 && d.GetPendingActivities()[0].GetAttempt() == 2
		}, "the second attempt")
		_, err := s.client.WorkflowService().ResetActivity(t.Context(), &workflowservice.ResetActivityRequest{
			Namespace: client.DefaultNamespace, Execution: execution(run),
			Activity: &workflowservice.ResetActivityRequest_Type{Type: "Charge"},
		})
		require.NoError(t, err)
		return s, run
	}
	t.Run("it is distrusted", func(t *testing.T) {
		t.Parallel()
		s, run := reset(t)
		o := guardOptions(once.Mark(once.Policy{InDoubt: once.Fail}, "Charge"), s.events)
		o.DistrustBefore = time.Now()
		g, err := interceptor.New(s.store, o)
		require.NoError(t, err)
		s.workWith(g, worker.Options{}, func(r worker.Registry) { register(r, s.charge) })
		require.True(t, s.verdict(run).MayHaveHappened)
		s.count(1, charged)
		require.EqualValues(t, 1, s.events.kind(observe.KindFail)[0].Attempt)
	})
	t.Run("it may have happened while the store is down", func(t *testing.T) {
		t.Parallel()
		s, run := reset(t)
		down := newFlaky(s.store)
		down.cut("acquire")
		s.store = down
		s.work(once.Policy{}, s.charge)
		err := s.held(run, once.StoreDown)
		require.True(t, once.MayHaveHappened(err))
		require.EqualValues(t, 1, s.events.kind(observe.KindFail)[0].Attempt)
	})
}
