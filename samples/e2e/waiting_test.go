package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// owned is a scene with a workflow whose activity has charged, and holds its key
// until finish is closed. Its worker takes one activity at a time.
func owned(t *testing.T, p once.Policy, finish <-chan struct{}) (*scene, client.WorkflowRun) {
	t.Helper()
	s := newScene(t, client.Options{})
	s.workWith(s.guard(once.Mark(p, "Charge")...), worker.Options{MaxConcurrentActivityExecutionSize: 1},
		func(r worker.Registry) { register(r, s.zombie(finish)) })
	run := s.start("owner", "one", call{})
	s.eventually(func() bool { return len(s.ledger.lines(charged)) == 1 }, "the effect")
	return s, run
}

// waits makes the charges of one order one effect, and duplicates wait for it.
func waits(d once.DoubtPolicy) once.Policy {
	p := perOrder
	p.OnDuplicate, p.InDoubt = once.Wait, d
	return p
}

// ended returns how the waits of the run have ended.
func (s *scene) ended(run client.WorkflowRun) []observe.Event {
	return s.events.of(func(e observe.Event) bool { return e.Kind == observe.KindWait && e.WorkflowID == run.GetID() })
}

func TestWait_EndsBeforeTheDeadline(t *testing.T) {
	t.Parallel()
	const timeout = 3 * time.Second
	finish := make(chan struct{})
	s, owner := owned(t, waits(once.Hold), finish)
	s.work(waits(once.Hold), s.charge)
	waiter := s.start("waiter", "one", call{StartToClose: timeout})
	err := s.held(waiter, once.InFlight)
	require.False(t, nonRetryable(err))
	timedOut := (*temporal.TimeoutError)(nil)
	require.NotErrorAs(t, err, &timedOut)
	require.Greater(t, s.ended(waiter)[0].Took, timeout/2)

	close(finish)
	s.served(owner)
	s.served(waiter)
	s.count(1, charged)
}

func TestWait_EndsWhenTheWorkerStops(t *testing.T) {
	t.Parallel()
	finish := make(chan struct{})
	s, owner := owned(t, waits(once.Hold), finish)
	stopping := s.workWith(s.guard(once.Mark(waits(once.Hold), "Charge")...), worker.Options{WorkerStopTimeout: soon},
		func(r worker.Registry) { register(r, s.charge) })
	waiter := s.start("waiter", "one", call{})
	s.waited(waiter, 1, time.Second)
	begun := time.Now()
	stopping.Stop()
	require.Less(t, time.Since(begun), soon/2)
	require.Len(t, s.ended(waiter), 1)
	require.False(t, nonRetryable(s.held(waiter, once.InFlight)))

	s.work(waits(once.Hold), s.charge)
	close(finish)
	s.served(owner)
	s.served(waiter)
	s.count(1, charged)
}

func TestWait_EndsWhenTheOwnerIsInDoubt(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(s *scene, cut *flaky, finish chan<- struct{}){
		"by its own word": func(_ *scene, _ *flaky, finish chan<- struct{}) { close(finish) },
		"by its lease": func(s *scene, cut *flaky, finish chan<- struct{}) {
			cut.cut("renew")
			s.t.Cleanup(func() { close(finish) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, client.Options{})
			cut := newFlaky(s.store)
			s.store = cut
			finish := make(chan struct{})
			s.work(waits(once.Fail), func(_ context.Context, in charge) (receipt, error) {
				if err := s.ledger.write(charged, in.Order); err != nil {
					return receipt{}, err
				}
				<-finish
				return receipt{}, once.MaybeDone(errors.New("no answer"))
			})
			s.start("owner", "one", call{})
			s.eventually(func() bool { return len(s.ledger.lines(charged)) == 1 }, "the effect")
			waiter := s.start("waiter", "one", call{StartToClose: 5 * soon})
			s.waited(waiter, 1, time.Second)
			end(s, cut, finish)
			v := s.verdict(waiter)
			require.Equal(t, once.InDoubt, v.Why.Reason)
			require.True(t, v.NonRetryable)
			require.Equal(t, once.InDoubt, s.ended(waiter)[0].Reason)
			s.count(1, charged)
			s.record(store.InDoubt)
		})
	}
}

func TestWait_ManyWaitersGetOneEffect(t *testing.T) {
	t.Parallel()
	const n = 20
	finish := make(chan struct{})
	s, owner := owned(t, waits(once.Hold), finish)
	s.work(waits(once.Hold), s.charge)
	waiters := make([]client.WorkflowRun, n)
	for i := range waiters {
		waiters[i] = s.start(fmt.Sprintf("waiter-%d", i), "one", call{Heartbeat: 10 * time.Second})
	}
	for _, w := range waiters {
		s.waited(w, 1, 0)
	}
	require.Empty(t, s.events.kind(observe.KindWait), "all of them wait")
	close(finish)
	s.served(owner)
	for _, w := range waiters {
		s.served(w)
		require.EqualValues(t, 1, s.attempts(w))
	}
	s.count(1, charged)
}

func TestReturn_GivesTheSlotBack(t *testing.T) {
	t.Parallel()
	finish := make(chan struct{})
	s, owner := owned(t, perOrder, finish)
	s.workWith(s.guard(once.Mark(perOrder, "Charge")...), worker.Options{MaxConcurrentActivityExecutionSize: 1},
		func(r worker.Registry) { register(r, s.charge) })
	duplicates := make([]client.WorkflowRun, 5)
	for i := range duplicates {
		duplicates[i] = s.start(fmt.Sprintf("duplicate-%d", i), "one", call{})
	}
	for _, d := range duplicates {
		require.False(t, nonRetryable(s.held(d, once.InFlight)))
	}
	v := s.verdict(s.start("other", "one", call{Input: charge{Order: "order-2"}}))
	require.Equal(t, "receipt for order-2", v.Receipt.ID)
	require.Len(t, s.records(store.Running), 1, "the owner still holds its key")

	close(finish)
	s.served(owner)
	for _, d := range duplicates {
		s.served(d)
	}
	s.count(2, charged)
}
