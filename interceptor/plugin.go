package interceptor

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"go.temporal.io/sdk/client"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
)

var (
	_ client.Plugin                    = (*Guard)(nil)
	_ worker.Plugin                    = (*Guard)(nil)
	_ sdkinterceptor.WorkerInterceptor = (*Guard)(nil)
)

// defaultStopTimeout is what a worker without a WorkerStopTimeout leaves to the
// guarded bodies that run when it begins to stop, so that they can end and be
// recorded. Kubernetes kills after 30 s.
const defaultStopTimeout = 10 * time.Second

// ConfigureClient implements client.Plugin.
func (g *Guard) ConfigureClient(_ context.Context, o client.PluginConfigureClientOptions) error {
	if g.linkOf(o.ClientOptions) == nil {
		o.ClientOptions.ContextPropagators = append(slices.Clip(o.ClientOptions.ContextPropagators), &clientLink{guard: g})
	}
	return nil
}

// NewClient implements client.Plugin: it learns the client's converters and
// metrics handler, after all plugins have configured them.
func (g *Guard) NewClient(ctx context.Context, o client.PluginNewClientOptions, next func(context.Context, client.PluginNewClientOptions) error) error {
	link := g.linkOf(&o.ClientOptions)
	if link == nil {
		return errors.New("atmostonce: another plugin has removed the guard's context propagator; list the guard after it")
	}
	conv, meter := newConverters(o.ClientOptions.DataConverter, o.ClientOptions.FailureConverter), newMeter(o.ClientOptions.MetricsHandler)
	link.mu.Lock()
	link.converters, link.meter = conv, meter
	link.mu.Unlock()
	o.ClientOptions.DataConverter = watchedConverter{conv.data}
	if err := next(ctx, o); err != nil {
		return err
	}
	g.metrics.learn(meter, cmp.Or(o.ClientOptions.Namespace, client.DefaultNamespace))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.several = g.several || g.client != nil && !g.client.same(conv)
	g.client = conv
	return nil
}

func (g *Guard) linkOf(o *client.Options) *clientLink {
	for _, p := range o.ContextPropagators {
		if link, ok := p.(*clientLink); ok && link.guard == g {
			return link
		}
	}
	return nil
}

// ConfigureWorker implements worker.Plugin.
func (g *Guard) ConfigureWorker(_ context.Context, o worker.PluginConfigureWorkerOptions) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.workers[o.WorkerInstanceKey] != nil {
		return nil // plugin of the client and of the worker
	}
	w := newWorkerGuard(g)
	w.options, w.queue = o.WorkerOptions, o.TaskQueue
	g.workers[o.WorkerInstanceKey] = w
	o.WorkerOptions.Interceptors = append(slices.Clip(o.WorkerOptions.Interceptors), w)
	w.watchRegistrations(o.WorkerRegistryOptions)
	return nil
}

// StartWorker implements worker.Plugin: it refuses to start a worker on which
// the guard could not keep its promise.
func (g *Guard) StartWorker(ctx context.Context, o worker.PluginStartWorkerOptions, next func(context.Context, worker.PluginStartWorkerOptions) error) error {
	g.mu.Lock()
	w := g.workers[o.WorkerInstanceKey]
	g.mu.Unlock()
	if w == nil {
		return errors.New("atmostonce: StartWorker without ConfigureWorker")
	}
	if !w.life.Load().started.CompareAndSwap(false, true) {
		return next(ctx, o) // the second time round, as plugin of the worker
	}
	if err := w.check(ctx); err != nil {
		w.life.Store(newLife())
		return err
	}
	w.prepare(ctx)
	return next(ctx, o)
}

// StopWorker implements worker.Plugin: it holds up the stop until the calls in
// Mode Enforce that run have ended and are recorded, for as long as the worker's
// WorkerStopTimeout, or 10 s if that is 0, counted from entry. Calls that wait
// for others are given back at once where another worker can take them. Without
// a call in Mode Enforce the worker stops as it would without the guard.
func (g *Guard) StopWorker(ctx context.Context, o worker.PluginStopWorkerOptions, next func(context.Context, worker.PluginStopWorkerOptions)) {
	g.mu.Lock()
	w := g.workers[o.WorkerInstanceKey]
	g.mu.Unlock()
	if w == nil || !w.life.Load().started.Load() {
		next(ctx, o)
		return
	}
	l, timeout := w.life.Load(), w.options.WorkerStopTimeout
	until := time.Now().Add(cmp.Or(timeout, defaultStopTimeout))
	l.beginStop(until)
	if timeout == 0 { // the SDK would cancel the bodies at once
		l.finish(until)
	}
	next(ctx, o)
	l.drain(until)
	w.life.CompareAndSwap(l, newLife())
}
