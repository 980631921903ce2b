package engine

import (
	"context"
	"runtime"
	"sync"
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

// idleHands bounds the goroutines that wait for an observer's next call.
const idleHands = 16

// observer keeps an Observer from changing an answer: its panics and Goexits end
// in goroutines of its own, and while it has not come back from a call in
// time, it is left out.
//
// While something that has begun is to end, some of these goroutines wait for what
// follows: to start one, and to let it grow, takes longer than most observers do. When
// nothing is, none is left.
type observer struct {
	observe.Observer
	stuck atomic.Int32 // calls that it has not come back from in time
	work  chan *handover
	free  sync.Pool // of handovers
	skips [observe.KindNotice + 1]bool

	mu   sync.Mutex
	open int           // what has begun, and has not ended
	idle int           // goroutines that wait for work
	over chan struct{} // closed when nothing is open any more; nil: none waits
}

func newObservers(all []observe.Observer) []*observer {
	observers := make([]*observer, len(all))
	for i, o := range all {
		observers[i] = &observer{Observer: o, work: make(chan *handover)}
		observers[i].choose()
	}
	return observers
}

// choose asks the observer what it has no use for.
func (o *observer) choose() {
	s, selects := o.Observer.(observe.Selector)
	if !selects {
		return
	}
	for _, k := range []observe.Kind{observe.KindClaim, observe.KindWait, observe.KindNotice} {
		var wants bool
		if bounded(context.Background(), o, func() { wants = s.Selects(k) }) {
			o.skips[k] = !wants
		}
	}
}

// handover is a call of an observer that somebody waits for, but not for ever.
type handover struct {
	f     func()
	taken atomic.Bool // by one of the two sides: it has ended, or nobody waits any more
	ended chan bool   // well or not; sent to if somebody waits
	limit *time.Timer
}

// bounded calls f, and reports whether it has returned in time. If not, what it writes is
// nobody's to read.
func bounded(ctx context.Context, o *observer, f func()) bool {
	return o.stuck.Load() == 0 && o.wait(ctx, o.hand(f))
}

// observerTime is how long a call with that context waits for an observer.
func observerTime(ctx context.Context) time.Duration {
	deadline, has := ctx.Deadline()
	if !has {
		return observerLimit
	}
	left := time.Until(deadline)
	if left <= 0 {
		return lateLimit
	}
	return min(observerLimit, max(left/10, time.Millisecond))
}

// hand has f called.
func (o *observer) hand(f func()) *handover {
	h, _ := o.free.Get().(*handover)
	if h == nil {
		h = &handover{ended: make(chan bool, 1)}
	}
	h.f = f
	select {
	case o.work <- h:
	default:
		go o.carryOut(h)
	}
	return h
}

// wait reports whether what was handed over has returned in time.
func (o *observer) wait(ctx context.Context, h *handover) bool {
	runtime.Gosched() // it is quick as a rule: then there is no need of a timer
	select {
	case ok := <-h.ended:
		return o.recycle(h, ok)
	default:
	}
	if limit := observerTime(ctx); h.limit == nil {
		h.limit = time.NewTimer(limit)
	} else {
		h.limit.Reset(limit)
	}
	select {
	case ok := <-h.ended:
		h.limit.Stop()
		return o.recycle(h, ok)
	case <-h.limit.C:
		o.stuck.Add(1)
		if h.taken.CompareAndSwap(false, true) {
			return false
		}
		o.stuck.Add(-1) // it came back just now
		return o.recycle(h, <-h.ended)
	}
}

func (o *observer) recycle(h *handover, ok bool) bool {
	h.f = nil
	h.taken.Store(false)
	o.free.Put(h)
	return ok
}

// carryOut calls what is handed over, and what is handed over next, while something is open.
func (o *observer) carryOut(h *handover) {
	for h != nil {
		o.call(h) // does not return from a Goexit, and the goroutine ends
		h = o.next()
	}
}

// next waits for work; nil says that there is none.
func (o *observer) next() (h *handover) {
	o.mu.Lock()
	if o.open == 0 || o.idle == idleHands {
		o.mu.Unlock()
		return nil
	}
	if o.over == nil {
		o.over = make(chan struct{})
	}
	o.idle++
	over := o.over
	o.mu.Unlock()
	select {
	case h = <-o.work:
	case <-over:
	}
	o.mu.Lock()
	o.idle--
	o.mu.Unlock()
	return h
}

// enter says that something begins, which leave ends.
func (o *observer) enter() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open++
}

func (o *observer) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open--; o.open == 0 && o.over != nil {
		close(o.over)
		o.over = nil
	}
}

func (o *observer) call(h *handover) {
	ok := false
	defer func() {
		_ = recover()
		if h.taken.CompareAndSwap(false, true) {
			h.ended <- ok
		} else {
			o.stuck.Add(-1)
		}
	}()
	h.f()
	ok = true
}

type begun struct {
	ctx         context.Context
	end         func(observe.Event)
	traceparent string
}

// begin hands the observer a beginning. It returns the context to go on with, the
// traceparent of a call, and what hands the observer the end.
func (o *observer) begin(ctx context.Context, e observe.Event) (context.Context, string, func(observe.Event)) {
	if o.skips[e.Kind] {
		return ctx, "", func(observe.Event) {}
	}
	b := &begun{}
	o.enter()
	ok := bounded(ctx, o, func() {
		b.ctx, b.end = o.Begin(ctx, e)
		if t, traces := o.Observer.(observe.Traceparenter); traces && e.Kind == observe.KindClaim && b.ctx != nil {
			quietly(func() { b.traceparent = t.Traceparent(b.ctx) })
		}
	})
	if !ok || b.ctx == nil || b.end == nil {
		return ctx, "", func(observe.Event) { o.leave() }
	}
	return withValues{ctx, context.WithoutCancel(b.ctx)}, b.traceparent, func(e observe.Event) { o.end(ctx, b, e) }
}

// end hands the observer the end of what b has begun.
func (o *observer) end(ctx context.Context, b *begun, e observe.Event) {
	if o.stuck.Load() > 0 {
		o.leave()
		return
	}
	h := o.hand(func() { b.end(e) })
	o.leave() // whoever does that need not wait for more
	o.wait(ctx, h)
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
	if o.skips[e.Kind] {
		return
	}
	bounded(ctx, o, func() {
		if _, end := o.Begin(ctx, e); end != nil {
			end(e)
		}
	})
}

func quietly(f func()) {
	defer func() { _ = recover() }()
	f()
}
