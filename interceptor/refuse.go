package interceptor

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/store"
)

// refusal is an error of the guard's own.
type refusal struct {
	reason    once.Reason
	record    store.Record
	retryable bool
	delay     time.Duration
	cause     error
	untouched bool
}

// refuse makes the error that Temporal gets. Its message starts with the
// verdict, says what that means for the effect and what comes next, and never
// shows input.
func (c *call) refuse(r refusal) error {
	details := once.Refusal{
		Reason: r.reason, Activity: c.info.ActivityType.Name, Key: c.digest,
		WorkflowID: r.record.Info.Holder.WorkflowID, RunID: r.record.Info.Holder.RunID,
		Attempt: r.record.Info.Holder.Attempt, Since: since(r.record), Untouched: r.untouched,
	}
	o := temporal.ApplicationErrorOptions{
		NonRetryable: !r.retryable,
		Cause:        r.cause,
		Details:      []any{details},
	}
	if r.retryable {
		o.NextRetryDelay = r.delay
	}
	if r.reason == once.InFlight {
		o.Category = temporal.ApplicationErrorCategoryBenign
	}
	return temporal.NewApplicationErrorWithOptions(c.message(r), string(r.reason), o)
}

func (c *call) message(r refusal) string {
	name := fmt.Sprintf("%s [key %s]", c.info.ActivityType.Name, c.digest)
	next := "not retried"
	if r.retryable {
		next = fmt.Sprintf("Temporal tries again in %v", r.delay.Round(time.Millisecond))
	}
	switch r.reason {
	case once.InFlight:
		if r.record.State == store.Absent || r.record.State == store.Tombstone {
			return fmt.Sprintf("in flight: %s was not run, because the worker is stopping or too little of this attempt is left: %s", name, next)
		}
		return fmt.Sprintf("in flight: %s is being run by %s; this call was not run: %s", name, holder(r.record), next)
	case once.Duplicate:
		return fmt.Sprintf("duplicate: %s belongs to %s; this call was not run: %s", name, holder(r.record), next)
	case once.Mismatch:
		return fmt.Sprintf("mismatch: %s belongs to %s, which had other input; this call was not run: %s. If the difference does not matter, say so with Policy.Match", name, holder(r.record), next)
	case once.InDoubt:
		return fmt.Sprintf("in doubt: nobody knows whether %s took effect, last run by %s since %s: %s, policy %v. Find out at the callee, then resolve the key with Guard.Resolve",
			name, holder(r.record), since(r.record).UTC().Format(time.RFC3339), next, c.policy.InDoubt)
	case once.OutcomeNotKept:
		return fmt.Sprintf("outcome not kept: %s took effect in %s, but its result was not recorded (%s): %s", name, holder(r.record), r.record.Outcome.Missing, next)
	case once.StoreDown:
		return fmt.Sprintf("store down: %s was not run: %s", name, next)
	case once.BadRecord:
		return fmt.Sprintf("bad record: %s was not run, because its record cannot be read: %s", name, next)
	case once.BadKey:
		return fmt.Sprintf("bad key: %s was not run, because no key could be made for it: %s", c.info.ActivityType.Name, next)
	default:
		return fmt.Sprintf("bad set-up: %s was not run: %s", c.info.ActivityType.Name, next)
	}
}

// since is when the holder got the key, or the doubt began.
func since(r store.Record) time.Time {
	if !r.Doubted.IsZero() {
		return r.Doubted
	}
	return r.Claimed
}

// holder names the call that has the key.
func holder(r store.Record) string {
	h := r.Info.Holder
	switch {
	case r.By != "" && r.By != store.BySuperseded:
		return "a decision of the " + r.By
	case h.WorkflowID != "":
		return fmt.Sprintf("workflow %s, run %s, attempt %d", h.WorkflowID, h.RunID, h.Attempt)
	case h.ActivityID != "":
		return fmt.Sprintf("activity %s, run %s, attempt %d", h.ActivityID, h.ActivityRunID, h.Attempt)
	}
	return "another call"
}
