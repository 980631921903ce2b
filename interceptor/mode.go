package interceptor

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/store"
)

// Mode says how much the guard does about an activity. The key of a call, and so
// what once.Key returns, is the same in each.
type Mode uint8

// The modes of an activity.
const (
	// Enforce guards.
	Enforce Mode = iota
	// Observe runs every call and changes no result and no error. It records what
	// it can, and tells the observers, as the notice Observed, of each call that
	// Enforce would have answered without a run.
	Observe
	// Off runs every call, and asks and records nothing.
	Off
)

// mode returns the mode of the call.
func (c *call) mode() Mode {
	if f := c.guard.options.Mode; f != nil {
		return f(c.info.ActivityType.Name)
	}
	return Enforce
}

// off runs the body unguarded.
func (c *call) off(ctx context.Context, body func(context.Context) (any, error)) (any, error) {
	e := c.event(Claim)
	ctx, end := c.guard.begin(ctx, e)
	defer func() { end(e) }()
	e.Kind = Skip
	result, err := body(once.NewContext(ctx, once.Claim{Key: c.downstream}))
	e.Err = err
	return result, err
}

// observe runs the body in any case: under a claim if there is one to be had.
func (c *call) observe(ctx context.Context, body func(context.Context) (any, error)) (result any, err error) {
	c.report = c.event(Claim)
	ctx, end := c.guard.begin(ctx, c.report)
	defer func() { end(c.report) }()
	c.watchStore(ctx)
	bid := c.bid(c.guard.trace(ctx))
	sent := time.Now()
	r, asked := c.claim(ctx, &bid)
	c.report.Kind, c.report.Record = Execute, withoutOutcome(r)
	if d, why := c.decide(r, bid, asked); d.do != run {
		c.observed(ctx, r, d, why)
		if r.State == store.InDoubt {
			r, asked = c.guard.store.Takeover(ctx, bid, r)
			asked = c.doubtBid(ctx, &bid, asked)
		}
	}
	if asked != nil || !r.Owned(bid.Owner) {
		result, err = body(once.NewContext(ctx, once.Claim{Key: c.downstream}))
		c.report.Err = err
		return result, err
	}
	// The claim answers for its record only: what the body returned is passed on.
	_, _ = c.execute(ctx, bid, r, sent, func(bctx context.Context) (any, error) {
		result, err = body(keepValues{ctx, bctx})
		return result, err
	})
	c.report.Reason, c.report.Err = "", err
	return result, err
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
	e := c.event(Notice)
	e.Notice, e.Err, e.Record = Observed, why, withoutOutcome(r)
	switch d.do {
	case refuse:
		e.Reason = d.reason
	case await:
		e.Reason = once.InFlight
	case takeOver, ask:
		e.Reason = once.InDoubt
	}
	_, end := c.guard.begin(ctx, e)
	end(e)
}

// keepValues has the values of one context and the life of another.
type keepValues struct {
	context.Context
	values context.Context
}

// Value implements context.Context.
func (k keepValues) Value(key any) any { return k.values.Value(key) }

// distrusted reports whether the claim that r grants may not be the first run: it
// is a retry of a call that was scheduled before the guard, of which there is no
// record.
func (c *call) distrusted(r store.Record, nonce string) bool {
	before := c.guard.options.DistrustBefore
	return r.Owned(nonce) && r.Revision == 1 && c.info.Attempt > 1 && c.info.ScheduledTime.Before(before)
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
