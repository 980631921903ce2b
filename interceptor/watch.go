package interceptor

import (
	"context"
	"errors"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// checkStore asks a store that can tell what is wrong with it.
func (g *Guard) checkStore(ctx context.Context) error {
	c, ok := g.store.(store.Checker)
	if !ok {
		return nil
	}
	g.checked.Store(time.Now().UnixNano())
	return c.Check(ctx)
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
	last := g.checked.Load()
	if time.Since(time.Unix(0, last)) < g.options.Lease/6 || !g.checked.CompareAndSwap(last, time.Now().UnixNano()) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	switch err := g.checkStore(ctx); {
	case errors.Is(err, store.ErrForgot):
		c.notice(ctx, StoreForgot, store.Record{}, err)
	case errors.Is(err, store.ErrReplaced):
		c.notice(ctx, StoreReplaced, store.Record{}, err)
	case errors.Is(err, store.ErrUnsafe):
		c.notice(ctx, StoreUnsafe, store.Record{}, err)
	}
}
