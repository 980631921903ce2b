package engine

import (
	"context"
	"errors"
	"time"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

var (
	errSuperseded = errors.New("atmostonce: another call has taken over this activity's key")
	errLeaseOver  = errors.New("atmostonce: the claim could not be renewed in time; another call may take over")
)

// held is how long after a sign of life a claim is this call's by its own clock:
// less than by the store's.
func held(lease time.Duration) time.Duration { return lease - lease/10 }

// lease keeps a claim alive until its outcome is written.
type lease struct {
	body *bodyContext
	stop context.CancelFunc
	done chan struct{}
}

// run calls the body. What comes after the body cuts nothing off any more: its
// effect has happened or not, and the store decides whether its outcome counts.
func (l *lease) run(ctx context.Context, body Body) (any, error) {
	defer l.body.returned.Store(true)
	result, err := body(ctx)
	if err != nil {
		l.body.judge() // an error that comes after the end is in doubt, whoever was faster
	}
	return result, err
}

// end stops the renewals. A nil lease has none.
func (l *lease) end() {
	if l != nil {
		l.stop()
		<-l.done
	}
}

// hold renews the claim every third of its lease, whether or not ctx ends:
// a body may outlive its attempt. The context that it returns is canceled when
// the body must not go on: when another call has the key, when the attempt is
// over, and when this call's lease is over by its own clock. It judges that when
// it is asked, so what wraps it must not answer in its place: wrap ctx instead.
//
// Where no other call takes over by itself, a lease is over only if the process
// was suspended, and did not even come to renew it. A store that cannot be reached
// for a minute must not leave every long call to a human; an operator who says
// that such a call did not happen waits for its deadline, or uses force.
func (c *claim) hold(ctx context.Context) (context.Context, *lease) {
	body := newBodyContext(ctx, c.sent, held(c.bid.Lease))
	rctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	l := &lease{body: body, stop: stop, done: make(chan struct{})}
	r := &renewal{store: c.store, account: c.account, bid: c.bid, body: body, takesOver: c.request.Policy.InDoubt.TakesOver()}
	go func() {
		defer close(l.done)
		defer body.cancel(nil)
		r.run(rctx)
		r.report(rctx)
	}()
	return body, l
}

type renewal struct {
	store     measured
	account   *account
	bid       store.Bid
	body      *bodyContext
	takesOver bool // other calls may, by themselves
}

func (r *renewal) run(ctx context.Context) {
	every := time.NewTicker(r.bid.Lease / 3)
	defer every.Stop()
	// A body that waits does not ask; and a renewal that hangs must not hold up
	// the cut-off.
	end := time.NewTimer(r.body.left())
	defer end.Stop()
	watch := time.NewTicker(r.bid.Lease / 20) // no timer follows the wall clock
	defer watch.Stop()
	answers := make(chan bool, 1)
	renewing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-end.C:
			r.body.judge()
		case <-watch.C:
			r.body.judge()
		case <-every.C:
			sent := time.Now()
			r.body.judgeAt(sent) // a renewal does not bring back what is over
			if !r.takesOver {
				r.body.seenAlive(sent)
			}
			if !renewing {
				renewing = true
				go func() { answers <- r.renew(ctx, sent) }()
			}
		case lost := <-answers:
			renewing = false
			if lost && ctx.Err() == nil {
				r.body.lose(time.Now(), errSuperseded)
				r.account.noticeLeaseLost(ctx, store.Record{}, errSuperseded)
				return
			}
		}
		if left := r.body.left(); left > 0 {
			end.Reset(left)
		}
		r.report(ctx)
	}
}

// renew reports whether somebody else has the key.
func (r *renewal) renew(ctx context.Context, sent time.Time) (lost bool) {
	tctx, cancel := context.WithTimeout(ctx, max(r.bid.Lease/3, 10*time.Millisecond))
	defer cancel()
	rec, err := r.store.Renew(tctx, r.bid)
	switch {
	case err == nil:
		if r.takesOver {
			r.body.seenAlive(sent) // the store counts from when it got it, which was later
		}
	case ctx.Err() != nil:
	case errors.Is(err, store.ErrSuperseded):
		// Not by this claim's own settle, which a renewal may come after.
		return rec.Owner != r.bid.Owner || rec.By == store.ByOperator
	case errors.Is(err, store.ErrGone):
		r.account.notice(ctx, observe.StoreLost, rec, err)
	default:
		r.account.notice(ctx, observe.RenewFailed, rec, err)
	}
	return false
}

// report reports that the body was cut off. Whoever asks the context does not: an
// observer can take its time.
func (r *renewal) report(ctx context.Context) {
	if r.body.lost.Load() {
		r.account.noticeLeaseLost(context.WithoutCancel(ctx), store.Record{}, errLeaseOver)
	}
}
