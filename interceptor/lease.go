package interceptor

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

var (
	errSuperseded = errors.New("atmostonce: another call has taken over this activity's key")
	errLeaseOver  = errors.New("atmostonce: the claim could not be renewed in time; another call may take over")
)

// lease keeps a claim alive until its outcome is written.
type lease struct {
	stop context.CancelFunc
	done chan struct{}
}

// end stops the renewals. A nil lease has none.
func (l *lease) end() {
	if l != nil {
		l.stop()
		<-l.done
	}
}

// keepAlive renews the claim every third of its lease, whether or not ctx ends:
// a body may outlive its attempt. The context that it returns is canceled when
// the body must not go on: when another call has the key, and, under policies
// that let another call take over, when this one's lease is over by its own
// clock.
func (c *call) keepAlive(ctx context.Context, bid store.Bid, sent time.Time) (context.Context, *lease) {
	bctx, cancelBody := context.WithCancelCause(ctx)
	rctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	l := &lease{stop: stop, done: make(chan struct{})}
	r := &renewal{call: c, bid: bid, cancelBody: cancelBody, acked: sent}
	r.checkLease(rctx) // the process may have been suspended since the grant
	go func() {
		defer close(l.done)
		defer cancelBody(nil)
		r.run(rctx)
	}()
	return bctx, l
}

type renewal struct {
	call       *call
	bid        store.Bid
	cancelBody context.CancelCauseFunc

	mu     sync.Mutex
	acked  time.Time // when the last renewal that was acknowledged was sent
	cutOff bool
}

func (r *renewal) run(ctx context.Context) {
	every := time.NewTicker(r.bid.Lease / 3)
	defer every.Stop()
	// A renewal that hangs must not hold up the cut-off.
	watch := time.NewTicker(r.bid.Lease / 20)
	defer watch.Stop()
	answers := make(chan bool, 1)
	renewing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-watch.C:
			r.checkLease(ctx)
		case <-every.C:
			if renewing {
				continue
			}
			renewing = true
			go func() { answers <- r.renew(ctx) }()
		case lost := <-answers:
			renewing = false
			if lost && ctx.Err() == nil {
				r.cancelBody(errSuperseded)
				r.call.noticeLeaseLost(ctx, store.Record{}, errSuperseded)
				return
			}
		}
	}
}

// renew reports whether somebody else has the key.
func (r *renewal) renew(ctx context.Context) (lost bool) {
	sent := time.Now()
	tctx, cancel := context.WithTimeout(ctx, max(r.bid.Lease/3, 10*time.Millisecond))
	defer cancel()
	rec, err := r.call.guard.store.Renew(tctx, r.bid)
	switch {
	case err == nil:
		r.mu.Lock()
		r.acked = sent
		r.mu.Unlock()
	case ctx.Err() != nil:
	case errors.Is(err, store.ErrSuperseded):
		// Not by this claim's own settle, which a renewal may come after.
		return rec.Owner != r.bid.Owner || rec.By == store.ByOperator
	case errors.Is(err, store.ErrGone):
		r.call.notice(ctx, StoreLost, rec, err)
	default:
		r.call.notice(ctx, RenewFailed, rec, err)
	}
	return false
}

// checkLease cuts the body off when another call may take over. Of the two
// clocks the one that went further counts: the monotonic one stands still while
// the machine sleeps.
func (r *renewal) checkLease(ctx context.Context) {
	if !r.call.policy.InDoubt.TakesOver() {
		return
	}
	if !r.isOver() {
		return
	}
	r.cancelBody(errLeaseOver) // before anything that can take time
	r.call.noticeLeaseLost(ctx, store.Record{}, errLeaseOver)
}

// isOver reports once that the lease is over.
func (r *renewal) isOver() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	elapsed := max(now.Sub(r.acked), now.Round(0).Sub(r.acked.Round(0)))
	if r.cutOff || elapsed < r.bid.Lease-r.bid.Lease/10 {
		return false
	}
	r.cutOff = true
	return true
}
