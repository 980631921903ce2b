package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// shown returns a run's pending activity as Temporal shows it between the
// attempts, once that many have ended and the last one was refused for that
// reason.
func (s *scene) shown(run client.WorkflowRun, attempts int32, reason once.Reason) (a *workflowpb.PendingActivityInfo) {
	s.t.Helper()
	s.eventually(func() bool {
		described, err := s.client.DescribeWorkflowExecution(s.t.Context(), run.GetID(), run.GetRunID())
		if err != nil || len(described.GetPendingActivities()) == 0 {
			return false
		}
		a = described.GetPendingActivities()[0]
		return a.GetState() == enumspb.PENDING_ACTIVITY_STATE_SCHEDULED && a.GetAttempt() > attempts &&
			a.GetLastFailure() != nil && once.Is(s.errorOf(a), reason)
	}, "an attempt is refused with "+string(reason))
	return a
}

// errorOf returns the last failure of an activity as whoever has the converters
// reads it.
func (s *scene) errorOf(a *workflowpb.PendingActivityInfo) error {
	fc := s.options.FailureConverter
	if fc == nil {
		fc = temporal.GetDefaultFailureConverter()
	}
	return fc.FailureToError(proto.CloneOf(a.GetLastFailure())) // it decodes in place
}

// requireShown asserts what an operator learns from the last failure of an
// activity, whose key belongs to the first attempt of a call of the owner's.
func (s *scene) requireShown(a *workflowpb.PendingActivityInfo, reason once.Reason, owner client.WorkflowRun, since time.Time, original sdktrace.ReadOnlySpan) {
	s.t.Helper()
	app := (*temporal.ApplicationError)(nil)
	require.ErrorAs(s.t, s.errorOf(a), &app)
	key, _ := attributesOf(original)["atmostonce.key.digest"].(string)
	require.Len(s.t, key, 16)
	verdict := map[once.Reason]string{
		once.InFlight: "in flight: Charge [key " + key + "] ",
		once.InDoubt:  "in doubt: nobody knows whether Charge [key " + key + "] ",
	}[reason]
	require.True(s.t, strings.HasPrefix(app.Message(), verdict), app.Message())
	require.Equal(s.t, string(reason), app.Type())
	require.False(s.t, app.NonRetryable())
	if reason == once.InFlight { // of what is held, all but the first refusal are, too
		require.Equal(s.t, temporal.ApplicationErrorCategoryBenign, app.Category())
	}
	require.GreaterOrEqual(s.t, app.NextRetryDelay(), time.Second)
	require.LessOrEqual(s.t, app.NextRetryDelay(), 10*time.Second)
	require.InDelta(s.t, app.NextRetryDelay(), a.GetCurrentRetryInterval().AsDuration(), float64(poll), "as the server has taken it")

	var got once.Refusal
	require.NoError(s.t, app.Details(&got))
	require.WithinDuration(s.t, since, got.Since, 0)
	got.Since = time.Time{}
	require.Equal(s.t, once.Refusal{
		Reason: reason, Activity: "Charge", Key: key, WorkflowID: owner.GetID(), RunID: owner.GetRunID(), Attempt: 1,
		Trace: traceparent(original), Untouched: got.Untouched,
	}, got)
}

func TestRefused_WhatAnOperatorSeesOfACallInFlight(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]client.Options{"plain": {}, "encrypted": encrypted(false)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, o)
			finish := make(chan struct{})
			first, second := newTraced(), newTraced()
			s.workIn(first, perOrder, s.zombie(finish))
			owner := s.start("owner", "one", call{})
			s.eventually(func() bool { return len(s.ledger.lines(charged)) == 1 }, "the effect")
			claimed := s.record(store.Running).Claimed
			s.workIn(second, perOrder, s.charge)
			other := s.start("other", "one", call{})
			a := s.shown(other, 1, once.InFlight)
			close(finish)
			s.served(owner)
			s.served(other)
			s.requireShown(a, once.InFlight, owner, claimed, first.only(t, executeSpan))
			for _, span := range second.ended(failSpan) {
				requireLinked(t, span, first.only(t, executeSpan), owner, 1)
			}
		})
	}
}

func TestRefused_WhatAnOperatorSeesOfACallInDoubt(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]client.Options{"plain": {}, "encrypted": encrypted(false)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, o)
			p := newTraced()
			s.workIn(p, once.Policy{}, func(_ context.Context, in charge) (receipt, error) {
				return receipt{}, once.MaybeDone(errors.Join(errors.New("no answer"), s.ledger.write(charged, in.Order)))
			})
			run := s.start("doubted", "one", call{})
			s.requireShown(s.shown(run, 1, once.InDoubt), once.InDoubt, run, s.record(store.InDoubt).Doubted, p.only(t, executeSpan))
			later := s.shown(run, 2, once.InDoubt)
			require.NotEmpty(t, s.events.kind(observe.KindFail))
			s.requireShown(later, once.InDoubt, run, s.record(store.InDoubt).Doubted, p.only(t, executeSpan))
			s.count(1, charged)
		})
	}
}
