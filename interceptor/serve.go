package interceptor

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"go.temporal.io/sdk/worker"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// storeTimeout bounds one call of the store.
const storeTimeout = 5 * time.Second

// storeRetry is how long Temporal waits before it tries again while the store
// is down.
const storeRetry = 5 * time.Second

// maxLost bounds the claims that are waiting to be given back at one time. One
// that is over it goes in doubt, should the store have granted it.
const maxLost = 1000

// keyless answers a call for which no key could be made.
func (c *call) keyless(ctx context.Context, body func(context.Context) (any, error), err error, mode once.Mode) (any, error) {
	e := c.event(observe.KindClaim)
	ctx, _, end := c.begin(ctx, e)
	defer func() { end(e) }()
	unguarded := func() (any, error) {
		e.Kind = observe.KindSkip
		result, err := body(c.unclaimed(ctx))
		e.Err = err
		return result, err
	}
	if errors.Is(err, keys.ErrSkip) {
		return unguarded()
	}
	r := refusal{reason: once.BadKey, cause: err}
	if errors.Is(err, errInput) && !errors.Is(err, errArgument) { // a codec that cannot be reached, say
		r.retryable, r.delay = true, maxRetry
	}
	if errors.Is(err, errNoConverter) || errors.Is(err, errUnclear) {
		r.reason, r.retryable, r.delay = once.BadSetup, true, maxRetry
	}
	if mode == once.Observe {
		c.observed(ctx, store.Record{}, decision{do: refuse, reason: r.reason}, err)
		return unguarded()
	}
	e.Kind, e.Reason, e.Repeated = observe.KindFail, r.reason, c.isRepeated(r)
	e.Err = c.refuse(r, e.Repeated)
	return nil, e.Err
}

// serve carries the call from its claim to its answer.
func (c *call) serve(ctx context.Context, body func(context.Context) (any, error)) (any, error) {
	c.report = c.event(observe.KindClaim)
	ctx, traceparent, end := c.begin(ctx, c.report)
	defer func() {
		if c.report.Kind == observe.KindClaim { // a function of the user's panics
			c.report.Kind = observe.KindFail
		}
		end(c.report)
	}()
	c.warn(ctx)
	bid := c.bid(traceparent)
	pause := newPause(c)
	defer pause.end()
	for {
		if ctx.Err() != nil {
			return c.ended(ctx)
		}
		sent := time.Now()
		r, err := c.look(ctx, &bid)
		if err == nil && c.distrusted(r, bid.Owner) {
			r, err = c.distrust(ctx, &bid, r)
		}
		if err != nil && ctx.Err() != nil {
			return c.ended(ctx)
		}
		d, why := c.decide(r, bid, err)
		c.report.Earlier = store.Record{} // of a takeover that came too late
		switch d.do {
		case takeOver:
			c.report.Earlier, sent = shown(r), time.Now()
			r, d, why = c.takeOver(ctx, &bid, r)
		case ask:
			c.report.Earlier, c.report.Record = shown(r), shown(r)
			r, d, why = c.ask(ctx, &bid, r, &sent)
		}
		c.report.Record = shown(r)
		switch d.do {
		case run:
			if newInstant(sent).age(time.Now()) >= held(bid.Lease) {
				// Suspended since then: begin nothing under a claim that may be lost.
				c.release(ctx, bid, nil)
				bid.Owner, bid.Clean = rand.Text(), false
				continue
			}
			pause.end()
			return c.execute(ctx, bid, r, sent, body)
		case replay:
			return c.replay(ctx, r)
		case refuse:
			return c.fail(refusal{reason: d.reason, record: r, retryable: d.retryable, delay: d.delay, cause: why,
				untouched: err == nil && why == nil && c.untouched(r), settling: d.settling})
		}
		if err := pause.next(ctx, r, d.delay); err != nil {
			return c.ended(ctx)
		}
	}
}

// warn tells what may come of the way in which the call is made, and of the store.
func (c *call) warn(ctx context.Context) {
	if c.info.Attempt == 1 {
		if c.attempts() == 1 {
			c.notice(ctx, observe.OneAttempt, store.Record{}, nil)
		}
		if err := c.defeats(); err != nil {
			c.notice(ctx, observe.PolicyDefeated, store.Record{}, err)
		}
	}
	if c.lacksHeader() {
		c.notice(ctx, observe.NoHeader, store.Record{}, c.headerErr)
	}
	c.watchStore(ctx)
}

// look acquires the key, or only looks when it is too late to run.
func (c *call) look(ctx context.Context, bid *store.Bid) (store.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if s := c.situation(store.Record{}, ""); s.late || s.givesWay() {
		return c.guard.store.Load(ctx, bid.Key)
	}
	bid.Deadline = c.attemptLeft() // there may have been a wait
	r, err := c.guard.store.Acquire(ctx, *bid)
	if errors.Is(err, store.ErrSuperseded) {
		bid.Owner = rand.Text() // the nonce is spent; the next look takes another
		return r, nil
	}
	return r, c.doubtBid(ctx, bid, err)
}

// doubtBid gives a bid up whose fate is not known: it may have been granted.
func (c *call) doubtBid(ctx context.Context, bid *store.Bid, err error) error {
	switch {
	case err == nil, definite(err):
		return err
	}
	lost := *bid
	bid.Owner = rand.Text()
	if c.life.lost.Add(1) > maxLost {
		c.life.lost.Add(-1)
		return err
	}
	detached := context.WithoutCancel(ctx)
	c.background(func(stop context.Context) {
		defer c.life.lost.Add(-1)
		_, _ = persist(detached, stop, func(ctx context.Context) (store.Record, error) {
			return c.guard.store.Release(ctx, lost)
		})
	})
	return err
}

