package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"sync/atomic"
	"time"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

const (
	// maxForeground bounds how long an answer waits for its record.
	maxForeground = 10 * time.Second
	// slowWrite is after how long a write that no answer waits for is reported.
	slowWrite = time.Second
	// maxLost bounds the claims that are waiting to be given back at one time. A
	// claim beyond them goes in doubt, if the store has granted it.
	maxLost = 1000
)

// claim is what a call asks of the store about its key, and what it writes there. A
// nonce serves for one bid: once that is refused, or its fate is not known, the claim
// goes on with another nonce.
type claim struct {
	store   measured
	request *Request
	account *account
	counted bool // the end of the life waits for its writes

	bid        store.Bid
	generation uint64    // of the record that grants it
	sent       time.Time // when the store was last asked for the key
	last       lasting   // the context of the write that ends it, where the call makes that itself
}

// lasting is a context without its end, as context.WithoutCancel makes it. That one is
// copied each time a value is asked for.
type lasting struct{ context.Context }

// Deadline implements context.Context.
func (lasting) Deadline() (t time.Time, ok bool) { return t, false }

// Done implements context.Context.
func (lasting) Done() <-chan struct{} { return nil }

// Err implements context.Context.
func (lasting) Err() error { return nil }

// open makes c the claim of a call, which has not asked for anything.
func (c *claim) open(of *call, counted bool, traceparent string) {
	r, o := of.Request, of.engine.options
	c.store, c.request, c.account, c.counted = of.engine.store, r, &of.account, counted
	c.bid = store.Bid{
		Key: r.Key, Owner: rand.Text(), Lease: o.Lease, TTL: r.retention(o),
		Info: store.Info{Activity: r.Activity, Input: r.Input, Match: r.Match, Trace: traceparent, Holder: r.Holder},
	}
	if l := of.ledger(); l != nil {
		c.bid.Info.Ledger = l.ID()
	}
}

func (c *claim) nonce() string { return c.bid.Owner }

// acquire asks for the key.
func (c *claim) acquire(ctx context.Context) (store.Record, error) {
	ctx, cancel := c.store.limit(ctx)
	defer cancel()
	c.bid.Deadline, c.sent = c.request.left(), time.Now()
	r, err := c.store.Acquire(ctx, c.bid)
	if errors.Is(err, store.ErrSuperseded) {
		c.renounce() // the nonce is spent; the next one asks again
		return r, nil
	}
	return r, c.giveUp(ctx, err)
}

// load only looks.
func (c *claim) load(ctx context.Context) (store.Record, error) {
	ctx, cancel := c.store.limit(ctx)
	defer cancel()
	return c.store.load(ctx, c.request.Holder.Namespace, c.bid.Key)
}

// takeOver asks for the key of a record in doubt. clean says that its effect did not
// happen.
func (c *claim) takeOver(ctx context.Context, from store.Record, clean bool) (store.Record, error) {
	tctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	c.bid.Deadline, c.bid.Clean, c.sent = c.request.left(), clean, time.Now()
	r, err := c.store.Takeover(tctx, c.bid, from)
	return r, c.giveUp(ctx, err)
}

// giveUp has a bid given back if err leaves its fate open: it may have been
// granted.
func (c *claim) giveUp(ctx context.Context, err error) error {
	if err == nil || definite(err) {
		return err
	}
	lost, life := c.bid, c.request.Life
	c.renounce()
	if life.lost.Add(1) > maxLost {
		life.lost.Add(-1)
		return err
	}
	detached := context.WithoutCancel(ctx)
	c.background(func(stop context.Context) {
		defer life.lost.Add(-1)
		_, _ = persist(detached, stop, func(ctx context.Context) (store.Record, error) {
			return c.store.Release(ctx, lost)
		})
	})
	return err
}

// renounce goes on with another nonce.
func (c *claim) renounce() { c.bid.Owner, c.bid.Clean = rand.Text(), false }

// giveBack gives back what was granted, before anything has begun.
func (c *claim) giveBack(ctx context.Context) {
	c.release(ctx, nil)
	c.renounce()
}

// isStale reports whether the claim may be lost by now: the process was suspended since
// it asked.
func (c *claim) isStale() bool { return newInstant(c.sent).age(time.Now()) >= held(c.bid.Lease) }

// grant notes that r grants the claim.
func (c *claim) grant(r store.Record) { c.bid.Fence, c.generation = r.Fence, r.Generation }

// begin notes that the body may have an effect from now on.
func (c *claim) begin() { c.bid.Began = true }

