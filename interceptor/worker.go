package interceptor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync/atomic"

	sdkactivity "go.temporal.io/sdk/activity"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"

	"github.com/atmostonce/atmostonce/internal/engine"
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
	*engine.Life
	started atomic.Bool
	counted atomic.Bool // the open records are counted for it
}

func newLife() *life { return &life{Life: engine.NewLife()} }

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

var (
	// errNoConverter: outcomes must not be stored as another converter than the
	// client's would encode them, for it may be the one that encrypts.
	errNoConverter    = errors.New("the guard does not know the client's data converter: list it in client.Options.Plugins, or set interceptor.Options.DataConverter")
	errManyConverters = errors.New("the guard serves several clients: set interceptor.Options.DataConverter to say whose converter encodes what no worker has run")
)

// isSurrounded reports whether other interceptors are around the guard, or may be.
func (w *workerGuard) isSurrounded(ctx context.Context) bool {
	if c := captureOf(ctx); c != nil && c.client != nil && c.client.surrounded || w.options == nil {
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
	if !g.clients.any() && g.clients.own == nil {
		errs = append(errs, errNoConverter)
	}
	errs = append(errs, w.problems(), w.unregistered(), w.otherGuards(), g.engine.Start(ctx, w.isOff))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: the worker does not start: %w", errOptions, err)
	}
	return nil
}

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

// prepare makes the series of the worker's marked activities known, where it is
// clear which client's metrics they belong to.
func (w *workerGuard) prepare(ctx context.Context) {
	c := w.guard.clients.only()
	if c == nil {
		return // each activity's first call does it
	}
	for name := range w.types.all() {
		if w.judge(name, false).marked {
			w.guard.engine.Prepare(ctx, c.meter, engine.Place{Namespace: c.namespace, Queue: w.queue, Activity: name})
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
