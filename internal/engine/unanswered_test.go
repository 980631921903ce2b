package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

func TestRefusal_SaysWhatThePolicyDidNotComeTo(t *testing.T) {
	t.Parallel()
	early, old := inDoubtSince(testDelay-1), inDoubtSince(testDelay)
	unwritten := store.Record{State: store.InDoubt, Doubted: now}
	reconcile := once.Reconcile(findNothing)
	for name, c := range map[string]struct {
		policy once.DoubtPolicy
		r      Refusal
		want   string
	}{
		"Reconcile, early":      {reconcile, Refusal{Record: early}, "before the settle delay was over, so the callee was not asked"},
		"Reconcile, unwritten":  {reconcile, Refusal{Record: unwritten}, "before the settle delay was over, so the callee was not asked"},
		"Reconcile, pending":    {reconcile, Refusal{Record: pendingPast(testDelay - 1)}, "before the settle delay was over, so the callee was not asked"},
		"Reconcile, asked":      {reconcile, Refusal{Record: old}, "The workflow goes on without an answer"},
		"Rerun, early":          {once.Rerun, Refusal{Record: early}, "before the settle delay was over, so it was not run again"},
		"Rerun, final":          {once.Rerun, Refusal{Record: early, Final: true}, "What it returned last, the cause, is final"},
		"Fail, early":           {once.Fail, Refusal{Record: early}, "The workflow goes on without an answer"},
		"Hold":                  {once.Hold, Refusal{Record: old}, "The workflow goes on without an answer"},
		"HoldFor, early":        {once.HoldFor(time.Hour), Refusal{Record: old}, "The call ended before the hold of 1h0m0s was over"},
		"HoldFor, over":         {once.HoldFor(time.Second), Refusal{Record: old}, "The workflow goes on without an answer"},
		"Hold, others follow":   {once.Hold, Refusal{Record: old, Retryable: true}, "Waiting does not clear it"},
		"Reconcile, they do":    {reconcile, Refusal{Record: early, Retryable: true}, "If that does not clear it"},
		"Reconcile, last count": {reconcile, Refusal{Record: early}, "was not asked: the last owner may act until "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.r.InDoubt, c.r.SettleDelay = c.policy, testDelay
			c.r.Digest = "b4b653605d0cd823"
			require.Contains(t, c.r.clear(), c.want)
			require.Regexp(t, " temporal atmostonce show b4b653605d0cd823$", c.r.clear())
		})
	}
}
