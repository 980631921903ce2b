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

// serve carries the call from its claim to its answer.
func (c *call) serve(ctx context.Context, body Body) (any, error) {
	report := &c.account.report
	*report = c.account.event(observe.KindClaim)
	ctx, traceparent, end := c.account.begin(ctx, *report)
	defer func() {
		if report.Kind == observe.KindClaim { // a function of the user's panics
			report.Kind = observe.KindFail
		}
		end(*report)
	}()
	c.warn(ctx)
	c.claim = newClaim(c.engine.store, &c.Request, c.engine.options, &c.account, true, traceparent)
	pause := newPause(c)
	defer pause.end(ctx)
	for {
		if ctx.Err() != nil {
			return c.ended(ctx)
		}
		r, err := pause.look(ctx)
		if err != nil && ctx.Err() != nil {
			return c.ended(ctx)
		}
		d, why := c.decide(r, err)
		report.Earlier = store.Record{} // of a takeover that came too late
		if (d.do == takeOver || d.do == ask) && !pause.act(r) {
			d = decision{do: await, delay: time.Until(c.Answer)}
		}
		switch d.do {
		case takeOver:
			report.Earlier = shown(r)
			r, d, why = c.takeOver(ctx, r, false)
		case ask:
			report.Earlier, report.Record = shown(r), shown(r)
			r, d, why = c.ask(ctx, r)
		}
		report.Record = shown(r)
		switch d.do {
		case run:
			if c.claim.isStale() { // begin nothing under it
				c.claim.giveBack(ctx)
				continue
			}
			pause.own(ctx, r)
			return c.execute(ctx, r, body)
		case replay:
			return c.replay(ctx, r)
		case refuse:
			return c.fail(ctx, Refusal{Reason: d.reason, Record: r, Retryable: d.retryable, Delay: d.delay, Settling: d.settling,
				Cause: why, Untouched: err == nil && why == nil && c.isUntouched(r)})
		}
		if err := pause.next(ctx, r, d.delay); err != nil {
			return c.ended(ctx)
		}
	}
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
	if s := c.situation(store.Record{}); s.late || s.givesWay() {
		return c.claim.load(ctx)
	}
	r, err := c.claim.acquire(ctx)
	// It may have run before the guard was there.
	if err == nil && c.isOlder() && isFirst(r, c.claim.nonce()) {
		return c.claim.doubt(ctx, r)
	}
	return r, err
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
	result, err := c.find(ctx)
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
	outcome, _, err := c.Door.Encode(ctx, result)
	if err != nil {
		outcome.Missing = "what the reconcile function found could not be encoded"
	}
	r, err := c.claim.decide(ctx, from, outcome)
	if errors.Is(err, store.ErrMoved) {
		return r, decision{do: await, delay: minRetry}, nil
	}
	d, why := c.decide(r, err)
	return r, d, why
}

var errTooLate = errors.New("the reconcile function said that the effect did not happen, but too little of the attempt was left to run the activity: raise StartToCloseTimeout")

// find calls the policy's function, heartbeating for it.
func (c *call) find(ctx context.Context) (result any, err error) {
	ctx = once.NewContext(ctx, once.Claim{Key: c.Downstream})
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
	report := &c.account.report
	report.Reason = once.InDoubt // should it panic
	result, err = c.Policy.InDoubt.Find(ctx, c.Args)
	report.Reason = ""
	return result, err
}

// execute runs the body under the claim that r grants, and records what came of
// it.
func (c *call) execute(ctx context.Context, r store.Record, body Body) (result any, err error) {
	report := &c.account.report
	c.claim.grant(r)
	if ctx.Err() != nil {
		c.claim.release(ctx, nil)
		report.Record = store.Record{} // nobody has the key
		return c.ended(ctx)
	}
	c.claim.begin()
	report.Kind, report.Takeover, report.Record = observe.KindExecute, r.Origin == store.Taken, shown(r)
	origin := r.Origin
	bctx, l := c.claim.hold(once.NewContext(c.evidence.watch(ctx), once.Claim{
		Key: c.Downstream, Fence: r.Fence, Takeover: r.Origin == store.Taken,
		Token: func() string { return c.Door.Token(c.claim.bid, origin, c.evidence.begun.Load()) },
		Begin: func() { c.evidence.begun.Store(true) },
	}))
	returned := false
	defer func() {
		if !returned { // a panic or Goexit, of a converter's or classifier's too, passes through
			report.Reason, report.Settling = once.InDoubt, c.situation(r).isPassing()
			c.claim.settle(ctx, l, c.Door.EncodeDoubt(ctx, c.Door.Panicked()))
		}
	}()
	result, err = l.run(bctx, body)
	result, err = c.conclude(ctx, r, l, result, err)
	returned = true
	return result, err
}

// conclude records the outcome of a body that returned, and makes the answer.
func (c *call) conclude(ctx context.Context, r store.Record, l *lease, result any, err error) (any, error) {
	switch {
	case err == nil:
		o, answer, broken := c.Door.Encode(ctx, result)
		c.claim.settle(ctx, l, o)
		if broken != nil {
			r.Outcome = o
			return c.ran(c.fail(ctx, Refusal{Reason: once.OutcomeNotKept, Record: r, Cause: broken}))
		}
		return answer, nil
	case c.Door.IsPending(err):
		c.claim.settle(ctx, l, store.Outcome{State: store.Pending})
		return nil, err
	}
	verdict := c.evidence.verdict(c.Policy.OnFailure, err, r.Origin, l.body.Err() != nil)
	if verdict == once.Lock && c.steps.wraps(err) { // it is not the last word
		verdict = once.Unlock
	}
	err = once.Plain(err)
	var now store.Record
	switch verdict {
	case once.Unlock:
		now = c.claim.release(ctx, l)
		if r.Origin != store.Taken {
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
		return c.ran(c.replay(ctx, now))
	case store.InDoubt:
		return c.doubtful(ctx, now, err)
	case store.Running, store.Pending: // a successor's: its end decides
		return c.ran(c.fail(ctx, Refusal{Reason: once.InFlight, Record: now, Retryable: true, Delay: minRetry, Cause: err}))
	}
	c.account.report.Err = err
	return nil, err
}

// doubtful answers for a body after which the effect is in doubt.
func (c *call) doubtful(ctx context.Context, now store.Record, cause error) (any, error) {
	if now.State == store.Succeeded {
		return c.ran(c.replay(ctx, now))
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
