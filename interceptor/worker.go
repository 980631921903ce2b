package interceptor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"

	"github.com/atmostonce/atmostonce/once"
)

// workerGuard is the Guard on one worker.
type workerGuard struct {
	sdkinterceptor.WorkerInterceptorBase

	guard   *Guard
	name    string          // in records
	options *worker.Options // nil without a plugin
	queue   string
	types   typeTable
	life    atomic.Pointer[life]

	announced atomic.Bool
}

// life is a worker's time from start to stop. The SDK's test environments start
// and stop one worker many times.
type life struct {
	started  atomic.Bool
	counted  atomic.Bool   // the census knows of it
	stopping chan struct{} // closed when the worker begins to stop
	stopOnce sync.Once
	stopped  time.Time    // when it ends; to be read after stopping is closed
	lost     atomic.Int32 // claims that are being given back
	tasks    tasks        // calls in Mode Enforce, and their background writes
	ctx      context.Context
	cancel   context.CancelFunc // ends background writes
}

func newLife() *life {
	l := &life{stopping: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

func newWorkerGuard(g *Guard) *workerGuard {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	w := &workerGuard{guard: g, name: strconv.Itoa(os.Getpid()) + "@" + host}
	w.life.Store(newLife())
	return w
}

// InterceptActivity implements the SDK's WorkerInterceptor.
func (w *workerGuard) InterceptActivity(ctx context.Context, next sdkinterceptor.ActivityInboundInterceptor) sdkinterceptor.ActivityInboundInterceptor {
	info := sdkactivity.GetInfo(ctx)
	v := w.judge(info.ActivityType.Name, info.IsLocalActivity)
	if !v.marked && len(v.suspects) == 0 {
		return next
	}
	i := &inbound{worker: w, verdict: v}
	i.Next = next
	return i
}

// errNoConverter: outcomes must not be stored as another converter than the
// client's would encode them, for it may be the one that encrypts.
var errNoConverter = errors.New("the guard does not know the client's data converter: list it in client.Options.Plugins, or set interceptor.Options.DataConverter")

// converters returns those of the call's client, and the call's input as it
// came from Temporal if it was seen.
func (w *workerGuard) converters(ctx context.Context) (*converters, *commonpb.Payloads) {
	if c := captureOf(ctx); c != nil && c.converters != nil {
		return c.converters, c.input()
	}
	return w.guard.own, nil
}

// isSurrounded reports whether other interceptors are around the guard, or may be.
func (w *workerGuard) isSurrounded(ctx context.Context) bool {
	if c := captureOf(ctx); c != nil && c.surrounded || w.options == nil {
		return true
	}
	all := w.options.Interceptors
	return len(all) == 0 || all[0] != sdkinterceptor.WorkerInterceptor(w)
}

// check reports everything that keeps this worker from being guarded.
func (w *workerGuard) check(ctx context.Context) error {
	if !w.types.any() {
		return nil // it runs workflows only
	}
	g := w.guard
	var errs []error
	g.mu.Lock()
	if g.client == nil && g.options.DataConverter == nil {
		errs = append(errs, errNoConverter)
	}
	g.mu.Unlock()
	errs = append(errs, w.problems(), w.unregistered(), w.otherGuards())
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	switch err := g.checkStore(ctx); {
	case tolerable(err), err != nil && w.isOff():
		logger := cmp.Or(g.clientLogger(), log.NewStructuredLogger(slog.Default()))
		logger.Warn("atmostonce: look at the store", "Error", err)
		g.owed.Store(&err) // there is no activity yet whose metrics could tell
	default:
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: the worker does not start: %w", errOptions, err)
	}
	return nil
}

// prepare makes the series of the worker's marked activities known, where it is
// clear which client's metrics they belong to.
func (w *workerGuard) prepare(ctx context.Context) {
	m, namespace := w.guard.metrics.client()
	if m == nil {
		return // each activity's first call does it
	}
	for name := range w.types.all() {
		if w.judge(name, false).marked {
			w.guard.metrics.prepare(ctx, m, place{namespace, w.queue, name})
		}
	}
}

// unregistered finds marks that guard nothing: neither a typo nor a wrapper must
// leave a charge unguarded.
func (w *workerGuard) unregistered() error {
	g := w.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	for _, m := range g.marks {
		found := m.Exempt || g.overruled(m)
		for _, other := range g.workers {
			found = found || other.types.serves(m)
		}
		if !found {
			errs = append(errs, fmt.Errorf("activity %q is marked%s", m.Name, g.instead(m)))
		}
	}
	return errors.Join(errs...)
}

// overruled reports whether another mark goes before that of a struct's method.
func (g *Guard) overruled(m mark) bool {
	return m.rank == ofStruct && slices.ContainsFunc(g.marks, func(other mark) bool {
		return other.rank == ofOne && (other.function.id == m.function.id || other.Func == nil && other.Name == m.Name)
	})
}

// instead says what is registered in place of a marked activity.
func (g *Guard) instead(m mark) string {
	const nowhere = " but registered with no worker of this guard; register all workers before the first one starts"
	for _, w := range g.workers {
		types := w.types.all()
		for _, name := range slices.Sorted(maps.Keys(types)) {
			switch r := types[name]; {
			case m.Func == nil && r.name == m.Name:
				return fmt.Sprintf("%s. %s is registered as %q: mark that name, or the function", nowhere, r.id, name)
			case m.Func != nil && name == m.Name && (r.mark == unmarked || g.marks[r.mark].rank == ofAll):
				return fmt.Sprintf(" as %s, but registered is another function, %s. If that wraps the marked one, mark the name %q instead", m.function.id, r.id, name)
			}
		}
	}
	switch {
	case m.Func == nil:
		return nowhere
	case m.function.vague:
		return fmt.Sprintf(" as %s%s. If %s is an interface, mark the method of the concrete type, or the registered name", m.function.id, nowhere, m.function.owner())
	}
	return fmt.Sprintf(" as %s%s. If a wrapper is registered in its place, mark the registered name", m.function.id, nowhere)
}

// otherGuards finds activities that two guards on this worker mark: each would
// wait for the other.
func (w *workerGuard) otherGuards() error {
	var errs []error
	for _, i := range w.options.Interceptors {
		other, _ := i.(*workerGuard)
		if plain, ok := i.(*Guard); ok {
			other = plain.plain
		}
		if other == nil || other.guard == w.guard {
			continue
		}
		for name := range w.types.all() {
			theirs := other.judge(name, false)
			if w.judge(name, false).marked && (theirs.marked || len(theirs.suspects) > 0) {
				errs = append(errs, fmt.Errorf("activity %s is marked by two guards on this worker", name))
			}
		}
	}
	return errors.Join(errs...)
}

func (l *life) beginStop(until time.Time) {
	l.stopOnce.Do(func() {
		l.stopped = until
		close(l.stopping)
	})
}

// end returns when the worker will have stopped; ok is false while it does not
// stop.
func (l *life) end() (t time.Time, ok bool) {
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

// finish waits until the calls that run have ended and their answers are sent.
// It does not wait if there are none.
func (l *life) finish(until time.Time) {
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

// minDrain is left to the writes of bodies that the SDK canceled at the end of
// its own stop timeout.
const minDrain = 2 * time.Second

// drain waits until everything is recorded, then gives up what is not: those
// claims go in doubt when their lease is over.
func (l *life) drain(until time.Time) {
	l.await(max(time.Until(until), minDrain))
	l.cancel()
	l.await(lastWords)
}

// lastWords is left to tell of what could not be recorded.
const lastWords = time.Second

// await returns when nothing runs any more, or after a time.
func (l *life) await(atMost time.Duration) {
	limit := time.NewTimer(atMost)
	defer limit.Stop()
	select {
	case <-l.tasks.idle():
	case <-limit.C:
	}
}

// tasks counts what the worker's stop waits for.
type tasks struct {
	mu      sync.Mutex
	n       int
	ended   time.Time // when the last one did whose answer the SDK has to send
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

// inbound guards one attempt of a marked activity.
type inbound struct {
	sdkinterceptor.ActivityInboundInterceptorBase
	worker  *workerGuard
	verdict verdict
	beat    heartbeat
}

// Init implements the SDK's ActivityInboundInterceptor.
func (i *inbound) Init(outbound sdkinterceptor.ActivityOutboundInterceptor) error {
	i.beat.Next = outbound
	return i.Next.Init(&i.beat)
}

type guardedBy struct{ guard *Guard }

// ExecuteActivity implements the SDK's ActivityInboundInterceptor.
func (i *inbound) ExecuteActivity(ctx context.Context, in *sdkinterceptor.ExecuteActivityInput) (any, error) {
	i.beat.over = ctx.Done()
	body := func(ctx context.Context) (any, error) { return i.Next.ExecuteActivity(ctx, in) }
	key := guardedBy{i.worker.guard}
	if ctx.Value(key) != nil {
		return body(ctx) // installed twice: the outer one guards
	}
	m, marked, unclear := i.verdict.with(in.Args)
	if !marked {
		return body(ctx)
	}
	ctx = context.WithValue(ctx, key, true)
	if !i.worker.announced.Load() {
		i.worker.announce(sdkactivity.GetLogger(ctx))
	}
	c := newCall(ctx, i.worker, m, in.Args, &i.beat)
	c.returns = i.verdict.code.result()
	i.beat.stopping = c.life.stopping
	c.guard.metrics.prepare(ctx, c.guard.metrics.of(ctx), c.place())
	mode := c.guard.modeOf(m, c.info.ActivityType.Name)
	err := c.identified(ctx, m, mode)
	if unclear != nil {
		err = unclear
	}
	switch {
	case mode == once.Off:
		return c.off(ctx, body)
	case err != nil:
		return c.keyless(ctx, body, err, mode)
	case mode == once.Observe:
		return c.observe(ctx, body)
	}
	c.enforced = true
	c.life.tasks.begin()
	defer c.life.tasks.end(!c.inTest())
	return c.serve(ctx, body)
}
