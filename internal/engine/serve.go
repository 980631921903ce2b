package engine

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// storeRetry is after how long a caller is to come back while the store is down.
const storeRetry = 5 * time.Second

// serve carries the call from its claim to its answer. While the body runs, its frames
// are on the stack: what is large is in those of the functions that it calls, which are
// gone by then.
func (c *call) serve(ctx context.Context, body Body) (any, error) {
	ctx, traceparent, end := c.begin(ctx)
	defer c.finish(end)
	c.warn(ctx)
	c.claim.open(c, true, traceparent)
	pause := newPause(c)
	defer pause.end(ctx)
	for {
		switch do, result, err := c.turn(ctx, pause); do {
		case run:
			return c.execute(ctx, body)
		case await:
		default:
			return result, err
		}
	}
}

// begin reports that the call begins.
func (c *call) begin(ctx context.Context) (bctx context.Context, traceparent string, end func(observe.Event)) {
	c.account.report = c.account.event(observe.KindClaim)
	return c.account.begin(ctx, c.account.report)
}

// finish reports that it has ended.
func (c *call) finish(end func(observe.Event)) {
	report := &c.account.report
	if report.Kind == observe.KindClaim { // a function of the user's panics
		report.Kind = observe.KindFail
	}
	end(*report)
}

// turn looks at the key once, and carries out what decide says: run says that the claim
// is granted, await that it is time to look again; else there is an answer.
func (c *call) turn(ctx context.Context, pause *pause) (do action, result any, err error) {
	if ctx.Err() != nil {
		result, err = c.ended(ctx)
		return refuse, result, err
	}
	r, err := pause.look(ctx)
	if err != nil && ctx.Err() != nil {
		result, err = c.ended(ctx)
		return refuse, result, err
	}
	d, why := c.judge(ctx, pause, &r, err)
	c.account.report.Record = shown(r)
	if d.do == replay {
		if d, why = c.confirm(ctx, r); why != nil && ctx.Err() != nil {
			result, err = c.ended(ctx)
			return refuse, result, err
		}
	}
	switch d.do {
	case run:
		if c.claim.isStale() { // begin nothing under it
			c.claim.giveBack(ctx)
			return await, nil, nil
		}
		c.claim.grant(r)
		pause.own(ctx, r)
		return run, nil, nil
	case replay:
		result, err = c.replay(ctx, r)
		return replay, result, err
	case refuse:
		result, err = c.refused(ctx, &r, d, why, err)
		return refuse, result, err
	}
	if err := pause.next(ctx, r, d.delay); err != nil {
		result, err = c.ended(ctx)
		return refuse, result, err
	}
	return await, nil, nil
}

// judge decides on what the store said, and acts on a doubt. r is then the record that
// the decision is about.
func (c *call) judge(ctx context.Context, pause *pause, r *store.Record, err error) (d decision, why error) {
	d, why = c.decide(*r, err)
	c.account.report.Earlier = store.Record{} // of a takeover that came too late
	switch {
	case d.do != takeOver && d.do != ask:
		return d, why
	case !pause.act(*r):
		return decision{do: await, delay: time.Until(c.Answer)}, nil
	}
	return c.clear(ctx, r, d.do)
}

// clear acts on a doubt.
func (c *call) clear(ctx context.Context, r *store.Record, do action) (d decision, why error) {
	report := &c.account.report
	report.Earlier = shown(*r)
	if do == ask {
		report.Record = report.Earlier
		*r, d, why = c.ask(ctx, *r)
	} else {
		*r, d, why = c.takeOver(ctx, *r, false)
	}
	return d, why
}

// refused answers as d says; err is what the store said.
func (c *call) refused(ctx context.Context, r *store.Record, d decision, why, err error) (any, error) {
	return c.fail(ctx, Refusal{Reason: d.reason, Record: *r, Retryable: d.retryable, Delay: d.delay, Settling: d.settling,
		Cause: why, Untouched: err == nil && why == nil && c.isUntouched(*r)})
}

// warn reports risks: of the way in which the call is made, and of the store.
func (c *call) warn(ctx context.Context) {
	if c.Holder.Attempt == 1 && c.step == "" {
		if c.most() == 1 {
			c.account.notice(ctx, observe.OneAttempt, store.Record{}, nil)
		}
		if err := c.defeats(c.engine.options, c.engine.seesDeath); err != nil {
			c.account.notice(ctx, observe.PolicyDefeated, store.Record{}, err)
		}
	}
	if c.lacksHeader(c.Policy.Scope) {
		c.account.notice(ctx, observe.NoHeader, store.Record{}, c.HeaderErr)
	}
	c.engine.checks.look(ctx, &c.account)
}

// look acquires the key, or only looks when it is too late to run.
func (c *call) look(ctx context.Context) (store.Record, error) {
	if c.comesTooLate() {
		return c.claim.load(ctx)
	}
	r, err := c.claim.acquire(ctx)
	// It may have run before the guard was there.
	if err == nil && c.isOlder() && isFirst(r, c.claim.nonce()) {
		return c.claim.doubt(ctx, r)
	}
	return r, err
}

