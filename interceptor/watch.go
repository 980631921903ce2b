package interceptor

import (
	"context"
	"errors"
	"time"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// checkStore asks a store that can tell what is wrong with it.
func (g *Guard) checkStore(ctx context.Context) error {
	c, ok := g.store.Store.(store.Checker)
	if !ok {
		return nil
	}
	began := time.Now()
	err := c.Check(ctx)
	failed := err
	if tolerable(err) || errors.Is(err, store.ErrUnsafe) { // it was asked
		failed = nil
	}
	g.store.took(ctx, "check", "", time.Since(began), failed)
	due := g.options.Lease / 6
	if err != nil && !tolerable(err) { // it may be in the middle of a fail-over
		due = min(due, time.Second)
	}
	g.checkDue.Store(int64(time.Since(g.began) + due))
	return err
}

// tolerable reports whether a worker starts in spite of err.
func tolerable(err error) bool {
	return errors.Is(err, store.ErrUnverified) || errors.Is(err, store.ErrForgot) || errors.Is(err, store.ErrReplaced)
}

// watchStore has one call in a while check the store before it makes its claim,
// and tell what has happened to it. That the store cannot be asked is for the
// claim to find out.
func (c *call) watchStore(ctx context.Context) {
	g := c.guard
	if err := g.owed.Swap(nil); err != nil {
		c.noticeStore(ctx, *err)
	}
	due := g.checkDue.Load()
	if now := time.Since(g.began); int64(now) < due || !g.checkDue.CompareAndSwap(due, int64(now+storeTimeout)) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	c.noticeStore(ctx, g.checkStore(ctx))
}

func (c *call) noticeStore(ctx context.Context, err error) {
	switch {
	case errors.Is(err, store.ErrForgot):
		c.notice(ctx, observe.StoreForgot, store.Record{}, err)
	case errors.Is(err, store.ErrReplaced):
		c.notice(ctx, observe.StoreReplaced, store.Record{}, err)
	case errors.Is(err, store.ErrUnsafe):
		c.notice(ctx, observe.StoreUnsafe, store.Record{}, err)
	default:
		return
	}
}

// startTimeout bounds how long a worker's start waits for the store.
const startTimeout = 3 * storeTimeout

// isOff reports whether every marked activity of the worker is in Mode Off.
func (w *workerGuard) isOff() bool {
	if w.types.hasDynamic() {
		return false // of which it is not known what it serves
	}
	for name := range w.types.all() {
		if v := w.judge(name, false); v.marked && w.guard.modeOf(v.mark, name) != once.Off {
			return false
		}
	}
	return true
}
