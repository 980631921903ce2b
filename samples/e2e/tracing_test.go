package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/telemetry"
)

// installation says where the tracing interceptor of a worker is listed, whose
// guard is a plugin of its client.
type installation func(tracing sdkinterceptor.Interceptor, guard *interceptor.Guard) (client.Options, worker.Options)

func onTheClient(tracing sdkinterceptor.Interceptor, guard *interceptor.Guard) (client.Options, worker.Options) {
	return client.Options{Interceptors: []sdkinterceptor.ClientInterceptor{tracing}, Plugins: []client.Plugin{guard}}, worker.Options{}
}

func onTheWorker(tracing sdkinterceptor.Interceptor, guard *interceptor.Guard) (client.Options, worker.Options) {
	return client.Options{Plugins: []client.Plugin{guard}}, worker.Options{Interceptors: []sdkinterceptor.WorkerInterceptor{tracing}}
}

func byAPluginBefore(tracing sdkinterceptor.Interceptor, guard *interceptor.Guard) (client.Options, worker.Options) {
	return client.Options{Plugins: []client.Plugin{tracingPlugin(tracing), guard}}, worker.Options{}
}

func byAPluginAfter(tracing sdkinterceptor.Interceptor, guard *interceptor.Guard) (client.Options, worker.Options) {
	return client.Options{Plugins: []client.Plugin{guard, tracingPlugin(tracing)}}, worker.Options{}
}

func byAPluginOfTheWorker(tracing sdkinterceptor.Interceptor, guard *interceptor.Guard) (client.Options, worker.Options) {
	return client.Options{Plugins: []client.Plugin{guard}}, worker.Options{Plugins: []worker.Plugin{tracingPlugin(tracing)}}
}

// byAPluginForClients adds a client's interceptor, which the SDK puts outermost
// whatever the order of the plugins.
func byAPluginForClients(tracing sdkinterceptor.Interceptor, guard *interceptor.Guard) (client.Options, worker.Options) {
	plugin := newPlugin(temporal.SimplePluginOptions{ClientInterceptors: []sdkinterceptor.ClientInterceptor{tracing}})
	return client.Options{Plugins: []client.Plugin{guard, plugin}}, worker.Options{}
}

func nowhere(_ sdkinterceptor.Interceptor, guard *interceptor.Guard) (client.Options, worker.Options) {
	return client.Options{Plugins: []client.Plugin{guard}}, worker.Options{}
}

func tracingPlugin(tracing sdkinterceptor.WorkerInterceptor) *temporal.SimplePlugin {
	return newPlugin(temporal.SimplePluginOptions{WorkerInterceptors: []sdkinterceptor.WorkerInterceptor{tracing}})
}

func newPlugin(o temporal.SimplePluginOptions) *temporal.SimplePlugin {
	o.Name = "tracing"
	plugin, err := temporal.NewSimplePlugin(o)
	if err != nil {
		panic(err)
	}
	return plugin
}

// tracedCall has one call run on a worker so installed, and returns its spans.
// Where the workflows are traced as well, that is by workflows.
func tracedCall(t *testing.T, install installation, workflows *traced, tracing opentelemetry.TracerOptions, o telemetry.Options) *traced {
	t.Helper()
	var options client.Options
	if workflows != nil {
		options.Interceptors = []sdkinterceptor.ClientInterceptor{workflows.interceptor(t, tracing)}
	}
	s := newScene(t, options)
	p := newTraced()
	clientOptions, workerOptions := install(p.interceptor(t, tracing), s.observed(once.Policy{}, p.observer(o)))
	s.options.Interceptors = clientOptions.Interceptors
	workerOptions.DisableWorkflowWorker = true
	w := worker.New(s.dial(clientOptions.Plugins...), s.name, workerOptions)
	register(w, p.calling(s.charge))
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	s.served(s.start("traced", "one", call{}))
	s.count(1, charged)
	require.Equal(t, traceparent(p.only(t, executeSpan)), s.record(store.Succeeded).Info.Trace)
	return p
}

