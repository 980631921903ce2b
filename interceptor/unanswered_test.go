package interceptor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"

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
		r      refusal
		want   string
	}{
		"Reconcile, early":      {reconcile, refusal{record: early}, "before the settle delay was over, so the callee was not asked"},
		"Reconcile, unwritten":  {reconcile, refusal{record: unwritten}, "before the settle delay was over, so the callee was not asked"},
		"Reconcile, pending":    {reconcile, refusal{record: pendingPast(testDelay - 1)}, "before the settle delay was over, so the callee was not asked"},
		"Reconcile, asked":      {reconcile, refusal{record: old}, "The workflow goes on without an answer"},
		"Rerun, early":          {once.Rerun, refusal{record: early}, "before the settle delay was over, so it was not run again"},
		"Rerun, final":          {once.Rerun, refusal{record: early, final: true}, "What it returned last, the cause, is final"},
		"Fail, early":           {once.Fail, refusal{record: early}, "The workflow goes on without an answer"},
		"Hold":                  {once.Hold, refusal{record: old}, "The workflow goes on without an answer"},
		"HoldFor, early":        {once.HoldFor(time.Hour), refusal{record: old}, "The call ended before the hold of 1h0m0s was over"},
		"HoldFor, over":         {once.HoldFor(time.Second), refusal{record: old}, "The workflow goes on without an answer"},
		"Hold, others follow":   {once.Hold, refusal{record: old, retryable: true}, "Waiting does not clear it"},
		"Reconcile, they do":    {reconcile, refusal{record: early, retryable: true}, "If that does not clear it"},
		"Reconcile, last count": {reconcile, refusal{record: early}, "was not asked: the last owner may act until "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			call := calledWith(sdkactivity.Info{}, byDefault)
			call.policy.InDoubt = c.policy
			require.Contains(t, call.clear(c.r), c.want)
		})
	}
}
