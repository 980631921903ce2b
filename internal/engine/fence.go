package engine

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/atmostonce/atmostonce/observe"
)

// observerLimit bounds how long a call waits for one observer, together with a
// tenth of the time that is left to the call.
const observerLimit = time.Second

// lateLimit bounds it for a call whose deadline is over: nobody waits for its
// answer, and what became of it is worth knowing.
const lateLimit = observerLimit / 10

// observer keeps an Observer from changing an answer: its panics and Goexits end
// in a goroutine of their own, and while it has not come back from a call in
// time, it is left out.
type observer struct {
	observe.Observer
	stuck atomic.Int32 // calls that it has not come back from in time
}

func newObservers(all []observe.Observer) []*observer {
	observers := make([]*observer, len(all))
	for i, o := range all {
		observers[i] = &observer{Observer: o}
	}
	return observers
}

// bounded returns what f returns, or ok false if f fails to in time.
func bounded[T any](ctx context.Context, o *observer, f func() T) (result T, ok bool) {
	if o.stuck.Load() > 0 {
		return result, false
	}
	limit := observerLimit
	if deadline, has := ctx.Deadline(); has {
		if left := time.Until(deadline); left > 0 {
			limit = min(limit, max(left/10, time.Millisecond))
		} else {
			limit = lateLimit
		}
	}
	returned := make(chan T, 1)
	var left atomic.Bool // by one of the two sides; the other one then counts
	go func() {
		defer func() {
			_ = recover()
			close(returned)
			if !left.CompareAndSwap(false, true) {
				o.stuck.Add(-1)
			}
		}()
		returned <- f()
	}()
	runtime.Gosched() // f is quick as a rule: then there is no need of a timer
	select {
	case result, ok = <-returned:
		return result, ok
	default:
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case result, ok = <-returned:
		return result, ok
	case <-timer.C:
		o.stuck.Add(1)
		if !left.CompareAndSwap(false, true) { // it came back just now
			o.stuck.Add(-1)
			result, ok = <-returned
		}
		return result, ok
	}
}

type begun struct {
	ctx         context.Context
	end         func(observe.Event)
	traceparent string
}

// begin hands the observer a beginning. It returns the context to go on with, the
// traceparent of a call, and what hands the observer the end.
func (o *observer) begin(ctx context.Context, e observe.Event) (context.Context, string, func(observe.Event)) {
	b, _ := bounded(ctx, o, func() (b begun) {
		b.ctx, b.end = o.Begin(ctx, e)
		if t, traces := o.Observer.(observe.Traceparenter); traces && e.Kind == observe.KindClaim && b.ctx != nil {
			quietly(func() { b.traceparent = t.Traceparent(b.ctx) })
		}
		return b
	})
	if b.ctx == nil || b.end == nil {
		return ctx, "", func(observe.Event) {}
	}
	return withValues{ctx, context.WithoutCancel(b.ctx)}, b.traceparent, func(e observe.Event) {
		bounded(ctx, o, func() any { b.end(e); return nil })
	}
}

// withValues is a context that has the values of another one, too, but not its
// end.
type withValues struct {
	context.Context
	values context.Context
}

// Value implements context.Context.
func (c withValues) Value(key any) any {
	if v := c.values.Value(key); v != nil {
		return v
	}
	return c.Context.Value(key)
}

// report hands the observer what has no duration.
func (o *observer) report(ctx context.Context, e observe.Event) {
	bounded(ctx, o, func() any {
		if _, end := o.Begin(ctx, e); end != nil {
			end(e)
		}
		return nil
	})
}

func quietly(f func()) {
	defer func() { _ = recover() }()
	f()
}
