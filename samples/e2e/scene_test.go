package e2e

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

const (
	lease       = 600 * time.Millisecond
	settleDelay = 700 * time.Millisecond
	holdRetry   = 500 * time.Millisecond

	soon = time.Minute
	poll = 100 * time.Millisecond
)

// scene is what one test works with.
type scene struct {
	t        *testing.T
	name     string // task queue, and prefix of the workflow IDs
	dir      string
	ledger   ledger
	store    store.Store
	postgres string // the database that has the store; "": none
	events   *events
	options  client.Options // of every client, but for the guard
	client   client.Client  // without a guard
	runs     []client.WorkflowRun
}

// newScene connects to the server with these converters and starts a worker for
// workflows and a store in memory.
func newScene(t *testing.T, o client.Options) *scene {
	t.Helper()
	dir := t.TempDir()
	s := &scene{
		t: t, dir: dir, name: strings.ReplaceAll(t.Name(), "/", "_") + time.Now().Format("-150405.000000"),
		ledger: ledger(filepath.Join(dir, "ledger")),
		store:  store.NewMemory(store.MemoryOptions{}),
		events: &events{},
	}
	o.HostPort, o.Logger = server.Address, quiet
	s.options = o
	s.client = s.dial()
	w := worker.New(s.client, s.name, worker.Options{LocalActivityWorkerOnly: true})
	w.RegisterWorkflowWithOptions(one, workflow.RegisterOptions{Name: "one"})
	w.RegisterWorkflowWithOptions(twice, workflow.RegisterOptions{Name: "twice"})
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	t.Cleanup(func() {
		if t.Failed() {
			s.explain()
		}
	})
	return s
}

var quiet = log.NewStructuredLogger(slog.New(slog.DiscardHandler))

func (s *scene) dial(plugins ...client.Plugin) client.Client {
	s.t.Helper()
	o := s.options
	o.Plugins = plugins
	c, err := client.DialContext(s.t.Context(), o)
	require.NoError(s.t, err)
	s.t.Cleanup(c.Close)
	return c
}

// openFile changes the store to one that other processes can open.
func (s *scene) openFile() {
	s.t.Helper()
	s.store = openFile(s.t, filepath.Join(s.dir, "store"))
}

func (s *scene) guard(marks ...once.Marked) *interceptor.Guard {
	s.t.Helper()
	g, err := interceptor.New(s.store, guardOptions(marks, s.events))
	require.NoError(s.t, err)
	return g
}

func guardOptions(marks []once.Marked, observers ...observe.Observer) interceptor.Options {
	return interceptor.Options{
		Activities: marks, Lease: lease, SettleDelay: settleDelay, HoldRetry: holdRetry, Observers: observers,
	}
}

// body is an activity.
type body = func(context.Context, charge) (receipt, error)

// work starts a worker on which the activity Charge is guarded by p. It is
// stopped at the end of the test at the latest.
func (s *scene) work(p once.Policy, b body) worker.Worker {
	s.t.Helper()
	return s.workWith(s.guard(once.Mark(p, "Charge")...), worker.Options{}, func(r worker.Registry) { register(r, b) })
}

func (s *scene) workWith(g *interceptor.Guard, o worker.Options, registrations func(worker.Registry)) worker.Worker {
	s.t.Helper()
	o.DisableWorkflowWorker = true
	w := worker.New(s.dial(g), s.name, o)
	registrations(w)
	require.NoError(s.t, w.Start())
	s.t.Cleanup(w.Stop)
	return w
}

func register(r worker.ActivityRegistry, b any) {
	r.RegisterActivityWithOptions(b, sdkactivity.RegisterOptions{Name: "Charge"})
}

// charge is a body that has its effect and returns.
func (s *scene) charge(_ context.Context, in charge) (receipt, error) {
	return receiptOf(in), s.ledger.write(charged, in.Order)
}

func receiptOf(in charge) receipt { return receipt{ID: "receipt for " + in.Order} }

// start starts a workflow. An ID is complete with the name of the scene.
func (s *scene) start(id, workflowType string, c call) client.WorkflowRun {
	s.t.Helper()
	if c.Activity == "" {
		c.Activity = "Charge"
	}
	if c.StartToClose == 0 {
		c.StartToClose = time.Minute
	}
	if c.Input == (charge{}) {
		c.Input = charge{Order: "order-1", Cents: 1200}
	}
	run, err := s.client.ExecuteWorkflow(s.t.Context(), client.StartWorkflowOptions{ID: s.name + "-" + id, TaskQueue: s.name}, workflowType, c)
	require.NoError(s.t, err)
	s.runs = append(s.runs, run)
	return run
}

// verdict waits for the end of a workflow of type one.
func (s *scene) verdict(run client.WorkflowRun) (v verdict) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), soon)
	defer cancel()
	require.NoError(s.t, run.Get(ctx, &v))
	return v
}

// served is verdict for a workflow that must have got the receipt.
func (s *scene) served(run client.WorkflowRun) {
	s.t.Helper()
	v := s.verdict(run)
	require.Empty(s.t, v.Failure)
	require.Equal(s.t, "receipt for order-1", v.Receipt.ID)
}

// pending returns the last failure of a run's activity that has not ended; nil
// if there is none.
func (s *scene) pending(run client.WorkflowRun) error {
	d, err := s.client.DescribeWorkflowExecution(s.t.Context(), run.GetID(), run.GetRunID())
	if err != nil {
		return err
	}
	for _, a := range d.GetPendingActivities() {
		if failure := a.GetLastFailure(); failure != nil {
			return temporal.GetDefaultFailureConverter().FailureToError(failure)
		}
	}
	return nil
}

// held waits until an attempt of the run's activity was refused for that
// reason, and returns the error.
func (s *scene) held(run client.WorkflowRun, reason once.Reason) (err error) {
	s.t.Helper()
	s.eventually(func() bool {
		err = s.pending(run)
		return once.Is(err, reason)
	}, "an attempt is refused with "+string(reason))
	return err
}

func (s *scene) eventually(condition func() bool, what string) {
	s.t.Helper()
	require.Eventually(s.t, condition, soon, poll, what)
}

// count asserts how often something happened.
func (s *scene) count(n int, word string) {
	s.t.Helper()
	require.Len(s.t, s.ledger.lines(word), n, word)
}

// records returns all records in a state.
func (s *scene) records(state store.State) (found []store.Record) {
	s.t.Helper()
	for r, err := range s.store.List(s.t.Context(), store.Query{State: state}) {
		require.NoError(s.t, err)
		found = append(found, r)
	}
	return found
}

// record returns the only record, which must be in that state.
func (s *scene) record(state store.State) store.Record {
	s.t.Helper()
	all := s.records("")
	require.Len(s.t, all, 1)
	require.Equal(s.t, state, all[0].State)
	return all[0]
}

func nonRetryable(err error) bool {
	app := (*temporal.ApplicationError)(nil)
	return errors.As(err, &app) && app.NonRetryable()
}
