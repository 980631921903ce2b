package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/proto"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// zombie is a body that has its effect and then neither returns nor looks at
// its context until finish is closed.
func (s *scene) zombie(finish <-chan struct{}) body {
	return func(_ context.Context, in charge) (receipt, error) {
		if err := s.ledger.write(charged, in.Order); err != nil {
			return receipt{}, err
		}
		<-finish
		return receiptOf(in), nil
	}
}

// recorded asserts that the workflow got the very bytes that are recorded.
func (s *scene) recorded(run client.WorkflowRun) {
	s.t.Helper()
	var recorded commonpb.Payloads
	require.NoError(s.t, proto.Unmarshal(s.record(store.Succeeded).Outcome.Data, &recorded))
	results := s.results(run)
	require.Len(s.t, results, 1)
	require.True(s.t, proto.Equal(&recorded, results[0]))
}

func TestZombie_IsReplayedWhenItFinishes(t *testing.T) {
	t.Parallel()
	s := newScene(t, encrypted(false))
	finish := make(chan struct{})
	s.work(once.Policy{}, s.zombie(finish))
	run := s.start("zombie", "one", call{StartToClose: time.Second})
	err := s.held(run, once.InFlight)
	require.False(t, nonRetryable(err))
	require.EqualValues(t, 1, s.record(store.Running).Info.Holder.Attempt)

	close(finish)
	s.served(run)
	s.count(1, charged)
	s.recorded(run)
	require.Greater(t, s.attempts(run), int32(2))
}

func TestZombie_HealsTheRecord(t *testing.T) {
	t.Parallel()
	s := newScene(t, encrypted(false))
	cut := newFlaky(s.store)
	cut.cut("renew")
	s.store = cut
	finish := make(chan struct{})
	s.work(once.Policy{}, s.zombie(finish))
	run := s.start("zombie", "one", call{StartToClose: time.Second})
	require.True(t, once.MayHaveHappened(s.held(run, once.InDoubt)))
	require.Positive(t, cut.fired("renew"))
	require.True(t, s.record(store.InDoubt).Marked)

	close(finish)
	s.served(run)
	s.count(1, charged)
	s.recorded(run)
}

// waited returns when that attempt of the run's activity has been under way for
// d.
func (s *scene) waited(run client.WorkflowRun, attempt int32, d time.Duration) {
	s.t.Helper()
	s.eventually(func() bool {
		described, err := s.client.DescribeWorkflowExecution(s.t.Context(), run.GetID(), run.GetRunID())
		if err != nil || len(described.GetPendingActivities()) == 0 {
			return false
		}
		a := described.GetPendingActivities()[0]
		return a.GetState() == enumspb.PENDING_ACTIVITY_STATE_STARTED && a.GetAttempt() == attempt &&
			time.Since(a.GetLastStartedTime().AsTime()) > d
	}, fmt.Sprintf("attempt %d goes on for %v", attempt, d))
}

func TestWait_OutlastsHeartbeatTimeoutsAndKeepsTheDetails(t *testing.T) {
	t.Parallel()
	const heartbeat = 3 * time.Second
	s := newScene(t, client.Options{})
	finish := make(chan struct{})
	s.work(once.Policy{OnDuplicate: once.Wait}, func(ctx context.Context, in charge) (receipt, error) {
		switch sdkactivity.GetInfo(ctx).Attempt {
		case 1: // sends no second heartbeat, and outlives its attempt
			sdkactivity.RecordHeartbeat(ctx, "item", 41)
			<-finish
			return receipt{}, once.NotDone(errors.New("nothing was charged"))
		case 2: // after its wait, without a heartbeat of its own
			return receipt{}, errors.New("declined")
		default:
			var what string
			var n int
			if err := sdkactivity.GetHeartbeatDetails(ctx, &what, &n); err != nil {
				return receipt{}, err
			}
			if what != "item" || n != 41 {
				return receipt{}, errors.New("other details")
			}
			return s.charge(ctx, in)
		}
	})
	run := s.start("wait", "one", call{Heartbeat: heartbeat, Attempts: 3})
	s.waited(run, 2, 5*heartbeat/2)

	close(finish)
	s.served(run)
	s.count(1, charged)
	require.EqualValues(t, 3, s.attempts(run))
	long := s.events.of(func(e observe.Event) bool {
		return e.Kind == observe.KindWait && e.Attempt == 2 && e.Took > 2*heartbeat
	})
	require.Len(t, long, 1)
}

func TestWait_AnotherWorkflowGetsTheResult(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	finish := make(chan struct{})
	policy := perOrder
	policy.OnDuplicate = once.Wait
	s.work(policy, s.zombie(finish))
	first := s.start("first", "one", call{Heartbeat: 30 * time.Second})
	s.eventually(func() bool { return len(s.ledger.lines(charged)) == 1 }, "the effect")
	second := s.start("second", "one", call{Heartbeat: 2 * time.Second})
	s.waited(second, 1, 5*time.Second)

	close(finish)
	s.served(first)
	s.served(second)
	require.EqualValues(t, 1, s.attempts(second))
	s.count(1, charged)
}
