package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/atmostonce/atmostonce/internal/effect"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// Refusal is an answer of the guard's own.
type Refusal struct {
	Reason    once.Reason
	Record    store.Record // that it rests on
	Retryable bool
	Delay     time.Duration // after which the caller is to come back
	Settling  bool          // in doubt, and the policy has not decided yet
	Final     bool          // in doubt, and what the body returned ends the call
	Untouched bool          // the store knows of no run
	Cause     error         // what the guard got from others

	Activity string
	Digest   string
	InDoubt  once.DoubtPolicy
	Last     bool // no attempt follows
	Alone    bool // nobody tries again by himself
	// Benign says that the answer asks the caller to come back, and is no failure: in
	// flight, or as it was reported before.
	Benign      bool
	SettleDelay time.Duration
}

// doubtful is the refusal of a call whose body has ended in cause and left its record
// so: in doubt, or decided by a successor or an operator.
func (s situation) doubtful(d Door, retries *Retries, cause error) Refusal {
	if s.record.State != store.InDoubt {
		return Refusal{Reason: once.InFlight, Record: s.record, Retryable: true, Delay: minRetry, Cause: cause}
	}
	delay := s.settleDelay
	p := s.policy.InDoubt
	switch {
	case s.isDecidable():
		delay = minRetry
	case !p.TakesOver() && p != once.Fail:
		delay = max(delay, s.holdRetry)
	}
	// Under Rerun and Resume the next attempt would run the body again, although it
	// has said its last word.
	final := false
	if p == once.Rerun || p == once.Resume {
		quietly(func() { final = d.IsFinal(cause, retries) }) // which asks cause
	}
	return Refusal{
		Reason: once.InDoubt, Record: s.record, Delay: s.refuseRetryably(once.InDoubt, delay).delay, Cause: cause,
		// Also under Fail: every decision comes after the settle delay.
		Retryable: !final && !s.isLast(minRetry), Settling: !final && s.isPassing(), Final: final,
	}
}

// Details is what the caller can ask for.
func (r Refusal) Details() once.Refusal {
	h := r.Record.Info.Holder
	return once.Refusal{
		Reason: r.Reason, Activity: r.Activity, Key: r.Digest, WorkflowID: h.WorkflowID, RunID: h.RunID, Attempt: h.Attempt,
		Since: since(r.Record), Trace: r.Record.Info.Trace, Untouched: r.Untouched,
	}
}

// Message starts with the verdict, says what that means for the effect and what comes
// next, and never shows input. again is what happens if the caller is to come back.
func (r Refusal) Message(again string) string {
	name := fmt.Sprintf("%s [key %s]", r.Activity, r.Digest)
	next := fmt.Sprintf("%s in %v", again, r.Delay.Round(time.Millisecond))
	switch {
	case !r.Retryable:
		next = "not retried"
	case r.Last:
		next = "this was the last attempt"
	}
	earlier, callee, see := ". An earlier attempt, if there was one, may have had the effect", "activity", "See there what came of it"
	if r.Alone {
		earlier, callee, see = ". An earlier call, if there was one, may have had the effect", "function", "Guard.Find shows what came of it"
		if r.Activity == "" {
			r.Activity = "a function without a name"
		}
	}
	switch r.Reason {
	case once.InFlight:
		if unreported(r.Record) {
			next += ". " + r.reportIt()
		}
		return fmt.Sprintf("in flight: %s %s: %s", name, r.inFlight(), next)
	case once.Duplicate:
		return fmt.Sprintf("duplicate: %s belongs to %s; this call was not run: %s, policy Reject. %s", name, holder(r.Record), next, see)
	case once.Mismatch:
		return fmt.Sprintf("mismatch: %s belongs to %s, which had other input; this call was not run: %s. If the difference does not matter, say so with Policy.Match; if it does, tell the two apart with Policy.Key",
			name, holder(r.Record), next)
	case once.InDoubt:
		return fmt.Sprintf("in doubt: nobody knows whether %s took effect, last run by %s, %s %s: %s, policy %v. %s",
			name, holder(r.Record), began(r.Record), since(r.Record).UTC().Format(time.RFC3339), next, r.InDoubt, r.clear())
	case once.OutcomeNotKept:
		if r.Record.Outcome.State == store.Failed {
			return fmt.Sprintf("outcome not kept: %s ended in a final failure and belongs to %s, but the failure was not recorded (%s): %s. See there what it was",
				name, holder(r.Record), r.Record.Outcome.Missing, next)
		}
		return fmt.Sprintf("outcome not kept: %s took effect and belongs to %s, but the result was not recorded (%s): %s. Take the result from the callee, then mend what the %s returns",
			name, holder(r.Record), r.Record.Outcome.Missing, next, callee)
	case once.StoreDown:
		return fmt.Sprintf("store down: %s was not run: %s. Look at the store, as the cause says; then calls go on by themselves%s", name, next, earlier)
	case once.BadRecord:
		if errors.Is(r.Cause, effect.ErrMissing) {
			return fmt.Sprintf("bad record: %s took effect and belongs to %s, but the ledger that had the effect does not have it any more; this call was not run: %s. "+
				"Its database is older than the record: it was restored to an earlier time, or a fail-over has lost what was committed last. Compare what it has with the records of that time. "+
				"If this effect is gone, resolve the key with Guard.Resolve as not done, and it happens again; if it is not, resolve it as done", name, holder(r.Record), next)
		}
		return fmt.Sprintf("bad record: %s was not run, because its record cannot be read: %s. The cause says why%s", name, next, earlier)
	case once.BadKey:
		return fmt.Sprintf("bad key: %s was not run, because no key could be made for it: %s. The cause says what to change%s", r.Activity, next, earlier)
	default:
		return fmt.Sprintf("bad set-up: %s was not run: %s. The cause says what to change%s", r.Activity, next, earlier)
	}
}

