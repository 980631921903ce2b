package interceptor_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/store"
)

type charge struct {
	Order string
	Cents int
}

type receipt struct{ ID string }

// payments is a struct of activities.
type payments struct {
	charges []string // by order
	fail    error
}

func (p *payments) ChargeCard(ctx context.Context, in charge) (receipt, error) {
	if p.fail != nil {
		return receipt{}, p.fail
	}
	p.charges = append(p.charges, in.Order)
	return receipt{ID: "r-" + in.Order}, nil
}

func (p *payments) Refund(ctx context.Context, in charge) error { return nil }

func findCharge(context.Context, charge) (receipt, error) { return receipt{}, once.ErrNotDone }

func memory() *store.Memory { return store.NewMemory(store.MemoryOptions{}) }

// options are what a guard outside of a client needs.
func options(marks ...[]once.Marked) interceptor.Options {
	o := interceptor.Options{DataConverter: converter.GetDefaultDataConverter()}
	for _, m := range marks {
		o.Activities = append(o.Activities, m...)
	}
	return o
}

func newGuard(t *testing.T, s store.Store, o interceptor.Options) *interceptor.Guard {
	t.Helper()
	g, err := interceptor.New(s, o)
	require.NoError(t, err)
	return g
}

// environment runs activities as a worker with these plugins would. Every
// environment has the same workflow ID.
func environment(t *testing.T, plugins ...worker.Plugin) *testsuite.TestActivityEnvironment {
	t.Helper()
	var s testsuite.WorkflowTestSuite
	s.SetLogger(quiet)
	env := s.NewTestActivityEnvironment()
	env.SetWorkerOptions(worker.Options{Plugins: plugins})
	return env
}

// execute runs one call of the type ChargeCard, served by fn.
func execute[In, Out any](t *testing.T, g *interceptor.Guard, fn func(context.Context, In) (Out, error), in In) (out Out, err error) {
	t.Helper()
	env := environment(t, g)
	env.RegisterActivityWithOptions(fn, sdkactivity.RegisterOptions{Name: "ChargeCard"})
	value, err := env.ExecuteActivity("ChargeCard", in)
	if err != nil {
		return out, err
	}
	return out, value.Get(&out)
}

// lazyWorker is a worker that never reaches a server: for what happens before.
func lazyWorker(t *testing.T, clientPlugins []client.Plugin, o worker.Options) worker.Worker {
	t.Helper()
	c, err := client.NewLazyClient(client.Options{HostPort: "127.0.0.1:1", Logger: quiet, Plugins: clientPlugins})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return worker.New(c, "queue", o)
}

// startError starts a worker with the guard as plugin of its client, and
// returns why it did not start.
func startError(t *testing.T, g *interceptor.Guard, register func(worker.Registry)) error {
	t.Helper()
	w := lazyWorker(t, []client.Plugin{g}, worker.Options{})
	register(w)
	return w.Start()
}

// receive waits for what must come soon.
func receive[T any](t *testing.T, from <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(soon):
		require.Fail(t, "nothing came")
	}
	return got
}

var quiet = log.NewStructuredLogger(slog.New(slog.DiscardHandler))

const soon = 20 * time.Second
