package engine

import (
	"context"
	"errors"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// off runs the body unguarded.
func (c *call) off(ctx context.Context, body Body) (any, error) {
	e, claim := c.account.event(observe.KindSkip), c.account.event(observe.KindClaim)
	claim.Digest = "" // nothing is claimed: there is no span to be the body's parent
	ctx, _, end := c.account.begin(ctx, claim)
	defer func() { end(e) }()
	result, err := body(c.unclaimed(ctx))
	e.Err = err
	return result, err
}

// unclaimed is the context of a body that runs without a claim.
func (c *call) unclaimed(ctx context.Context) context.Context {
	key := c.Downstream
	if key == "" {
		key = c.Door.KeyOf(ctx)
	}
	return once.NewContext(ctx, once.Claim{Key: key, Token: func() string { return c.Door.Token(store.Bid{}, "", c.evidence.begun.Load()) }})
}

// observe runs the body in any case: under a claim if there is one to be had.
func (c *call) observe(ctx context.Context, body Body) (result any, err error) {
	report := &c.account.report
	*report = c.account.event(observe.KindClaim)
	ctx, traceparent, end := c.account.begin(ctx, *report)
	returned := false
	defer func() {
		report.Kind, report.Reason, report.Settling, report.Err = observe.KindExecute, "", false, err
		switch {
		case !returned:
			report.Err = c.Door.Panicked()
		case c.Door.IsPending(err):
			report.Err = nil
		}
		end(*report)
	}()
	// A store that hangs must not cost the body its attempt.
	asking, cancel := context.WithTimeout(ctx, min(storeTimeout, c.span()/10))
	defer cancel()
	c.warn(asking)
	c.claim.open(c, false, traceparent)
	r, asked := c.claim.acquire(asking)
	if asked != nil && !definite(asked) { // nor must it cost the steps
		c.steps.mode = once.Off
	}
	report.Kind, report.Record = observe.KindExecute, shown(r)
	over := asked != nil && ctx.Err() != nil
	if d, why := c.decide(r, asked); d.do != run && !over { // which says nothing about the store
		c.observed(ctx, r, d, why)
		if asked == nil && r.State == store.InDoubt {
			report.Earlier = shown(r)
			r, asked = c.claim.takeOver(asking, r, false)
		}
	}
	ran := false
	if asked == nil && r.Owned(c.claim.nonce()) {
		ran, result, err = c.executeAnyway(ctx, r, body)
	}
	if !ran {
		result, err = body(c.unclaimed(ctx))
	}
	returned = true
	return result, err
}

// executeAnyway runs the body under a claim, which answers for its record only:
// what the body returned is passed on.
func (c *call) executeAnyway(ctx context.Context, r store.Record, body Body) (ran bool, result any, err error) {
	returned := false
	defer func() {
		if returned {
			_ = recover() // of what judges or encodes what the body returned
		}
	}()
	c.claim.grant(r)
	c.account.report.Record = shown(r)
	_, _ = c.execute(ctx, func(bctx context.Context) (any, error) {
		ran = true
		claim, _ := once.FromContext(bctx)
		result, err = body(once.NewContext(c.evidence.watch(ctx), claim))
		returned = true
		return result, err
	})
	return ran, result, err
}

// observed reports what Enforce would have answered.
func (c *call) observed(ctx context.Context, r store.Record, d decision, why error) {
	e := c.account.event(observe.KindNotice)
	e.Notice, e.Err, e.Record = observe.Observed, why, shown(r)
	switch d.do {
	case refuse:
		e.Reason = d.reason
	case await:
		e.Reason = once.InFlight
		if why != nil {
			e.Reason = once.StoreDown
		} else if r.State == store.InDoubt {
			e.Reason = once.InDoubt
		}
	case takeOver, ask:
		e.Reason = once.InDoubt
	}
	c.account.noticed(ctx, e)
}

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