// comesTooLate reports whether the call does not ask for the key any more.
func (c *call) comesTooLate() bool {
	s := c.situation(store.Record{})
	return s.late || s.givesWay()
}

// isFirst reports whether r grants the claim of that nonce as the first run, as far as
// the store knows, and nothing was decided about the key since. A bid that was given
// back decides nothing.
func isFirst(r store.Record, nonce string) bool {
	if !r.Owned(nonce) || r.Origin != store.First {
		return false
	}
	return !slices.ContainsFunc(r.History, func(t store.Turn) bool {
		return t.What == store.TurnResolved || t.What == store.TurnTakenOver
	})
}

// takeOver claims a record in doubt under the policies that may.
func (c *call) takeOver(ctx context.Context, from store.Record, clean bool) (store.Record, decision, error) {
	r, err := c.claim.takeOver(ctx, from, clean)
	if errors.Is(err, store.ErrMoved) || errors.Is(err, store.ErrSuperseded) {
		return r, decision{do: await, delay: minRetry}, nil // somebody was faster: look again
	}
	d, why := c.decide(r, err)
	return r, d, why
}

// ask lets the policy's function find out what happened, and acts on its answer
// at once: the answer is about the record that was read before.
func (c *call) ask(ctx context.Context, from store.Record) (store.Record, decision, error) {
	outcome, err := c.find(ctx, from)
	c.account.notice(ctx, observe.Reconciled, from, err)
	s := c.situation(from)
	switch {
	case errors.Is(err, once.ErrNotDone):
		if ctx.Err() != nil || s.late || s.givesWay() {
			return from, s.undecided(c.engine.options.HoldRetry), errTooLate
		}
		return c.takeOver(ctx, from, true)
	case err != nil:
		d := s.refuseRetryably(once.InDoubt, c.engine.options.HoldRetry)
		d.retryable = !s.isLast(d.delay)
		return from, d, c.Door.After(err, c.Door.DecodeDoubt(ctx, from.Outcome))
	}
	r, err := c.claim.decide(ctx, from, outcome)
	if errors.Is(err, store.ErrMoved) {
		return r, decision{do: await, delay: minRetry}, nil
	}
	d, why := c.decide(r, err)
	return r, d, why
}

var errTooLate = errors.New("it is known that the effect did not happen, but too little of the attempt was left to run the activity: raise StartToCloseTimeout")

// find calls the policy's function, or asks its ledger, and returns the outcome of the
// effect if that took place.
func (c *call) find(ctx context.Context, from store.Record) (o store.Outcome, err error) {
	report := &c.account.report
	report.Reason = once.InDoubt // should it panic
	if l := c.ledger(); l != nil {
		in, cancel := context.WithDeadline(ctx, c.Answer)
		defer cancel()
		c.beating(in, func() { o, err = decideIn(in, l, c.runOf(from)) })
		report.Reason = ""
		return o, err
	}
	var result any
	in := once.NewContext(ctx, once.Claim{Key: c.Downstream})
	c.beating(in, func() { result, err = c.Policy.InDoubt.Find(in, c.Args) })
	report.Reason = ""
	if err != nil {
		return o, err
	}
	o, _, broken := c.Door.Encode(ctx, result)
	if broken != nil {
		o.Missing = "what the reconcile function found could not be encoded"
	}
	return o, nil
}

// beating calls f, and sends heartbeats for it.
func (c *call) beating(ctx context.Context, f func()) {
	tick, stop := c.ticks()
	defer stop()
	done := make(chan struct{})
	var beating sync.WaitGroup
	defer beating.Wait()
	defer close(done)
	if tick != nil {
		beating.Go(func() {
			for {
				select {
				case <-tick:
					c.Door.Beat(ctx)
				case <-done:
					return
				}
			}
		})
	}
	f()
}

// execute runs the body under the claim that is granted, by the record that is reported,
// and records what came of it.
func (c *call) execute(ctx context.Context, body Body) (result any, err error) {
	report := &c.account.report
	if ctx.Err() != nil {
		return c.notBegun(ctx)
	}
	c.claim.begin()
	report.Kind, report.Takeover = observe.KindExecute, report.Record.Origin == store.Taken
	bctx, l := c.claim.hold(c.claimed(ctx), c.engine.renewer)
	ended, returned := false, false
	defer func() {
		switch o, _ := c.told.end(); {
		case returned:
		case o == nil || ended || !c.enforced: // a panic or Goexit, of a converter's or classifier's too, passes through
			c.panicked(ctx, l)
		default: // the effect took place, and that is the answer
			result, err = c.vouched(ctx, l, *o, paniced(recover()))
		}
	}()
	result, err = l.run(bctx, body)
	ended = true
	result, err = c.conclude(ctx, l, result, err)
	returned = true
	return result, err
}

// notBegun answers for a call whose context ended before its body began.
func (c *call) notBegun(ctx context.Context) (any, error) {
	c.claim.release(ctx, nil)
	c.account.report.Record = store.Record{} // nobody has the key
	return c.ended(ctx)
}