func TestTracing_EachSpanHasItsParent(t *testing.T) {
	t.Parallel()
	inside, outside := []string{startActivity, runActivity, executeSpan, calleeSpan}, []string{startActivity, executeSpan, runActivity, calleeSpan}
	for name, tc := range map[string]struct {
		install installation
		spans   []string // each the parent of the next
	}{
		"interceptor of the client":           {onTheClient, inside},
		"interceptor of the worker":           {onTheWorker, inside},
		"plugin before the guard":             {byAPluginBefore, inside},
		"plugin after the guard":              {byAPluginAfter, outside},
		"plugin of the worker":                {byAPluginOfTheWorker, outside},
		"plugin after the guard, for clients": {byAPluginForClients, inside},
		"only where the workflows run":        {nowhere, []string{startActivity, executeSpan, calleeSpan}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			workflows := newTraced()
			p := tracedCall(t, tc.install, workflows, opentelemetry.TracerOptions{}, telemetry.Options{})
			span := workflows.only(t, startActivity)
			for _, name := range tc.spans[1:] {
				requireParent(t, span, p.only(t, name))
				span = p.only(t, name)
			}
		})
	}
}

func TestTracing_WithoutAnInterceptorTheGuardsSpanIsTheRoot(t *testing.T) {
	t.Parallel()
	p := tracedCall(t, nowhere, nil, opentelemetry.TracerOptions{}, telemetry.Options{})
	require.False(t, p.only(t, executeSpan).Parent().IsValid())
	requireParent(t, p.only(t, executeSpan), p.only(t, calleeSpan))
	require.Len(t, p.recorder.Ended(), 2)
}

// veiled is a propagator that only itself can read. Temporal's interceptor wants
// a field of that name.
type veiled struct{ propagation.TraceContext }

const veil = "veiled "

func (v veiled) Inject(ctx context.Context, carrier propagation.TextMapCarrier) {
	v.TraceContext.Inject(ctx, carrier)
	carrier.Set("traceparent", veil+carrier.Get("traceparent"))
}

func (v veiled) Extract(ctx context.Context, carrier propagation.TextMapCarrier) context.Context {
	unveiled, ok := strings.CutPrefix(carrier.Get("traceparent"), veil)
	if !ok {
		return ctx
	}
	return v.TraceContext.Extract(ctx, propagation.MapCarrier{"traceparent": unveiled})
}

func TestTracing_FindsTheHeaderThatItIsToldOf(t *testing.T) {
	t.Parallel()
	tracing := opentelemetry.TracerOptions{HeaderKey: "trace", TextMapPropagator: veiled{}}
	for name, tc := range map[string]struct {
		options telemetry.Options
		found   bool
	}{
		"as the interceptor has them": {telemetry.Options{HeaderKey: "trace", Propagator: veiled{}}, true},
		"another key":                 {telemetry.Options{Propagator: veiled{}}, false},
		"another propagator":          {telemetry.Options{HeaderKey: "trace"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			workflows := newTraced()
			p := tracedCall(t, byAPluginAfter, workflows, tracing, tc.options)
			require.Equal(t, tc.found, p.only(t, executeSpan).Parent().IsValid())
			if tc.found {
				requireParent(t, workflows.only(t, startActivity), p.only(t, executeSpan))
			}
			requireParent(t, p.only(t, executeSpan), p.only(t, runActivity))
		})
	}
}

func TestTracing_LocalActivity(t *testing.T) {
	t.Parallel()
	s, p := newTracedScene(t)
	s.name += "-local"
	w := worker.New(s.dial(s.observed(once.Policy{}, p.observer(telemetry.Options{}))), s.name, worker.Options{})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context, c call) (v verdict, err error) {
		ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: soon})
		err = workflow.ExecuteLocalActivity(ctx, "Charge", c.Input).Get(ctx, &v.Receipt)
		return v, err
	}, workflow.RegisterOptions{Name: "local"})
	register(w, p.calling(s.charge))
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	s.served(s.start("local", "local", call{}))
	requireParent(t, p.only(t, startActivity), p.only(t, runActivity))
	requireParent(t, p.only(t, runActivity), p.only(t, executeSpan))
	requireParent(t, p.only(t, executeSpan), p.only(t, calleeSpan))
}