// doubt puts what r grants in doubt, and returns the record as it then is.
func (c *claim) doubt(ctx context.Context, r store.Record) (store.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	granted := c.bid
	granted.Fence = r.Fence
	c.renounce() // it is spent, whatever comes of this
	return c.store.Settle(ctx, granted, store.Outcome{State: store.InDoubt})
}

// decide writes down that the effect of a record in doubt was found.
func (c *claim) decide(ctx context.Context, from store.Record, o store.Outcome) (store.Record, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	why := "the reconcile function found the effect"
	if o.InLedger {
		why = "the ledger has the effect"
	}
	return c.store.Resolve(ctx, c.bid.Key, from, store.Resolution{
		ID: c.bid.Owner, To: store.Succeeded, Outcome: o, By: store.ByReconcile, Why: why, TTL: c.bid.TTL,
	})
}

// settle records o, and returns the record if that was done while the answer waited.
func (c *claim) settle(ctx context.Context, l *lease, o store.Outcome) store.Record {
	r := c.land(ctx, l, o)
	c.request.meet(r)
	return r
}

// release gives the key back: this claim did nothing.
func (c *claim) release(ctx context.Context, l *lease) store.Record {
	return c.land(ctx, l, store.Outcome{})
}

// write is the write that ends a claim: without an outcome it gives the key back.
func (c *claim) write(ctx context.Context, b store.Bid, o store.Outcome) (store.Record, error) {
	if o.State == store.Absent {
		return c.store.Release(ctx, b)
	}
	return c.store.Settle(ctx, b, o)
}

// land carries out the write that ends a claim. It outlives the attempt's context,
// since the effect does, too. The answer waits for it, but no longer
// than the attempt can; then the write goes on in the background, with the lease
// renewed, until it lands or the life has ended.
//
// Where the store returns at once, the calling goroutine asks it: the answer is not
// held up, and two changes of goroutines would take longer than the rest of the call.
// Only what is well ends there. What is to be repeated or reported, which takes time,
// goes the way of all stores.
func (c *claim) land(ctx context.Context, l *lease, o store.Outcome) store.Record {
	if !c.store.returns {
		return c.landBeside(ctx, l, o)
	}
	c.last = lasting{ctx}
	r, err := c.write(&c.last, c.bid, o)
	if err != nil || r.Forgotten || l.isLost() {
		return c.landBeside(ctx, l, o) // the same write gets the same answer again
	}
	l.end()
	return r
}

// landBeside is land on another goroutine.
func (c *claim) landBeside(ctx context.Context, l *lease, o store.Outcome) store.Record {
	bid := c.bid
	landed := make(chan store.Record, 1)
	detached := context.WithoutCancel(ctx)
	var why atomic.Pointer[error]
	foreground := max(0, min(time.Until(c.request.Answer), maxForeground))
	// An attempt that is over does not wait; that does not make the write slow.
	slow := time.AfterFunc(max(foreground, slowWrite), func() {
		var err error
		if last := why.Load(); last != nil {
			err = *last
		}
		c.account.notice(detached, observe.SettleDelayed, store.Record{}, err)
	})
	c.background(func(stop context.Context) {
		defer l.end()
		// Reported at once: a store that does not look at contexts can take its time,
		// and the process may be gone by then.
		reported := make(chan struct{})
		giveUp := context.AfterFunc(stop, func() {
			defer close(reported)
			err := context.Cause(stop)
			if last := why.Load(); last != nil && *last != nil {
				err = errors.Join(err, *last)
			}
			c.account.wrote(detached, store.Record{}, err)
		})
		r, err := persist(detached, stop, func(ctx context.Context) (store.Record, error) {
			r, err := c.write(ctx, bid, o)
			why.Store(&err)
			return r, err
		})
		slow.Stop()
		if giveUp() {
			c.account.wrote(detached, r, err)
		} else {
			<-reported
		}
		landed <- r
	})
	limit := time.NewTimer(foreground)
	defer limit.Stop()
	tick, stop := c.request.ticks()
	defer stop()
	for {
		select {
		case r := <-landed:
			return r
		case <-limit.C:
			select {
			case r := <-landed:
				return r
			default:
				return store.Record{}
			}
		case <-tick:
			if ctx.Err() == nil {
				c.request.Door.Beat(ctx)
			}
		}
	}
}

// background runs f beside the call. The end of the life waits for it where it waits
// for the call.
func (c *claim) background(f func(stop context.Context)) {
	life := c.request.Life
	if c.counted {
		life.tasks.begin()
	}
	go func() {
		if c.counted {
			defer life.tasks.end(false)
		}
		f(life.ctx)
	}()
}
