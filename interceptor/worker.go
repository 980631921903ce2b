package interceptor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"

	sdkactivity "go.temporal.io/sdk/activity"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/workflow"

	"github.com/atmostonce/atmostonce/internal/engine"
)

// workerGuard is the Guard on one worker.
type workerGuard struct {
	sdkinterceptor.WorkerInterceptorBase

	guard *Guard
	name  string // in records
	queue string
	types *typeTable
	life  atomic.Pointer[life]

	announced atomic.Bool
	known     places
}

// life is a worker's time from start to stop. The SDK's test environments start
// and stop one worker many times.
type life struct {
	*engine.Life
	started atomic.Bool
	counted atomic.Bool // the open records are counted for it
}

func newLife() *life { return &life{Life: engine.NewLife()} }

func newWorkerGuard(g *Guard, types *typeTable) *workerGuard {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	w := &workerGuard{guard: g, types: types, name: strconv.Itoa(os.Getpid()) + "@" + host}
	w.life.Store(newLife())
	return w
}

// InterceptActivity implements the SDK's WorkerInterceptor.
func (w *workerGuard) InterceptActivity(ctx context.Context, next sdkinterceptor.ActivityInboundInterceptor) sdkinterceptor.ActivityInboundInterceptor {
	info := sdkactivity.GetInfo(ctx)
	v := w.types.judge(info.ActivityType.Name, info.IsLocalActivity)
	if !v.marked && len(v.suspects) == 0 {
		return next
	}
	i := &inbound{worker: w, verdict: v}
	i.Next = next
	return i
}

// isSurrounded reports whether other interceptors are around the guard, or may be.
func (w *workerGuard) isSurrounded(ctx context.Context) bool {
	if c := captureOf(ctx); c != nil && c.client != nil && c.client.surrounded || w.types.options == nil {
		return true
	}
	all := w.types.options.Interceptors
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
	errs = append(errs, w.types.problems(), g.registry.unregistered(), w.otherGuards(), g.engine.Start(ctx, w.types.isOff))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: the worker does not start: %w", errOptions, err)
	}
	return nil
}

// prepare makes the series of the worker's marked activities known, where it is
// clear which client's metrics they belong to.
func (w *workerGuard) prepare(ctx context.Context) {
	c := w.guard.clients.only()
	if c == nil {
		return // each activity's first call does it
	}
	for name := range w.types.all() {
		if w.types.judge(name, false).marked {
			w.guard.engine.Prepare(ctx, c.meter, engine.Place{Namespace: c.namespace, Queue: w.queue, Activity: name})
		}
	}
}

// otherGuards finds activities that two guards on this worker mark: each would
// wait for the other.
func (w *workerGuard) otherGuards() error {
	var errs []error
	for _, i := range w.types.options.Interceptors {
		other, _ := i.(*workerGuard)
		if plain, ok := i.(*Guard); ok {
			other = plain.plain
		}
		if other == nil || other.guard == w.guard {
			continue
		}
		for name := range w.types.all() {
			theirs := other.types.judge(name, false)
			if w.types.judge(name, false).marked && (theirs.marked || len(theirs.suspects) > 0) {
				errs = append(errs, fmt.Errorf("activity %s is marked by two guards on this worker", name))
			}
		}
	}
	return errors.Join(errs...)
}

// InterceptWorkflow implements the SDK's WorkerInterceptor.
func (w *workerGuard) InterceptWorkflow(_ workflow.Context, next sdkinterceptor.WorkflowInboundInterceptor) sdkinterceptor.WorkflowInboundInterceptor {
	return newWorkflowInbound(w.guard.summary, next)
}