// inFlight says why the call did not get the key, or lost it.
func (r Refusal) inFlight() string {
	switch {
	case r.Cause != nil && r.Record.By == store.ByOperator:
		return fmt.Sprintf("was run by this call, which ended as the cause says, but %s had come before that, and counts", holder(r.Record))
	case r.Cause != nil:
		return fmt.Sprintf("was run by this call, which ended as the cause says, and then by %s, whose outcome decides", holder(r.Record))
	case r.Record.State == store.Running:
		return fmt.Sprintf("is being run by %s; this call was not run", holder(r.Record))
	case unreported(r.Record):
		return fmt.Sprintf("was started by %s, which had time until %s, and nobody has reported its end; this call was not run",
			holder(r.Record), r.Record.Deadline.UTC().Format(time.RFC3339))
	case r.Record.State == store.Pending:
		return fmt.Sprintf("was started by %s, and its end is to be reported from outside; this call was not run", holder(r.Record))
	}
	if r.Alone {
		return "was not run by this call, because its context has ended or the guard is being closed; another call may be running it"
	}
	return "was not run, because the worker is stopping or too little of this attempt is left"
}

// clear says how the doubt can end.
func (r Refusal) clear() string {
	without := "Waiting does not clear it"
	switch {
	case r.Final:
		without = "What it returned last, the cause, is final"
	case !r.Retryable, r.Last:
		without = r.unanswered()
	case r.InDoubt.Ledger() != nil && !isDecidable(r.InDoubt, r.Record):
	case r.InDoubt.TakesOver():
		without = "If that does not clear it"
	}
	if unreported(r.Record) {
		return without + ": nobody has reported the end of what that call started. " + r.reportIt()
	}
	until := MayActUntil(r.Record, r.SettleDelay)
	return without + ": the last owner may act until " + shownTime(until) + "; then find out at the callee, and settle it: " + r.command()
}

// reportIt says how a pending record ends.
func (r Refusal) reportIt() string {
	return "Report it with Guard.Complete (the client's CompleteActivity does not reach the record), or find out at the callee and settle it: " + r.command()
}

// command is what shows an operator the key, and how to go on.
func (r Refusal) command() string { return "temporal atmostonce show " + r.Digest }

// unreported reports whether the end of an asynchronous activity is overdue.
func unreported(r store.Record) bool {
	return r.State == store.Pending && !r.Deadline.IsZero() && r.Now.After(r.Deadline)
}

// unanswered says why the call ended without an answer.
func (r Refusal) unanswered() string {
	p, age := r.InDoubt, r.Record.Now.Sub(r.Record.Doubted)
	if r.Record.State == store.Pending {
		age = r.Record.Now.Sub(r.Record.Deadline)
	}
	held, limited := p.HoldTime()
	switch early := age < r.SettleDelay && p.Ledger() == nil; {
	case early && p.Reconciles():
		return "The call ended before the settle delay was over, so the callee was not asked"
	case early && p.TakesOver():
		return "The call ended before the settle delay was over, so it was not run again"
	case limited && age < held:
		return fmt.Sprintf("The call ended before the hold of %v was over", held)
	}
	if r.Alone {
		return "The caller goes on without an answer"
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
	case r.By == store.ByReconcile && r.Outcome.InLedger:
		return "what the ledger has"
	case r.By == store.ByReconcile:
		return "what the Reconcile function found"
	case r.By != "" && r.By != store.BySuperseded:
		return "a decision of the " + r.By
	case h.WorkflowID != "":
		return fmt.Sprintf("workflow %s, run %s, attempt %d", h.WorkflowID, h.RunID, h.Attempt)
	case h.ActivityID != "":
		return fmt.Sprintf("activity %s, run %s, attempt %d", h.ActivityID, h.ActivityRunID, h.Attempt)
	case h.ActivityRunID != "":
		return fmt.Sprintf("call %s of %s", h.ActivityRunID, h.Worker)
	}
	return "another call"
}