// claimed is the context of a body, which has the claim.
func (c *call) claimed(ctx context.Context) context.Context {
	fence, origin := c.claim.bid.Fence, c.account.report.Record.Origin
	return once.NewContext(c.evidence.watch(ctx), once.Claim{
		Key: c.Downstream, Fence: fence, Takeover: origin == store.Taken,
		Token: func() string { return c.Door.Token(c.claim.bid, origin, c.evidence.begun.Load()) },
		Begin: func() { c.evidence.begun.Store(true) },
	})
}

// panicked records that a body did not return.
func (c *call) panicked(ctx context.Context, l *lease) {
	report := &c.account.report
	report.Reason, report.Settling = once.InDoubt, c.situation(report.Record).isPassing()
	c.claim.settle(ctx, l, c.Door.EncodeDoubt(ctx, c.Door.Panicked()))
}

// conclude records the outcome of a body that returned, and makes the answer.
func (c *call) conclude(ctx context.Context, l *lease, result any, err error) (any, error) {
	origin := c.account.report.Record.Origin
	if answered, result, failure := c.byLedger(ctx, l, &err); answered {
		return result, failure
	}
	switch {
	case err == nil:
		o, answer, broken := c.Door.Encode(ctx, result)
		c.claim.settle(ctx, l, o)
		if broken != nil {
			r := c.account.report.Record
			r.Outcome = o
			return c.ran(c.fail(ctx, Refusal{Reason: once.OutcomeNotKept, Record: r, Cause: broken}))
		}
		return answer, nil
	case c.Door.IsPending(err):
		c.claim.settle(ctx, l, store.Outcome{State: store.Pending})
		return nil, err
	}
	c.evidence.says = c.Door.LeavesOpen
	verdict := c.evidence.verdict(c.Policy.OnFailure, err, origin, l.body.Err() != nil)
	if verdict == once.Lock && c.steps.wraps(err) { // it is not the last word
		verdict = once.Unlock
	}
	err = once.Plain(err)
	var now store.Record
	switch verdict {
	case once.Unlock:
		now = c.claim.release(ctx, l)
		if origin != store.Taken {
			break
		}
		// An earlier run is still in doubt, whatever this one did.
		return c.doubtful(ctx, now, err)
	case once.Lock:
		var o store.Outcome
		o, err = c.Door.EncodeFailure(ctx, err)
		now = c.claim.settle(ctx, l, o)
	default:
		now = c.claim.settle(ctx, l, c.Door.EncodeDoubt(ctx, err))
		return c.doubtful(ctx, now, err)
	}
	switch now.State {
	case store.Succeeded: // an earlier run's, as it turned out
		return c.ran(c.replayConfirmed(ctx, now))
	case store.InDoubt:
		return c.doubtful(ctx, now, err)
	case store.Running, store.Pending: // a successor's: its end decides
		return c.ran(c.fail(ctx, Refusal{Reason: once.InFlight, Record: now, Retryable: true, Delay: minRetry, Cause: err}))
	}
	c.account.report.Err = err
	return nil, err
}

// byLedger answers for a body whose effect took place, as it has said or as the ledger
// knows, or whose ledger does not answer. Else err is what the body's end comes to.
func (c *call) byLedger(ctx context.Context, l *lease, err *error) (answered bool, result any, failure error) {
	o, wrote := c.told.end()
	ledger := c.ledger()
	switch {
	case !c.enforced:
		return false, nil, nil
	case o != nil:
		result, failure = c.vouched(ctx, l, *o, *err)
		return true, result, failure
	case ledger == nil || !wrote:
		return false, nil, nil
	}
	found, why := c.findOwn(ctx, ledger)
	switch {
	case why == nil:
		result, failure = c.vouched(ctx, l, found, *err)
	case errors.Is(why, once.ErrNotDone):
		c.evidence.undone = true
		if *err == nil || c.Door.IsPending(*err) {
			*err = errUncommitted
		}
		return false, nil, nil
	default:
		cause := c.Door.After(why, *err)
		now := c.claim.settle(ctx, l, c.Door.EncodeDoubt(ctx, cause))
		result, failure = c.doubtful(ctx, now, cause)
	}
	return true, result, failure
}

// doubtful answers for a body after which the effect is in doubt.
func (c *call) doubtful(ctx context.Context, now store.Record, cause error) (any, error) {
	if now.State == store.Succeeded {
		return c.ran(c.replayConfirmed(ctx, now))
	}
	if now.State == store.Absent { // not written yet
		now = store.Record{State: store.InDoubt, Info: c.claim.bid.Info, Claimed: time.Now(), Doubted: time.Now()}
	}
	return c.ran(c.fail(ctx, c.situation(now).doubtful(c.Door, c.Retries, cause)))
}

// ran passes an answer on for a call whose body did run, whatever the answer
// rests on.
func (c *call) ran(result any, err error) (any, error) {
	c.account.report.Kind = observe.KindExecute
	return result, err
}
