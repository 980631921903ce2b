package interceptor

import (
	"context"
	"sync/atomic"
	"time"
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
	Observer
	stuck atomic.Int32 // calls that it has not come back from in time
}

func newObservers(all []Observer) []*observer {
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
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case result, ok = <-returned:
		return result, ok
	case <-timer.C:
		o.stuck.Add(1)
		if !left.CompareAndSwap(false, true) { // it came back just now
			o.stuck.Add(-1)
		}
		return result, false
	}
}

type begun struct {
	ctx context.Context
	end func(Event)
}

// begin tells the observer of a beginning. It returns the context to go on with,
// and what tells it of the end.
func (o *observer) begin(ctx context.Context, e Event) (context.Context, func(Event)) {
	b, _ := bounded(ctx, o, func() begun {
		ctx, end := o.Begin(ctx, e)
		return begun{ctx, end}
	})
	if b.ctx == nil || b.end == nil {
		return ctx, func(Event) {}
	}
	return b.ctx, func(e Event) {
		bounded(ctx, o, func() any { b.end(e); return nil })
	}
}

// trace returns the observer's traceparent for ctx; ok is false if it does not
// trace.
func (o *observer) trace(ctx context.Context) (traceparent string, ok bool) {
	t, ok := o.Observer.(Tracer)
	if ok {
		traceparent, _ = bounded(ctx, o, func() string { return t.Trace(ctx) })
	}
	return traceparent, ok
}
