package interceptor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
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

// ConfigureClient implements client.Plugin: it wraps the client's data converter,
// and adds a context propagator.
func (g *Guard) ConfigureClient(_ context.Context, o client.PluginConfigureClientOptions) error {
	c := o.ClientOptions
	if linkOf(c, g) != nil {
		return nil // it is listed twice
	}
	c.ContextPropagators = append(slices.Clip(c.ContextPropagators), &clientLink{of: g.clients})
	if _, watched := c.DataConverter.(*watch); !watched { // by another guard
		if c.DataConverter == nil {
			c.DataConverter = converter.GetDefaultDataConverter()
		}
		c.DataConverter = &watch{DataConverter: c.DataConverter}
	}
	return nil
}

// NewClient implements client.Plugin: it learns the client's converters and
// metrics handler, which all plugins have configured by now, and changes nothing.
func (g *Guard) NewClient(ctx context.Context, o client.PluginNewClientOptions, next func(context.Context, client.PluginNewClientOptions) error) error {
	link := linkOf(&o.ClientOptions, g)
	if link == nil {
		return errors.New("atmostonce: another plugin has removed the guard's context propagator; list the guard after it in client.Options.Plugins")
	}
	watched, ok := o.ClientOptions.DataConverter.(*watch)
	if !ok {
		return fmt.Errorf("atmostonce: another plugin has put its own data converter (%T) in place after the guard had wrapped the client's: outcomes would not be sealed by it; list the guard last in client.Options.Plugins",
			o.ClientOptions.DataConverter)
	}
	if p := replacer(o.ClientOptions.Plugins, g); p != nil {
		return fmt.Errorf("atmostonce: plugin %q (%T) is listed after the guard and has a NewClient method, in which it could put another data converter in place: list the guard after it in client.Options.Plugins", p.Name(), p)
	}
	conv := newConverters(watched.DataConverter, o.ClientOptions.FailureConverter)
	conv.rest, conv.limit = g.options.DataConverter, g.options.MaxOutcome
	made := &clientInfo{
		converters: conv, meter: newMeter(o.ClientOptions.MetricsHandler),
		namespace:  cmp.Or(o.ClientOptions.Namespace, client.DefaultNamespace),
		surrounded: slices.ContainsFunc(o.ClientOptions.Interceptors, isWorkerInterceptor),
	}
	link.client.Store(made)
	if err := next(ctx, o); err != nil {
		return err
	}
	g.clients.learn(made, o.ClientOptions.Logger)
	return nil
}

func isWorkerInterceptor(i sdkinterceptor.ClientInterceptor) bool {
	_, ok := i.(sdkinterceptor.WorkerInterceptor)
	return ok
}

// linkOf returns what ties the calls of a client to g; nil if nothing does yet.
func linkOf(o *client.Options, g *Guard) *clientLink {
	for _, p := range o.ContextPropagators {
		if link, ok := p.(*clientLink); ok && link.of == g.clients {
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
	w := newWorkerGuard(g, g.registry.add(o.WorkerOptions))
	w.queue = o.TaskQueue
	g.workers[o.WorkerInstanceKey] = w
	// Where the guard is listed as an interceptor too, this one knows more.
	all := slices.DeleteFunc(slices.Clone(o.WorkerOptions.Interceptors), func(i sdkinterceptor.WorkerInterceptor) bool {
		return i == sdkinterceptor.WorkerInterceptor(g)
	})
	all = append(all, w)
	o.WorkerOptions.Interceptors = all
	w.types.watch(o.WorkerRegistryOptions)
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
	w.announce(g.clients.clientLogger())
	if err := next(ctx, o); err != nil {
		return err
	}
	if w.types.any() && w.life.Load().counted.CompareAndSwap(false, true) {
		g.engine.Census.Begin()
	}
	return nil
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
	l, timeout := w.life.Load(), w.types.options.WorkerStopTimeout
	until := time.Now().Add(cmp.Or(timeout, defaultStopTimeout))
	l.BeginStop(until)
	until, _ = l.End() // the guard may be listed twice: it waits once
	if timeout == 0 {  // the SDK would cancel the bodies at once
		l.Finish(until)
	}
	next(ctx, o)
	l.Drain(until)
	if l.counted.CompareAndSwap(true, false) {
		g.engine.Census.End()
	}
	w.life.CompareAndSwap(l, newLife())
}
