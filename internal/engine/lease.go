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
