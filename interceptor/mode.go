package interceptor

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// mode returns the mode of an activity.
func (g *Guard) mode(activity string) once.Mode {
	if f := g.options.Mode; f != nil {
		return f(activity)
	}
	return once.Enforce
}

// modeOf is the mode of an activity with that mark.
func (g *Guard) modeOf(m mark, activity string) once.Mode {
	mode := g.mode(activity)
	if m.rank == ofAll {
		mode = max(mode, once.Observe)
	}
	return mode
}

// off runs the body unguarded.
func (c *call) off(ctx context.Context, body func(context.Context) (any, error)) (any, error) {
	e, claim := c.event(observe.KindSkip), c.event(observe.KindClaim)
	claim.Digest = "" // nothing is claimed: there is no span to be the body's parent
	ctx, _, end := c.begin(ctx, claim)
	defer func() { end(e) }()
	result, err := body(c.unclaimed(ctx))
	e.Err = err
	return result, err
}

// unclaimed is the context of a body that runs without a claim.
func (c *call) unclaimed(ctx context.Context) context.Context {
	key := c.downstream
	if key == "" {
		key = once.Key(ctx)
	}
	return once.NewContext(ctx, once.Claim{Key: key, Token: func() string { return c.token(store.Bid{}, "") }})
}

// observe runs the body in any case: under a claim if there is one to be had.
func (c *call) observe(ctx context.Context, body func(context.Context) (any, error)) (result any, err error) {
	c.report = c.event(observe.KindClaim)
	ctx, traceparent, end := c.begin(ctx, c.report)
	returned := false
	defer func() {
		c.report.Kind, c.report.Reason, c.report.Settling, c.report.Err = observe.KindExecute, "", false, err
		switch {
		case !returned:
			c.report.Err = errPanicked
		case errors.Is(err, sdkactivity.ErrResultPending):
			c.report.Err = nil
		}
		end(c.report)
	}()
	// A store that hangs must not cost the body its attempt.
	asking, cancel := context.WithTimeout(ctx, min(storeTimeout, c.span/10))
	defer cancel()
	c.warn(asking)
	bid := c.bid(traceparent)
	sent := time.Now()
	r, asked := c.claim(asking, &bid)
	c.report.Kind, c.report.Record = observe.KindExecute, shown(r)
	over := asked != nil && ctx.Err() != nil
	if d, why := c.decide(r, bid, asked); d.do != run && !over { // which says nothing about the store
		c.observed(ctx, r, d, why)
		if asked == nil && r.State == store.InDoubt {
			c.report.Earlier = shown(r)
			r, asked = c.seize(asking, &bid, r)
		}
	}
	ran := false
	if asked == nil && r.Owned(bid.Owner) {
		ran, result, err = c.executeAnyway(ctx, bid, r, sent, body)
	}
	if !ran {
		result, err = body(c.unclaimed(ctx))
	}
	returned = true
	return result, err
}

// errPanicked stands for what a body that did not return ended in.
var errPanicked = temporal.NewApplicationError("the activity panicked", "panic")

// executeAnyway runs the body under a claim, which answers for its record only:
// what the body returned is passed on.
func (c *call) executeAnyway(ctx context.Context, bid store.Bid, r store.Record, sent time.Time,
	body func(context.Context) (any, error),
) (ran bool, result any, err error) {
	returned := false
	defer func() {
		if returned {
			_ = recover() // of what judges or encodes what the body returned
		}
	}()
	_, _ = c.execute(ctx, bid, r, sent, func(bctx context.Context) (any, error) {
		ran = true
		claim, _ := once.FromContext(bctx)
		result, err = body(once.NewContext(c.evidence.watch(ctx), claim))
		returned = true
		return result, err
	})
	return ran, result, err
}

// seize takes over what is in doubt.
func (c *call) seize(ctx context.Context, bid *store.Bid, from store.Record) (store.Record, error) {
	r, err := c.guard.store.Takeover(ctx, *bid, from)
	return r, c.doubtBid(ctx, bid, err)
}

// claim acquires the key, whatever is left of the attempt.
func (c *call) claim(ctx context.Context, bid *store.Bid) (store.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	r, err := c.guard.store.Acquire(ctx, *bid)
	if errors.Is(err, store.ErrSuperseded) {
		bid.Owner = rand.Text()
		return r, nil
	}
	return r, c.doubtBid(ctx, bid, err)
}

// observed tells what Enforce would have answered.
func (c *call) observed(ctx context.Context, r store.Record, d decision, why error) {
	e := c.event(observe.KindNotice)
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
	c.tell(ctx, e)
}

// distrusted reports whether the claim that r grants may not be the first run: the
// call was scheduled before the guard was there, and nothing was decided about it
// since. A bid that was given back decides nothing.
func (c *call) distrusted(r store.Record, nonce string) bool {
	if !r.Owned(nonce) || r.Origin != store.First || !c.older() {
		return false
	}
	return !slices.ContainsFunc(r.History, func(e store.Turn) bool {
		return e.What == store.TurnResolved || e.What == store.TurnTakenOver
	})
}

// distrust puts the claim in doubt, and returns the record as it then is.
func (c *call) distrust(ctx context.Context, bid *store.Bid, r store.Record) (store.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	claim := *bid
	claim.Fence = r.Fence
	bid.Owner = rand.Text() // the claim is spent, whatever comes of this
	return c.guard.store.Settle(ctx, claim, store.Outcome{State: store.InDoubt})
}
