package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"slices"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	sdkactivity "go.temporal.io/sdk/activity"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/atmostonce/atmostonce"
	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
	"github.com/atmostonce/atmostonce/telemetry"
)

// place is where records are: a new, empty store of some kind.
type place struct {
	name  string
	store store.Store
	close func() error
}

// places opens one of each. Two sets in one folder share the files and the Redis.
func (l *lab) places(dir, prefix string) ([]place, error) {
	file, err := store.NewFile(dir, store.FileOptions{})
	if err != nil {
		return nil, err
	}
	c := l.dial()
	remote, err := redisstore.New(c, redisstore.Options{Prefix: prefix})
	if err != nil {
		return nil, errors.Join(err, file.Close(), c.Close())
	}
	return []place{
		{"memory", store.NewMemory(store.MemoryOptions{MaxRecords: 1 << 30}), func() error { return nil }},
		{"file", file, file.Close},
		{"Redis", remote, closing(c)},
	}, nil
}

func closing(c io.Closer) func() error { return c.Close }

func closeAll(all []place) {
	for _, p := range all {
		_ = p.close()
	}
}

// elsewhere is a store whose claims come from another workflow, so that a later call is
// a duplicate and no repetition in one run, which is warned about.
type elsewhere struct{ store.Store }

func (e elsewhere) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	b.Info.Holder.WorkflowID, b.Info.Holder.RunID, b.Info.Holder.ActivityRunID = "elsewhere", "another run", ""
	return e.Store.Acquire(ctx, b)
}

// sampled is the telemetry of a program whose spans are all sampled.
func sampled() observe.Observer {
	return telemetry.NewOTel(telemetry.Options{
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample())),
		MeterProvider:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())),
	})
}

// call is what runs the one activity or function for an order.
type call func(ctx context.Context, in charge) error

// newActivity is chargeCard in the SDK's test environment, guarded if there is a guard.
// One call at a time.
func newActivity(guard *interceptor.Guard, body func(context.Context, charge) (receipt, error)) call {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quiet)
	env := suite.NewTestActivityEnvironment()
	if guard != nil {
		env.SetWorkerOptions(worker.Options{Interceptors: []sdkinterceptor.WorkerInterceptor{guard}})
	}
	env.RegisterActivityWithOptions(body, sdkactivity.RegisterOptions{Name: activityName})
	return func(_ context.Context, in charge) error {
		_, err := env.ExecuteActivity(activityName, in)
		return err
	}
}

// newFunction is chargeCard as a guarded function.
func newFunction(s store.Store, p once.Policy, body func(context.Context, charge) (receipt, error), observers ...observe.Observer) (call, error) {
	guard, err := atmostonce.New(s, atmostonce.Options{Observers: observers, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	f := atmostonce.Func(guard, "chargeCard", p, body)
	return func(ctx context.Context, in charge) error {
		_, err := f(ctx, in)
		return err
	}, guard.Err()
}

// door is one of the two ways to a guard.
type door struct {
	name, bare string
	call       call
	guarded    func(s store.Store, observers ...observe.Observer) (call, error)
	crowds     bool // it may be called by many at once
}

func doors() []door {
	return []door{
		{"activity", "the SDK alone", newActivity(nil, chargeCard), func(s store.Store, o ...observe.Observer) (call, error) {
			guard, err := newGuard(s, byOrder(), o...)
			if err != nil {
				return nil, err
			}
			return newActivity(guard, chargeCard), nil
		}, false},
		{"function", "the function alone", func(ctx context.Context, in charge) error {
			_, err := chargeCard(ctx, in)
			return err
		}, func(s store.Store, o ...observe.Observer) (call, error) {
			return newFunction(s, byOrder(), chargeCard, o...)
		}, true},
	}
}

func measureGuard(ctx context.Context, l *lab) error {
	for _, d := range doors() {
		dir, err := l.folder("guard")
		if err != nil {
			return err
		}
		places, err := l.places(dir, "guard-"+d.name+":")
		if err != nil {
			return err
		}
		defer closeAll(places)
		for _, duplicate := range []bool{false, true} {
			if err := l.measureDoor(ctx, d, places, duplicate); err != nil {
				return err
			}
		}
	}
	return nil
}

// measureDoor measures first runs or duplicates through one door: alone, many at once,
// and what is allocated.
func (l *lab) measureDoor(ctx context.Context, d door, places []place, duplicate bool) error {
	table := d.name + "-first"
	if duplicate {
		table = d.name + "-duplicate"
	}
	var alone, many, allocations []turn
	add := func(name, base string, c call, n int) {
		f := func(ctx context.Context) error { return c(ctx, charge{newKey(), 4200}) }
		if duplicate {
			f = func(ctx context.Context) error { return c(ctx, charge{"settled", 4200}) }
		}
		alone = append(alone, turn{name, base, timed(n, f)})
		many = append(many, turn{name, base, crowded(l.batch(8), f)})
		allocations = append(allocations, turn{name, base, allocated(l.batch(20), f)})
	}
	add(d.bare, "", d.call, l.batch(20))
	for _, p := range places {
		before, err := d.guarded(elsewhere{p.store})
		if err != nil {
			return err
		}
		if err := before(ctx, charge{"settled", 4200}); err != nil {
			return err
		}
		for _, observers := range [][]observe.Observer{nil, {sampled()}} {
			if observers != nil && p.name == "file" {
				continue // the disk hides it
			}
			c, err := d.guarded(p.store, observers...)
			if err != nil {
				return err
			}
			name, base, n := "guarded, "+p.name, "", 1
			if p.name == "memory" {
				n = l.batch(20)
			}
			if observers != nil {
				name, base = name+", sampled spans", name
			}
			add(name, base, c, n)
		}
	}
	if err := l.compare(ctx, table, "1 at once", "µs", l.rounds(300), alone); err != nil {
		return err
	}
	if d.crowds {
		many = slices.DeleteFunc(many, func(t turn) bool { return t.base != "" })
		if err := l.compare(ctx, table, "64 at once", "µs", l.rounds(15), many); err != nil {
			return err
		}
	}
	return l.compare(ctx, table, "allocations", "", l.rounds(10), allocations)
}

// allocated measures how often n calls allocate, each.
func allocated(n int, f func(ctx context.Context) error) func(context.Context, int) (float64, error) {
	return func(ctx context.Context, round int) (float64, error) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := timed(n, f)(ctx, round)
		runtime.ReadMemStats(&after)
		return float64(after.Mallocs-before.Mallocs) / float64(n), err
	}
}
