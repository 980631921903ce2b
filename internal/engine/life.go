package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Life is the time in which calls are taken, from its start to its stop.
type Life struct {
	stopping chan struct{} // closed when it begins to stop
	stopOnce sync.Once
	stopped  time.Time    // when it ends; to be read after stopping is closed
	lost     atomic.Int32 // claims that are being given back
	tasks    tasks        // calls under Enforce, and their background writes
	ctx      context.Context
	cancel   context.CancelFunc // ends background writes
}

// NewLife returns one that has begun.
func NewLife() *Life {
	l := &Life{stopping: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Stopping is closed when the life begins to stop.
func (l *Life) Stopping() <-chan struct{} { return l.stopping }

// BeginStop says that the life ends at that time. The first one counts.
func (l *Life) BeginStop(until time.Time) {
	l.stopOnce.Do(func() {
		l.stopped = until
		close(l.stopping)
	})
}

// End returns when the life will have ended; ok is false while it does not stop.
func (l *Life) End() (t time.Time, ok bool) {
	select {
	case <-l.stopping:
		return l.stopped, true
	default:
		return t, false
	}
}

// answerTime is left to the SDK to send the answer of a call, and to begin the
// local activity that follows.
const answerTime = 500 * time.Millisecond

// Finish waits until the calls that run have ended and their answers are sent.
// It does not wait if there are none.
func (l *Life) Finish(until time.Time) {
	began := time.Now()
	for left := time.Until(until); left > 0; left = time.Until(until) {
		n, ended := l.tasks.running()
		quiet := time.Since(ended)
		switch {
		case n > 0:
			l.await(left)
		case ended.After(began) && quiet < answerTime:
			<-time.After(min(left, answerTime-quiet))
		default:
			return
		}
	}
}

// minDrain is left to the writes of bodies that were canceled at the end.
const minDrain = 2 * time.Second

// Drain waits until everything is recorded, then gives up what is not: those
// claims go in doubt when their lease is over.
func (l *Life) Drain(until time.Time) {
	l.await(max(time.Until(until), minDrain))
	l.cancel()
	l.await(lastWords)
}

// DrainUntil is Drain until ctx ends. It returns how many calls and writes were given up.
func (l *Life) DrainUntil(ctx context.Context) (left int) {
	select {
	case <-l.tasks.idle():
	case <-ctx.Done():
		left, _ = l.tasks.running()
	}
	l.cancel()
	if left > 0 {
		l.await(lastWords)
	}
	return left
}

// lastWords is left to report what could not be recorded.
const lastWords = time.Second

// await returns when nothing runs any more, or after a time.
func (l *Life) await(atMost time.Duration) {
	limit := time.NewTimer(atMost)
	defer limit.Stop()
	select {
	case <-l.tasks.idle():
	case <-limit.C:
	}
}

// tasks counts what the stop waits for.
type tasks struct {
	mu      sync.Mutex
	n       int
	ended   time.Time // when the last one did whose answer is still to be sent
	waiting chan struct{}
}

func (t *tasks) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
}

func (t *tasks) end(answers bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n--
	if answers {
		t.ended = time.Now()
	}
	if t.n == 0 && t.waiting != nil {
		close(t.waiting)
		t.waiting = nil
	}
}

// running returns how many run, and when the last one ended.
func (t *tasks) running() (n int, ended time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n, t.ended
}

// idle returns a channel that is closed when nothing is counted.
func (t *tasks) idle() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting == nil {
		t.waiting = make(chan struct{})
	}
	c := t.waiting
	if t.n == 0 {
		close(c)
		t.waiting = nil
	}
	return c
}
