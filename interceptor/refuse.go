package interceptor

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// refusal is an error of the guard's own.
type refusal struct {
	reason    once.Reason
	record    store.Record
	retryable bool
	settling  bool // in doubt, and the policy has not decided yet
	final     bool // in doubt, and what the body returned ends the call
	delay     time.Duration
	cause     error
	untouched bool
}

// refuse makes the error that Temporal gets. Its message starts with the
// verdict, says what that means for the effect and what comes next, and never
// shows input. What the guard was told by others is the cause.
//
// It is benign, which the SDK neither logs nor counts as a failure, if it says only
// that Temporal is to come back: in flight, or as repeated says, as before.
func (c *call) refuse(r refusal, repeated bool) error {
	if r.reason == once.InDoubt && r.cause == nil {
		r.cause = c.codec.cause(r.record.Outcome)
	}
	details := once.Refusal{
		Reason: r.reason, Activity: c.info.ActivityType.Name, Key: c.digest,
		WorkflowID: r.record.Info.Holder.WorkflowID, RunID: r.record.Info.Holder.RunID,
		Attempt: r.record.Info.Holder.Attempt, Since: since(r.record), Trace: r.record.Info.Trace, Untouched: r.untouched,
	}
	o := temporal.ApplicationErrorOptions{
		NonRetryable: !r.retryable,
		Cause:        r.cause,
		Details:      []any{details},
	}
	if r.retryable {
		o.NextRetryDelay = r.delay
	}
	s := c.situation(r.record, "")
	if r.retryable && (r.reason == once.InFlight && !s.isLast(r.delay) || repeated && !s.mayBeLast(r.delay)) {
		o.Category = temporal.ApplicationErrorCategoryBenign
	}
	return temporal.NewApplicationErrorWithOptions(c.message(r), string(r.reason), o)
}

// isRepeated reports whether the refusal has been reported: one that goes on with
// each retry, or that is about a doubt.
func (c *call) isRepeated(r refusal) bool {
	if r.reason == once.InFlight || !r.retryable && r.reason != once.InDoubt {
		return false
	}
	return c.guard.repeats.isRepeatedRefusal(r.reason, r.settling, c.info.ActivityType.Name, c.digest, r.record)
}

func (c *call) message(r refusal) string {
	name := fmt.Sprintf("%s [key %s]", c.info.ActivityType.Name, c.digest)
	next := fmt.Sprintf("Temporal tries again in %v", r.delay.Round(time.Millisecond))
	switch {
	case !r.retryable:
		next = "not retried"
	case c.lastAttempt():
		next = "this was the last attempt"
	}
	const earlier = ". An earlier attempt, if there was one, may have had the effect"
	switch r.reason {
	case once.InFlight:
		return fmt.Sprintf("in flight: %s %s: %s", name, inFlight(r), next)
	case once.Duplicate:
		return fmt.Sprintf("duplicate: %s belongs to %s; this call was not run: %s, policy Reject. See there what came of it", name, holder(r.record), next)
	case once.Mismatch:
		return fmt.Sprintf("mismatch: %s belongs to %s, which had other input; this call was not run: %s. If the difference does not matter, say so with Policy.Match; if it does, tell the two apart with Policy.Key",
			name, holder(r.record), next)
	case once.InDoubt:
		return fmt.Sprintf("in doubt: nobody knows whether %s took effect, last run by %s, %s %s: %s, policy %v. %s",
			name, holder(r.record), began(r.record), since(r.record).UTC().Format(time.RFC3339), next, c.policy.InDoubt, c.clear(r))
	case once.OutcomeNotKept:
		if r.record.Outcome.State == store.Failed {
			return fmt.Sprintf("outcome not kept: %s ended in a final failure and belongs to %s, but the failure was not recorded (%s): %s. See there what it was",
				name, holder(r.record), r.record.Outcome.Missing, next)
		}
		return fmt.Sprintf("outcome not kept: %s took effect and belongs to %s, but the result was not recorded (%s): %s. Take the result from the callee, then mend what the activity returns",
			name, holder(r.record), r.record.Outcome.Missing, next)
	case once.StoreDown:
		return fmt.Sprintf("store down: %s was not run: %s. Look at the store, as the cause says; then calls go on by themselves%s", name, next, earlier)
	case once.BadRecord:
		return fmt.Sprintf("bad record: %s was not run, because its record cannot be read: %s. The cause says why%s", name, next, earlier)
	case once.BadKey:
		return fmt.Sprintf("bad key: %s was not run, because no key could be made for it: %s. The cause says what to change%s", c.info.ActivityType.Name, next, earlier)
	default:
		return fmt.Sprintf("bad set-up: %s was not run: %s. The cause says what to change%s", c.info.ActivityType.Name, next, earlier)
	}
}

