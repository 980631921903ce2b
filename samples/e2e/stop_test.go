package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
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
