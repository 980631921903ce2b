package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

type charge struct {
	OrderID string
	Cents   int
}

type receipt struct{ ID string }

// payload is the size of an encoded receipt, which is what is settled everywhere.
const payload = 58

func receiptOf(charge) receipt { return receipt{"ch_0123456789abcdef01"} }

func chargeCard(_ context.Context, in charge) (receipt, error) { return receiptOf(in), nil }

var quiet = log.NewStructuredLogger(slog.New(slog.DiscardHandler))

// template is a bid and an outcome exactly as the guard of an activity makes them, with
// IDs as long as real ones.
type template struct {
	bid     store.Bid
	outcome store.Outcome
}

// newTemplate runs a guarded activity in a workflow, and looks at what reaches the store.
func newTemplate() (template, error) {
	s := &spy{Store: store.NewMemory(store.MemoryOptions{})}
	guard, err := newGuard(s, once.Policy{})
	if err != nil {
		return template{}, err
	}
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quiet)
	env := suite.NewTestWorkflowEnvironment()
	env.SetWorkerOptions(worker.Options{Plugins: []worker.Plugin{guard}})
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: "order-1234567", TaskQueue: "payments"})
	env.RegisterActivity(chargeCard)
	env.ExecuteWorkflow(payOrder)
	if err := env.GetWorkflowError(); err != nil {
		return template{}, err
	}
	if s.t.bid.Info.Match == "" || s.t.bid.Deadline == 0 || len(s.t.outcome.Data) != payload {
		return template{}, fmt.Errorf("unlike what a guard writes: %+v", s.t)
	}
	s.t.bid.TTL = remembered // the environment's calls could be retried for ten years
	s.t.bid.Key = strings.ReplaceAll(s.t.bid.Key, "default-test-namespace", "default")
	s.t.outcome.Context = strings.ReplaceAll(s.t.outcome.Context, "default-test-namespace", "default")
	h := &s.t.bid.Info.Holder
	h.Namespace = "default"
	h.RunID, h.OriginalRunID, h.Worker = "0198d1c4-2c1b-7a53-9d0e-8f2f3f0a6f10", "0198d1c4-2c1b-7a53-9d0e-8f2f3f0a6f10", "12345@payments-7d4b9c6f5-x2x7q@"
	return s.t, nil
}

func payOrder(ctx workflow.Context) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	return workflow.ExecuteActivity(ctx, activityName, charge{"1234567", 4200}).Get(ctx, nil)
}

// spy keeps the last bid and outcome.
type spy struct {
	store.Store
	t template
}

func (s *spy) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	s.t.bid = b
	return s.Store.Acquire(ctx, b)
}

func (s *spy) Settle(ctx context.Context, b store.Bid, o store.Outcome) (store.Record, error) {
	s.t.outcome = o
	return s.Store.Settle(ctx, b, o)
}

// activityName is what the one activity is registered as, whatever its body is.
const activityName = "chargeCard"

// newGuard guards that activity.
func newGuard(s store.Store, p once.Policy, observers ...observe.Observer) (*interceptor.Guard, error) {
	return interceptor.New(s, interceptor.Options{
		Activities: once.Mark(p, activityName), DataConverter: newConverter(), Observers: observers,
	})
}

// byOrder is the policy for charges of one order, whoever asks.
func byOrder() once.Policy {
	return once.Policy{Key: keys.From(func(in charge) string { return in.OrderID }), Scope: keys.PerNamespace}
}

// claim returns the template's bid for a key, as one of its own.
func (t template) claim(key string) store.Bid {
	t.bid.Key += "/" + key
	t.bid.Owner = rand.Text()
	return t.bid
}

// first is a first run: a claim, and its settlement.
func (t template) first(ctx context.Context, s store.Store, key string) error {
	b := t.claim(key)
	r, err := s.Acquire(ctx, b)
	if err == nil && !r.Owned(b.Owner) {
		err = fmt.Errorf("not granted: %s", r.State)
	}
	if err != nil {
		return err
	}
	b.Fence, b.Began = r.Fence, true
	_, err = s.Settle(ctx, b, t.outcome)
	return err
}

// duplicate is a claim for a key that is settled.
func (t template) duplicate(ctx context.Context, s store.Store, key string) error {
	r, err := s.Acquire(ctx, t.claim(key))
	if err == nil && r.State != store.Succeeded {
		err = errors.New("it is not settled: " + string(r.State))
	}
	return err
}

var made atomic.Int64

// newKey returns a key that nobody has had.
func newKey() string { return strconv.FormatInt(made.Add(1), 10) }

func newConverter() converter.DataConverter { return converter.GetDefaultDataConverter() }
