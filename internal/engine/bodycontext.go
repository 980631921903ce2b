package engine

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/atmostonce/atmostonce/once"
)

// bodyContext is the context of a body. It judges the clocks when it is asked,
// by any of its methods: a process that was suspended goes on where it stood,
// before a timer can fire. Contexts that are derived from it ask it for the
// values that they do not have, and are canceled before they get them.
type bodyContext struct {
	context.Context // what is derived from this one hangs on it directly
	cancel          context.CancelCauseFunc

	began    instant
	span     time.Duration // until the attempt's deadline; negative if it has none
	limit    time.Duration // how long the claim is held after a sign of life
	alive    atomic.Pointer[instant]
	first    instant                   // what alive begins with
	lost     atomic.Bool               // the claim is another call's, or may be
	past     atomic.Pointer[time.Time] // when it was found that the body must not go on
	returned atomic.Bool
}

// start makes b the context of a body that begins now.
func (b *bodyContext) start(ctx context.Context, alive time.Time, limit time.Duration) {
	b.began, b.span, b.limit, b.first = newInstant(time.Now()), -1, limit, newInstant(alive)
	b.alive.Store(&b.first)
	if d, ok := ctx.Deadline(); ok {
		b.span = max(0, time.Until(d))
	}
	b.Context, b.cancel = context.WithCancelCause(ctx)
}

func (b *bodyContext) seenAlive(at time.Time) {
	i := newInstant(at)
	b.alive.Store(&i)
}

// left is how long the claim is held without another sign of life.
func (b *bodyContext) left() time.Duration {
	return b.limit - b.alive.Load().age(time.Now())
}

func (b *bodyContext) judge() { b.judgeAt(time.Now()) }

// judgeAt cancels what is over by then. It allocates only when something is.
func (b *bodyContext) judgeAt(now time.Time) {
	switch {
	case b.returned.Load():
	case !b.lost.Load() && b.alive.Load().age(now) >= b.limit:
		b.lose(now, errLeaseOver)
	case b.span >= 0 && b.began.age(now) >= b.span:
		b.cut(now, context.DeadlineExceeded)
	}
}

func (b *bodyContext) lose(now time.Time, cause error) {
	b.cut(now, cause) // first: whoever asks meanwhile must find it canceled if it is lost
	b.lost.Store(true)
}

func (b *bodyContext) cut(now time.Time, cause error) {
	b.past.CompareAndSwap(nil, &now)
	b.cancel(cause)
}

// Err implements context.Context.
func (b *bodyContext) Err() error {
	b.judge()
	err := b.Context.Err()
	if err == context.Canceled && context.Cause(b.Context) == context.DeadlineExceeded { //nolint:errorlint // not what a cause wraps
		return context.DeadlineExceeded
	}
	return err
}

// Done implements context.Context.
func (b *bodyContext) Done() <-chan struct{} {
	b.judge()
	return b.Context.Done()
}

// Deadline implements context.Context: it is the attempt's, since a lease is
// renewed, until that or the lease is over.
func (b *bodyContext) Deadline() (time.Time, bool) {
	b.judge()
	d, ok := b.Context.Deadline()
	if past := b.past.Load(); past != nil && (!ok || past.Before(d)) {
		return *past, true
	}
	return d, ok
}

// Value implements context.Context.
func (b *bodyContext) Value(key any) any {
	b.judge()
	v := b.Context.Value(key)
	if claim, ok := v.(once.Claim); ok && b.lost.Load() {
		claim.Lost = true
		return claim
	}
	return v
}

// String implements fmt.Stringer, as contexts do: what is printed without it is read
// while it is written.
func (b *bodyContext) String() string { return fmt.Sprint(b.Context) }

// instant is a moment on both clocks. The monotonic one may stand still while
// the machine sleeps, and the wall clock may be set back.
type instant struct{ monotonic, wall time.Time }

func newInstant(t time.Time) instant { return instant{t, t.Round(0)} }

// age is the time since then on the clock that went further.
func (i instant) age(now time.Time) time.Duration {
	return max(now.Sub(i.monotonic), now.Round(0).Sub(i.wall))
}