// inFlight says why the call did not get the key, or lost it.
func inFlight(r refusal) string {
	switch {
	case r.cause != nil && r.record.By == store.ByOperator:
		return fmt.Sprintf("was run by this call, which ended as the cause says, but %s had come before that, and counts", holder(r.record))
	case r.cause != nil:
		return fmt.Sprintf("was run by this call, which ended as the cause says, and then by %s, whose outcome decides", holder(r.record))
	case r.record.State == store.Running:
		return fmt.Sprintf("is being run by %s; this call was not run", holder(r.record))
	case unreported(r.record):
		return fmt.Sprintf("was started by %s, which had time until %s, and nobody has reported its end: %s. This call was not run",
			holder(r.record), r.record.Deadline.UTC().Format(time.RFC3339), reportIt)
	case r.record.State == store.Pending:
		return fmt.Sprintf("was started by %s, and its end is to be reported from outside; this call was not run", holder(r.record))
	}
	return "was not run, because the worker is stopping or too little of this attempt is left"
}

// clear says how the doubt can end.
func (c *call) clear(r refusal) string {
	without := "Waiting does not clear it"
	switch {
	case r.final:
		without = "What it returned last, the cause, is final"
	case !r.retryable, c.lastAttempt():
		without = c.unanswered(r)
	case c.policy.InDoubt.TakesOver():
		without = "If that does not clear it"
	}
	if unreported(r.record) {
		return without + ": nobody has reported the end of what that call started; " + reportIt
	}
	until := mayActUntil(r.record, c.guard.options.SettleDelay)
	return without + ": the last owner may act until " + shownTime(until) + "; then find out at the callee, and resolve the key with Guard.Resolve"
}

// reportIt says how a pending record ends.
const reportIt = "report it with Guard.Complete (the client's CompleteActivity does not reach the record), or find out at the callee and resolve the key with Guard.Resolve"

// unreported reports whether the end of an asynchronous activity is overdue.
func unreported(r store.Record) bool {
	return r.State == store.Pending && !r.Deadline.IsZero() && r.Now.After(r.Deadline)
}

// unanswered says why the call ended without an answer.
func (c *call) unanswered(r refusal) string {
	p, age := c.policy.InDoubt, r.record.Now.Sub(r.record.Doubted)
	if r.record.State == store.Pending {
		age = r.record.Now.Sub(r.record.Deadline)
	}
	held, limited := p.HoldTime()
	switch early := age < c.guard.options.SettleDelay; {
	case early && p.Reconciles():
		return "The call ended before the settle delay was over, so the callee was not asked"
	case early && p.TakesOver():
		return "The call ended before the settle delay was over, so it was not run again"
	case limited && age < held:
		return fmt.Sprintf("The call ended before the hold of %v was over", held)
	}
	return "The workflow goes on without an answer"
}

// since is when the holder got the key, or the doubt began.
func since(r store.Record) time.Time {
	if !r.Doubted.IsZero() {
		return r.Doubted
	}
	return r.Claimed
}

// began says what began then.
func began(r store.Record) string {
	if r.Doubted.IsZero() {
		return "which began at"
	}
	return "in doubt since"
}

// holder names the call that has the key.
func holder(r store.Record) string {
	h := r.Info.Holder
	switch {
	case r.By == store.ByReconcile:
		return "what the Reconcile function found"
	case r.By != "" && r.By != store.BySuperseded:
		return "a decision of the " + r.By
	case h.WorkflowID != "":
		return fmt.Sprintf("workflow %s, run %s, attempt %d", h.WorkflowID, h.RunID, h.Attempt)
	case h.ActivityID != "":
		return fmt.Sprintf("activity %s, run %s, attempt %d", h.ActivityID, h.ActivityRunID, h.Attempt)
	}
	return "another call"
}
