package telemetry_test

import (
	"context"
	"sync"

	"github.com/atmostonce/atmostonce/store"
)

// hooked is a store whose calls can be made to fail.
type hooked struct {
	*store.Memory
	after func(verb string)

	mu   sync.Mutex
	hook func(verb string) error
}

// fail makes calls of that verb fail from now on.
func (h *hooked) fail(verb string, err error) {
	h.before(func(called string) error {
		if called == verb {
			return err
		}
		return nil
	})
}

func (h *hooked) before(hook func(verb string) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hook = hook
}

func (h *hooked) call(verb string, apply func() (store.Record, error)) (store.Record, error) {
	h.mu.Lock()
	hook := h.hook
	h.mu.Unlock()
	if hook != nil {
		if err := hook(verb); err != nil {
			return store.Record{}, err
		}
	}
	r, err := apply()
	if h.after != nil {
		h.after(verb)
	}
	return r, err
}

func (h *hooked) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	return h.call("acquire", func() (store.Record, error) { return h.Memory.Acquire(ctx, b) })
}

func (h *hooked) Renew(ctx context.Context, b store.Bid) (store.Record, error) {
	return h.call("renew", func() (store.Record, error) { return h.Memory.Renew(ctx, b) })
}

func (h *hooked) Settle(ctx context.Context, b store.Bid, o store.Outcome) (store.Record, error) {
	return h.call("settle", func() (store.Record, error) { return h.Memory.Settle(ctx, b, o) })
}

func (h *hooked) Release(ctx context.Context, b store.Bid) (store.Record, error) {
	return h.call("release", func() (store.Record, error) { return h.Memory.Release(ctx, b) })
}

func (h *hooked) Takeover(ctx context.Context, b store.Bid, from store.Record) (store.Record, error) {
	return h.call("takeover", func() (store.Record, error) { return h.Memory.Takeover(ctx, b, from) })
}

func (h *hooked) Resolve(ctx context.Context, key string, from store.Record, r store.Resolution) (store.Record, error) {
	return h.call("resolve", func() (store.Record, error) { return h.Memory.Resolve(ctx, key, from, r) })
}
