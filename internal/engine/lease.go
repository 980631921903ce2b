package engine

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

// held is how long after a sign of life a claim is this call's by its own clock:
// less than by the store's.
func held(lease time.Duration) time.Duration { return lease - lease/10 }

// lease keeps a claim alive until its outcome is written.
type lease struct {
	body *bodyContext
	own  bodyContext // what body points to

	ctx       context.Context // of the call
	renewer   *renewer
	account   *account
	bid       *store.Bid // does not change while it is held
	takesOver bool       // other calls may, by themselves
	reports   sync.WaitGroup

	// Of the renewer, under its lock:
	renewal time.Time // when the claim is to be renewed
	next    time.Time // when there is something to do: then, or the cut-off
	round   *round    // in which it is being renewed; nil: it is not
	index   int       // in its heap; -1: in none
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
	if l == nil {
		return
	}
	l.renewer.remove(l)
	l.report()
	l.reports.Wait()
	l.body.cancel(nil)
}

// isLost reports whether the claim is another call's, or may be.
func (l *lease) isLost() bool { return l != nil && l.body.lost.Load() }

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
func (c *claim) hold(ctx context.Context, r *renewer) (context.Context, *lease) {
	l := &lease{ctx: ctx, renewer: r, account: c.account, bid: &c.bid, takesOver: c.request.Policy.InDoubt.TakesOver()}
	l.body = &l.own
	l.body.start(ctx, c.sent, held(c.bid.Lease))
	r.add(l)
	return l.body, l
}

// plan says when there is something to do for the lease. A body that waits does not
// ask, so its cut-off is not left to it.
func (l *lease) plan(now time.Time) {
	l.next = l.renewal
	if l.isLost() || l.body.returned.Load() {
		return
	}
	if end := now.Add(l.body.left()); end.Before(l.next) {
		l.next = end
	}
}

// judge cuts the body off if it is over by then. The renewer's lock is held, so that
// the lease does not end meanwhile.
func (l *lease) judge(now time.Time) {
	l.body.judgeAt(now)
	if l.isLost() && !l.account.leaseLost.Load() {
		l.reports.Go(l.report)
	}
}

// report reports that the body was cut off. Whoever asks the context does not: an
// observer can take its time.
func (l *lease) report() {
	if l.isLost() {
		l.account.noticeLeaseLost(context.WithoutCancel(l.ctx), store.Record{}, errLeaseOver)
	}
}
