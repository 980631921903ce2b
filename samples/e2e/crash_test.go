package e2e

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

const holdFor = 3 * time.Second

// doomedCall is noticed to be lost by its heartbeat timeout.
var doomedCall = call{Heartbeat: time.Second}

// newCrash is a scene in which a worker was killed in the middle of a call. The
// worker that comes after it runs the given body, by default one that has the
// effect.
func newCrash(t *testing.T, policy string, before bool, c call, next func(s *scene) body) (*scene, client.WorkflowRun) {
	t.Helper()
	s := newScene(t, client.Options{})
	s.openFile()
	return s, s.crash(policy, before, c, next)
}

// crash is newCrash in a scene with the store of one's choice.
func (s *scene) crash(policy string, before bool, c call, next func(s *scene) body) client.WorkflowRun {
	s.t.Helper()
	run := s.killed(policy, before, c)
	b := s.charge
	if next != nil {
		b = next(s)
	}
	s.work(policies(s.ledger)[policy], b)
	return run
}

// resolve decides as an operator would, about the record as it is.
func (s *scene) resolve(r store.Record, to store.State, result any) {
	s.t.Helper()
	res := store.Resolution{ID: rand.Text(), To: to, By: store.ByOperator, Why: "asked the provider", TTL: time.Hour}
	if result != nil {
		payloads, err := converter.GetDefaultDataConverter().ToPayloads(result)
		require.NoError(s.t, err)
		res.Outcome.Data, err = proto.Marshal(payloads)
		require.NoError(s.t, err)
	}
	_, err := s.store.Resolve(s.t.Context(), r.Key, r, res)
	require.NoError(s.t, err)
}

func TestKill_HoldWaitsForTheOperatorsOutcome(t *testing.T) {
	t.Parallel()
	s, run := newCrash(t, "Hold", false, doomedCall, nil)
	err := s.held(run, once.InDoubt)
	require.False(t, nonRetryable(err))
	require.True(t, once.MayHaveHappened(err))

	s.resolve(s.record(store.InDoubt), store.Succeeded, receipt{ID: "found by hand"})
	v := s.verdict(run)
	require.Empty(t, v.Failure)
	require.Equal(t, "found by hand", v.Receipt.ID)
	s.count(1, charged)
}

func TestKill_HoldRunsWhatTheOperatorSaysDidNotHappen(t *testing.T) {
	t.Parallel()
	s, run := newCrash(t, "Hold", true, doomedCall, nil)
	require.True(t, once.MayHaveHappened(s.held(run, once.InDoubt)))
	s.count(0, charged)

	s.resolve(s.record(store.InDoubt), store.Tombstone, nil)
	s.served(run)
	s.count(1, charged)
}

func TestKill_HoldForFailsInTheEnd(t *testing.T) {
	t.Parallel()
	s, run := newCrash(t, "HoldFor", false, doomedCall, nil)
	require.False(t, nonRetryable(s.held(run, once.InDoubt)))
	v := s.verdict(run)
	require.Equal(t, once.InDoubt, v.Why.Reason)
	require.True(t, v.NonRetryable)
	require.True(t, v.MayHaveHappened)
	failed := s.eventTime(run, enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED)
	require.GreaterOrEqual(t, failed.Sub(v.Why.Since), holdFor)
	s.count(1, charged)
}

func TestKill_FailTellsTheWorkflow(t *testing.T) {
	t.Parallel()
	s, run := newCrash(t, "Fail", false, doomedCall, nil)
	v := s.verdict(run)
	require.Equal(t, once.InDoubt, v.Why.Reason)
	require.Equal(t, run.GetID(), v.Why.WorkflowID)
	require.EqualValues(t, 1, v.Why.Attempt)
	require.True(t, v.NonRetryable)
	require.True(t, v.MayHaveHappened)
	s.count(1, charged)
	s.record(store.InDoubt)
}

func TestKill_ResumeGoesOnFromTheDetails(t *testing.T) {
	t.Parallel()
	s, run := newCrash(t, "Resume", false, doomedCall, func(s *scene) body {
		return func(ctx context.Context, in charge) (receipt, error) {
			var progress string
			if err := sdkactivity.GetHeartbeatDetails(ctx, &progress); err != nil {
				return receipt{}, err
			}
			claim, _ := once.FromContext(ctx)
			if !claim.Takeover {
				progress = "not a takeover"
			}
			return receiptOf(in), s.ledger.write(begun, progress)
		}
	})
	s.served(run)
	require.Equal(t, []string{"half of it"}, s.ledger.lines(begun))
	s.count(1, charged)
}

func TestKill_RerunHasTheEffectTwice(t *testing.T) {
	t.Parallel()
	s, run := newCrash(t, "Rerun", false, doomedCall, nil)
	s.served(run)
	s.count(2, charged)
}

func TestKill_ReconcileReplaysWhatItFinds(t *testing.T) {
	t.Parallel()
	s, run := newCrash(t, "Reconcile", false, doomedCall, nil)
	s.served(run)
	s.count(1, charged)
	s.count(1, asked)
	require.Equal(t, store.ByReconcile, s.record(store.Succeeded).By)
}

func TestKill_ReconcileRunsWhatItDoesNotFind(t *testing.T) {
	t.Parallel()
	s, run := newCrash(t, "Reconcile", true, doomedCall, nil)
	s.served(run)
	s.count(1, begun)
	s.count(1, charged)
	s.count(1, asked)
	require.Equal(t, store.Clean, s.record(store.Succeeded).Origin)
}

func TestKill_LastAttemptWaitsInItsSlotAndReconciles(t *testing.T) {
	t.Parallel()
	s, run := newCrash(t, "Reconcile", false, call{Heartbeat: 3 * time.Second, Attempts: 2}, nil)
	s.served(run)
	s.count(1, charged)
	s.count(1, asked)
	require.EqualValues(t, 2, s.attempts(run))
	require.Len(t, s.events.kind(observe.KindWait), 1)
	replays := s.events.kind(observe.KindDuplicate)
	require.Len(t, replays, 1)
	doubted := replays[0].Earlier
	require.GreaterOrEqual(t, doubted.Now.Sub(doubted.Doubted), settleDelay)
	require.Empty(t, s.events.kind(observe.KindFail))
}
