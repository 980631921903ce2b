package atmostonce_test

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

type event struct {
	ID   string
	Note string
}

type receipt struct{ Charge string }

// byID makes events of one ID one effect, whatever else is in them.
var byID = once.Policy{Key: keys.From(func(in event) string { return in.ID }), Match: keys.Any()}

// under returns byID with changes.
func under(change func(*once.Policy)) once.Policy {
	p := byID
	change(&p)
	return p
}

func newGuard(t *testing.T, o atmostonce.Options) *atmostonce.Guard {
	t.Helper()
	return newGuardOver(t, store.NewMemory(store.MemoryOptions{}), o)
}

func newGuardOver(t *testing.T, s store.Store, o atmostonce.Options) *atmostonce.Guard {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	g, err := atmostonce.New(s, o)
	require.NoError(t, err)
	return g
}

// requireRefusal asserts that err is the guard's, for that reason.
func requireRefusal(t *testing.T, err error, reason once.Reason) {
	t.Helper()
	_ = refusalOf(t, err, reason)
}

// refusalOf is requireRefusal, and returns it.
func refusalOf(t *testing.T, err error, reason once.Reason) *atmostonce.Error {
	t.Helper()
	var e *atmostonce.Error
	require.ErrorAs(t, err, &e)
	require.ErrorIs(t, err, reason, err.Error())
	require.NotContains(t, err.Error(), "activity")
	require.Contains(t, err.Error(), cmp.Or(e.Activity, "a function without a name"))
	if cause := errors.Unwrap(err); cause != nil {
		require.Contains(t, err.Error(), "; the cause: ")
	}
	if reason != once.BadSetup { // a policy can be one of workflows
		require.NotContains(t, err.Error(), "workflow")
	}
	return e
}

// watched is a store that counts its calls, and fails or looks at another clock on
// request.
type watched struct {
	*store.Memory
	calls    atomic.Int64
	down     atomic.Pointer[error] // what acquire and load answer
	deaf     atomic.Pointer[error] // what settle and release answer
	ahead    time.Duration         // of this store's clock
	settling chan struct{}         // settle waits for it
}

func newWatched() *watched { return &watched{Memory: store.NewMemory(store.MemoryOptions{})} }

func (w *watched) shown(r store.Record, err error) (store.Record, error) {
	w.calls.Add(1)
	return w.shift(r, w.ahead), err
}

func (w *watched) shift(r store.Record, by time.Duration) store.Record {
	for _, at := range []*time.Time{&r.Now, &r.LeaseEnd, &r.Claimed, &r.Deadline, &r.Doubted, &r.Settled, &r.Expires} {
		if !at.IsZero() {
			*at = at.Add(by)
		}
	}
	return r
}

func (w *watched) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	if err := w.down.Load(); err != nil {
		w.calls.Add(1)
		return store.Record{}, *err
	}
	if ctx.Err() != nil {
		return store.Record{}, ctx.Err()
	}
	return w.shown(w.Memory.Acquire(ctx, b))
}

func (w *watched) Load(ctx context.Context, key string) (store.Record, error) {
	if err := w.down.Load(); err != nil {
		return store.Record{}, *err
	}
	return w.shown(w.Memory.Load(ctx, key))
}

func (w *watched) Settle(ctx context.Context, b store.Bid, o store.Outcome) (store.Record, error) {
	if err := w.deaf.Load(); err != nil {
		w.calls.Add(1)
		return store.Record{}, *err
	}
	if w.settling != nil {
		select {
		case <-w.settling:
		case <-ctx.Done():
			return store.Record{}, ctx.Err()
		}
	}
	return w.shown(w.Memory.Settle(ctx, b, o))
}

func (w *watched) Release(ctx context.Context, b store.Bid) (store.Record, error) {
	if err := w.deaf.Load(); err != nil {
		w.calls.Add(1)
		return store.Record{}, *err
	}
	return w.shown(w.Memory.Release(ctx, b))
}

func (w *watched) Renew(ctx context.Context, b store.Bid) (store.Record, error) {
	return w.shown(w.Memory.Renew(ctx, b))
}

func (w *watched) Takeover(ctx context.Context, b store.Bid, from store.Record) (store.Record, error) {
	return w.shown(w.Memory.Takeover(ctx, b, w.shift(from, -w.ahead)))
}

func (w *watched) Resolve(ctx context.Context, key string, from store.Record, r store.Resolution) (store.Record, error) {
	return w.shown(w.Memory.Resolve(ctx, key, w.shift(from, -w.ahead), r))
}

// keyOf is the digest that an error shows for a record.
func keyOf(r store.Record) string { return keys.Downstream(r.Key)[:16] }
