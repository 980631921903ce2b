package engine

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// checks asks a store that can say so what is wrong with it: when a life begins, and
// from time to time while calls come in.
type checks struct {
	store measured
	lease time.Duration
	began time.Time
	due   atomic.Int64          // when the store is to be asked again, in ns since began
	owed  atomic.Pointer[error] // what was found where nobody could be notified
}

// check asks the store, and notes when it is to be asked again.
func (c *checks) check(ctx context.Context) error {
	s, ok := c.store.Store.(store.Checker)
	if !ok {
		return nil
	}
	began := time.Now()
	err := s.Check(ctx)
	failed := err
	if tolerable(err) || errors.Is(err, store.ErrUnsafe) { // it was asked
		failed = nil
	}
	c.store.took(ctx, "check", "", time.Since(began), failed)
	due := c.lease / 6
	if err != nil && !tolerable(err) { // it may be in the middle of a fail-over
		due = min(due, time.Second)
	}
	c.due.Store(int64(time.Since(c.began) + due))
	return err
}

// tolerable reports whether calls are taken in spite of err.
func tolerable(err error) bool {
	return errors.Is(err, store.ErrUnverified) || errors.Is(err, store.ErrForgot) || errors.Is(err, store.ErrReplaced)
}

// startTimeout bounds how long a start waits for the store.
const startTimeout = 3 * storeTimeout

// look has one call in a while ask the store before it makes its claim, and note
// what has happened to it. The claim finds out whether the store can be asked.
func (c *checks) look(ctx context.Context, a *account) {
	if err := c.owed.Swap(nil); err != nil {
		noticeStore(ctx, a, *err)
	}
	due := c.due.Load()
	if now := time.Since(c.began); int64(now) < due || !c.due.CompareAndSwap(due, int64(now+storeTimeout)) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	noticeStore(ctx, a, c.check(ctx))
}

func noticeStore(ctx context.Context, a *account, err error) {
	switch {
	case errors.Is(err, store.ErrForgot):
		a.notice(ctx, observe.StoreForgot, store.Record{}, err)
	case errors.Is(err, store.ErrReplaced):
		a.notice(ctx, observe.StoreReplaced, store.Record{}, err)
	case errors.Is(err, store.ErrUnsafe):
		a.notice(ctx, observe.StoreUnsafe, store.Record{}, err)
	}
}