// definite reports whether err says what the store did.
func definite(err error) bool {
	for _, e := range []error{store.ErrSuperseded, store.ErrConflict, store.ErrMoved, store.ErrGone,
		store.ErrCorrupt, store.ErrVersion, store.ErrFull, store.ErrInvalid, store.ErrQuarantine} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// decide asks decide, unless the store gave no record to decide on.
func (c *call) decide(r store.Record, bid store.Bid, err error) (decision, error) {
	s := c.situation(r, bid.Owner)
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

// takeOver claims a record in doubt under the policies that may.
func (c *call) takeOver(ctx context.Context, bid *store.Bid, from store.Record) (store.Record, decision, error) {
	tctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	bid.Deadline = c.attemptLeft()
	r, err := c.guard.store.Takeover(tctx, *bid, from)
	if errors.Is(err, store.ErrMoved) || errors.Is(err, store.ErrSuperseded) {
		return r, decision{do: await, delay: minRetry}, nil // somebody was faster: look again
	}
	d, why := c.decide(r, *bid, c.doubtBid(ctx, bid, err))
	return r, d, why
}

// ask lets the policy's function find out what happened, and acts on its answer
// at once: the answer is about the record that was read before.
func (c *call) ask(ctx context.Context, bid *store.Bid, from store.Record, sent *time.Time) (store.Record, decision, error) {
	result, err := c.find(ctx)
	*sent = time.Now() // the claim that may follow is not as old as the question
	c.notice(ctx, observe.Reconciled, from, err)
	s := c.situation(from, bid.Owner)
	switch {
	case errors.Is(err, once.ErrNotDone):
		if ctx.Err() != nil || s.late || s.givesWay() {
			return from, s.undecided(c.guard.options.HoldRetry), errTooLate
		}
		bid.Clean = true
		return c.takeOver(ctx, bid, from)
	case err != nil:
		d := s.refuseRetryably(once.InDoubt, c.guard.options.HoldRetry)
		d.retryable = !s.isLast(d.delay)
		return from, d, after(err, c.codec.cause(from.Outcome))
	}
	outcome, _, err := c.codec.encode(result, c.guard.options.MaxOutcome)
	if err != nil {
		outcome.Missing = "what the reconcile function found could not be encoded"
	}
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	r, err := c.guard.store.Resolve(rctx, c.key, from, store.Resolution{
		ID: bid.Owner, To: store.Succeeded, Outcome: outcome, By: store.ByReconcile,
		Why: "the reconcile function found the effect", TTL: c.retention(),
	})
	if errors.Is(err, store.ErrMoved) {
		return r, decision{do: await, delay: minRetry}, nil
	}
	d, why := c.decide(r, *bid, err)
	return r, d, why
}

var errTooLate = errors.New("the reconcile function said that the effect did not happen, but too little of the attempt was left to run the activity: raise StartToCloseTimeout")

// find calls the policy's function, heartbeating for it.
func (c *call) find(ctx context.Context) (result any, err error) {
	ctx = once.NewContext(ctx, once.Claim{Key: c.downstream})
	tick, stop := ticks(c.info)
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
					c.beat.again(ctx)
				case <-done:
					return
				}
			}
		})
	}
	c.report.Reason = once.InDoubt // should it panic
	result, err = c.policy.InDoubt.Find(ctx, c.args)
	c.report.Reason = ""
	return result, err
}

// replay answers with the recorded outcome.
func (c *call) replay(ctx context.Context, r store.Record) (any, error) {
	c.report.Kind, c.report.Record = observe.KindDuplicate, shown(r)
	if c.policy.Scope == keys.PerWorkflow && !c.isSameCall(r) {
		what := observe.OtherRun
		if c.isSameRun(r) {
			what = observe.SameRun
		}
		c.notice(ctx, what, r, nil)
	}
	result, failure, broken := c.codec.replay(r.Outcome)
	switch {
	case errors.Is(broken, errNotKept):
		return c.fail(refusal{reason: once.OutcomeNotKept, record: r})
	case broken != nil:
		return c.fail(refusal{reason: once.BadRecord, record: r, retryable: true, delay: maxRetry, cause: broken})
	}
	c.report.Err = failure
	if c.surrounded {
		if value := c.codec.decoded(result, c.returns); value != nil {
			return value, failure
		}
	}
	return result, failure
}

func (c *call) fail(r refusal) (any, error) {
	c.report.Kind, c.report.Reason, c.report.Settling, c.report.Record = observe.KindFail, r.reason, r.settling, shown(r.record)
	c.report.Repeated = c.isRepeated(r)
	c.report.Err = c.refuse(r, c.report.Repeated)
	return nil, c.report.Err
}

// ended answers for a call whose context is over before it came to anything.
func (c *call) ended(ctx context.Context) (any, error) {
	cause := context.Cause(ctx)
	if errors.Is(cause, worker.ErrWorkerShutdown) {
		return c.fail(refusal{reason: once.InFlight, record: c.report.Record, retryable: true, delay: minRetry})
	}
	c.report.Kind, c.report.Err = observe.KindFail, cause
	return nil, cause
}
