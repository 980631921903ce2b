package engine

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// storeRetry is how long Temporal waits before it tries again while the store
// is down.
const storeRetry = 5 * time.Second

// keyless answers a call for which no key could be made.
func (c *call) keyless(ctx context.Context, body Body, why error, mode once.Mode) (any, error) {
	e := c.account.event(observe.KindClaim)
	ctx, _, end := c.account.begin(ctx, e)
	defer func() { end(e) }()
	unguarded := func() (any, error) {
		e.Kind = observe.KindSkip
		result, err := body(c.unclaimed(ctx))
		e.Err = err
		return result, err
	}
	if errors.Is(why, keys.ErrSkip) {
		return unguarded()
	}
	r := Refusal{Reason: once.BadKey, Cause: why}
	switch setup := (*setupError)(nil); {
	case errors.As(why, &setup):
		r.Reason, r.Retryable, r.Delay, r.Cause = once.BadSetup, true, maxRetry, setup.why
	case errors.Is(why, ErrInput) && !errors.Is(why, ErrArgument): // a codec that cannot be reached, say
		r.Retryable, r.Delay = true, maxRetry
	}
	if mode == once.Observe {
		c.observed(ctx, store.Record{}, decision{do: refuse, reason: r.Reason}, r.Cause)
		return unguarded()
	}
	e.Kind, e.Reason = observe.KindFail, r.Reason
	e.Repeated, e.Err = c.refuse(ctx, r)
	return nil, e.Err
}

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
	c.claim = newClaim(c.engine.store, &c.Request, c.engine.options, c.account, true, traceparent)
	pause := newPause(c)
	defer pause.end()
	for {
		if ctx.Err() != nil {
			return c.ended(ctx)
		}
		r, err := c.look(ctx)
		if err != nil && ctx.Err() != nil {
			return c.ended(ctx)
		}
		d, why := c.decide(r, err)
		report.Earlier = store.Record{} // of a takeover that came too late
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
			pause.end()
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

// warn reports what may come of the way in which the call is made, and of the store.
func (c *call) warn(ctx context.Context) {
	if c.Holder.Attempt == 1 {
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
	c.engine.checks.look(ctx, c.account)
}

// look acquires the key, or only looks when it is too late to run.
func (c *call) look(ctx context.Context) (store.Record, error) {
	if s := c.situation(store.Record{}); s.late || s.givesWay() {
		return c.claim.load(ctx)
	}
	r, err := c.claim.acquire(ctx)
	if err == nil && c.isDistrusted(r, c.claim.nonce()) {
		return c.claim.doubt(ctx, r)
	}
	return r, err
}

// isDistrusted reports whether the claim of that nonce, which r grants, may not be the
// first run: the call was scheduled before the guard was there, and nothing was decided
// about it since. A bid that was given back decides nothing.
func (c *call) isDistrusted(r store.Record, nonce string) bool {
	if !r.Owned(nonce) || r.Origin != store.First || !c.isOlder() {
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
