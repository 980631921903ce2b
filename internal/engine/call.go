package engine

import (
	"context"
	"errors"
	"time"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// call is one guarded attempt: it carries out what decide says.
type call struct {
	*Request
	engine   *Engine
	account  account
	claim    claim    // none before it asks for the key
	evidence evidence // of what the body did
	enforced bool     // the end of the life waits for it
	steps    steps    // of the body
	told     told     // of its effect
}

// Why a request has no key, besides keys.ErrSkip and what its own functions say.
var (
	// ErrInput: the input cannot be read, which may pass.
	ErrInput = errors.New("the input cannot be read")
	// ErrArgument: no later attempt will encode it either.
	ErrArgument = errors.New("it cannot be encoded")
	// ErrNotKept is broken of Door.Decode for an outcome that is missing.
	ErrNotKept = errors.New("outcome not kept")
)

// BadSetup says that a request has no key because it is not known what is called, or
// how it is encoded.
func BadSetup(why error) error { return &setupError{why} }

type setupError struct{ why error }

func (e *setupError) Error() string { return e.why.Error() }

// Do guards a call in that mode. unnamed is why it has no key; nil if it has one. The
// request is the call's from now on.
func (e *Engine) Do(ctx context.Context, r *Request, mode once.Mode, unnamed error, body Body) (any, error) {
	c := &call{Request: r, engine: e}
	c.account = account{reporter: e.reporter, identity: &c.Identity, policy: r.Policy.OnDuplicate}
	c.evidence.steps = &c.steps
	c.steps.call, c.steps.mode = c, mode
	body = c.steps.taking(body)
	switch {
	case mode == once.Off:
		return c.off(ctx, body)
	case unnamed != nil:
		return c.keyless(ctx, body, unnamed, mode)
	case mode == once.Observe:
		return c.observe(ctx, body)
	}
	c.enforced = true
	r.Life.tasks.begin()
	defer r.Life.tasks.end(!r.Test)
	return c.serve(ctx, body)
}

// Panicked reports a call that a panic has left without an identity.
func (e *Engine) Panicked(ctx context.Context, r Request) {
	a := e.reporter.open(r.Identity, r.Policy)
	_, _, end := a.begin(ctx, a.event(observe.KindClaim))
	failed := a.event(observe.KindFail)
	failed.Reason = once.BadKey
	end(failed)
}

// situation is what the call decides on when it meets r.
func (c *call) situation(r store.Record) situation {
	s := situation{
		policy: c.Policy, record: r, match: c.Match, local: c.Holder.Local,
		retry: c.isRetryOf(r), sameCall: c.isSameCall(r),
		nonce: c.claim.nonce(), settleDelay: c.engine.options.SettleDelay, holdRetry: c.engine.options.HoldRetry,
		timeLeft: time.Until(c.Answer), scheduleLeft: c.scheduleLeft(c.Holder.Scheduled),
		last: c.Last, unsure: c.Unsure, alone: c.Alone, stopping: c.stopping(),
	}
	s.late = c.late(s)
	// A local activity goes on until the SDK drops it.
	if end, stops := c.Life.End(); stops && !s.local {
		s.timeLeft = min(s.timeLeft, time.Until(end))
	}
	return s
}

// stopping reports whether the call has to stop. A step goes on where nobody else would
// with its call, for as long as somebody writes down what came of it.
func (c *call) stopping() bool {
	if c.step != "" && c.Alone {
		return c.Life.ctx.Err() != nil
	}
	select {
	case <-c.Life.stopping:
		return true
	case <-c.Stop:
		return true
	default:
		return false
	}
}

// decide asks decide, if the store gave a record to decide on.
func (c *call) decide(r store.Record, err error) (decision, error) {
	s := c.situation(r)
	switch {
	case err == nil:
		return decide(s), nil
	case errors.Is(err, store.ErrCorrupt), errors.Is(err, store.ErrVersion):
		return s.refuseRetryably(once.BadRecord, maxRetry), err
	case errors.Is(err, store.ErrInvalid):
		return decision{do: refuse, reason: once.BadSetup}, err
	default:
		return s.comeBack(once.StoreDown, storeRetry), err
	}
}

// isOlder reports whether the call was scheduled before the guard was there: it may
// have run without leaving a record.
// Of a step its call has been asked.
func (c *call) isOlder() bool {
	return c.step == "" && c.Holder.Scheduled.Before(c.engine.options.DistrustBefore)
}

// isUntouched reports whether r, as the store gave it, excludes an effect. The number
// of the attempt does not: a reset of the activity begins to count anew.
func (c *call) isUntouched(r store.Record) bool {
	return (r.State == store.Absent || r.State == store.Tombstone) && !c.isOlder()
}

// replay answers with the recorded outcome.
func (c *call) replay(ctx context.Context, r store.Record) (any, error) {
	c.meet(r)
	report := &c.account.report
	report.Kind, report.Record = observe.KindDuplicate, shown(r)
	if c.Policy.Scope == keys.PerWorkflow && !c.isSameCall(r) {
		what := observe.OtherRun
		if c.isSameRun(r) {
			what = observe.SameRun
		}
		c.account.notice(ctx, what, r, nil)
	}
	result, failure, broken := c.Door.Decode(ctx, r.Outcome)
	switch {
	case errors.Is(broken, ErrNotKept):
		return c.fail(ctx, Refusal{Reason: once.OutcomeNotKept, Record: r})
	case broken != nil:
		return c.fail(ctx, Refusal{Reason: once.BadRecord, Record: r, Retryable: true, Delay: maxRetry, Cause: broken})
	}
	report.Err = failure
	return result, failure
}

// fail answers with an error of the guard's own.
func (c *call) fail(ctx context.Context, r Refusal) (any, error) {
	report := &c.account.report
	report.Kind, report.Reason, report.Settling, report.Record = observe.KindFail, r.Reason, r.Settling, shown(r.Record)
	report.Repeated, report.Err = c.refuse(ctx, r)
	return nil, report.Err
}

// refuse makes the error of a refusal, and reports whether it repeats what has been
// reported: it goes on with each retry, or is about a doubt.
func (c *call) refuse(ctx context.Context, r Refusal) (repeated bool, err error) {
	s := c.situation(r.Record)
	if r.Reason != once.InFlight && (r.Retryable || r.Reason == once.InDoubt) {
		repeated = c.engine.reporter.repeats.isRepeatedRefusal(r.Reason, r.Settling, c.Activity, c.Digest, r.Record)
	}
	r.Alone = c.Alone
	r.Benign = r.Retryable && (r.Reason == once.InFlight && !s.isLast(r.Delay) || repeated && !s.mayBeLast(r.Delay))
	return repeated, c.engine.refuse(ctx, c.Door, &c.Identity, c.Policy.InDoubt, c.Last, r)
}

// refuse makes the error of a refusal that is about i; last says that no attempt
// follows.
func (e *Engine) refuse(ctx context.Context, d Door, i *Identity, p once.DoubtPolicy, last bool, r Refusal) error {
	if r.Reason == once.InDoubt && r.Cause == nil {
		r.Cause = d.DecodeDoubt(ctx, r.Record.Outcome)
		if l := p.Ledger(); l != nil && r.Record.Info.Ledger != l.ID() {
			r.Cause = d.After(otherLedger(l, r.Record.Info.Ledger), r.Cause)
		}
	}
	r.Activity, r.Digest, r.InDoubt, r.Last, r.SettleDelay = i.Activity, i.Digest, p, last, e.options.SettleDelay
	return d.Refuse(ctx, r)
}

// ended answers for a call whose context is over before it came to anything.
func (c *call) ended(ctx context.Context) (any, error) {
	report := &c.account.report
	cause := context.Cause(ctx)
	if c.Door.IsStop(cause) {
		return c.fail(ctx, Refusal{Reason: once.InFlight, Record: report.Record, Retryable: true, Delay: minRetry})
	}
	report.Kind, report.Err = observe.KindFail, cause
	return nil, cause
}
