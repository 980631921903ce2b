package interceptor_test

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
)

// guardedTasks returns an environment of the SDK whose tasks take the way of a worker
// that has the guard as a plugin of its client. ChargeCard is marked, and no call of it
// is warned about.
func guardedTasks(tb testing.TB, body func(context.Context, charge) (receipt, error)) *testsuite.TestActivityEnvironment {
	tb.Helper()
	p := once.Policy{Key: keys.From(func(in charge) string { return in.Order }), Scope: keys.PerNamespace}
	g, err := interceptor.New(memory(), interceptor.Options{Activities: once.Mark(p, "ChargeCard")})
	require.NoError(tb, err)
	var configured client.Options
	c, err := client.NewLazyClient(client.Options{HostPort: "127.0.0.1:1", Logger: quiet, Plugins: []client.Plugin{g, configuration{of: &configured}}})
	require.NoError(tb, err)
	tb.Cleanup(c.Close)
	// The environment would configure, start and stop a worker for each task.
	var o worker.Options
	var registry worker.PluginConfigureWorkerRegistryOptions
	require.NoError(tb, g.ConfigureWorker(context.Background(), worker.PluginConfigureWorkerOptions{
		WorkerInstanceKey: tb.Name(), TaskQueue: "queue", WorkerOptions: &o, WorkerRegistryOptions: &registry,
	}))
	for _, name := range taskTypes {
		registry.OnRegisterActivity(body, sdkactivity.RegisterOptions{Name: name})
	}
	env := tasks(body, o)
	env.SetDataConverter(configured.DataConverter).SetContextPropagators(configured.ContextPropagators)
	return env
}

var taskTypes = []string{"ChargeCard", "Other"}

// configuration is a plugin that notes what those before it have made of the options.
type configuration struct {
	client.PluginBase
	of *client.Options
}

func (c configuration) Name() string { return "configuration" }

func (c configuration) ConfigureClient(_ context.Context, o client.PluginConfigureClientOptions) error {
	*c.of = *o.ClientOptions
	return nil
}

// tasks returns an environment that runs body as each of the taskTypes.
func tasks(body func(context.Context, charge) (receipt, error), o worker.Options) *testsuite.TestActivityEnvironment {
	var s testsuite.WorkflowTestSuite
	s.SetLogger(quiet)
	env := s.NewTestActivityEnvironment()
	env.SetWorkerOptions(o)
	for _, name := range taskTypes {
		env.RegisterActivityWithOptions(body, sdkactivity.RegisterOptions{Name: name})
	}
	return env
}

// BenchmarkActivity runs activity tasks in the SDK's test environment: without a guard,
// and with it, not marked, for the first time and again. They come in turns, in batches,
// since what else the machine does changes all the time. The cost of the guard is what
// each takes over the bare one in the same turn: the median of that is reported.
func BenchmarkActivity(b *testing.B) {
	const batch = 200
	body := func(context.Context, charge) (receipt, error) { return receipt{ID: "r"}, nil }
	bare, guarded, n := tasks(body, worker.Options{}), guardedTasks(b, body), 0
	run := func(env *testsuite.TestActivityEnvironment, name, order string) {
		if _, err := env.ExecuteActivity(name, charge{Order: order, Cents: 1200}); err != nil {
			b.Fatal(err)
		}
	}
	kinds := []struct {
		name string
		once func()
	}{
		{"bare", func() { run(bare, "ChargeCard", "7") }},
		{"unmarked", func() { run(guarded, "Other", "7") }},
		{"first", func() { n++; run(guarded, "ChargeCard", "first-"+strconv.Itoa(n)) }},
		{"duplicate", func() { run(guarded, "ChargeCard", "7") }},
	}
	for _, k := range kinds {
		k.once()
	}
	over := map[string][]cost{}
	for b.Loop() {
		var base cost
		for _, k := range kinds {
			c := costOf(batch, k.once)
			if k.name == "bare" {
				base = c
			}
			over[k.name] = append(over[k.name], cost{c.took - base.took, c.allocs - base.allocs, c.bytes - base.bytes})
		}
	}
	b.ReportMetric(0, "ns/op") // of a turn: it says nothing
	for _, k := range kinds[1:] {
		b.ReportMetric(float64(median(over[k.name], func(c cost) int64 { return int64(c.took) }))/1e3, k.name+"-µs")
		b.ReportMetric(float64(median(over[k.name], func(c cost) int64 { return c.allocs })), k.name+"-allocs")
		b.ReportMetric(float64(median(over[k.name], func(c cost) int64 { return c.bytes })), k.name+"-B")
	}
}

// cost is that of one task.
type cost struct {
	took          time.Duration
	allocs, bytes int64
}

func costOf(batch int64, f func()) cost {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	for range batch {
		f()
	}
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	return cost{took / time.Duration(batch), int64(after.Mallocs-before.Mallocs) / batch, int64(after.TotalAlloc-before.TotalAlloc) / batch}
}

func median[T any, N cmp.Ordered](all []T, of func(T) N) N {
	numbers := make([]N, len(all))
	for i, x := range all {
		numbers[i] = of(x)
	}
	slices.Sort(numbers)
	return numbers[len(numbers)/2]
}
