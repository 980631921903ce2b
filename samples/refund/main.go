// Command refund is a saga under the guard: the charge is marked, and so is the
// refund that compensates it.
//
//   - Under InDoubt: Fail, the workflow learns after the settle delay that nobody
//     knows whether the card was charged, and compensates instead of waiting for
//     an operator. once.MayHaveHappened distinguishes that from "declined".
//   - The refund's key is the charge's ID, so that compensating twice, or after
//     a restart, pays each charge back once. Its own lost answer is no reason to
//     compensate: the provider is asked (Reconcile).
//   - A compensated order that is started again would be shipped for the charge
//     that was paid back: the guard replays that charge. Who restarts it must
//     reopen the charge's record first; the refund's may stay.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/samples/internal/provider"
	"github.com/atmostonce/atmostonce/samples/internal/stage"
	"github.com/atmostonce/atmostonce/store"
)

func main() { stage.Main(play) }

func play(ctx context.Context, s *stage.Stage) error {
	payments, warehouse := &Payments{Provider: s.Provider}, &Warehouse{}
	// A guard is made of a store and the marks. As a plugin of the client it is in
	// each of its workers; Work starts one, as it would without a guard.
	guard, err := interceptor.New(s.Records, interceptor.Options{
		Activities: guarded(payments),
		// Short, so that the sample is. The defaults are 60 s, 30 s and 30 s.
		Lease: 3 * time.Second, SettleDelay: 2 * time.Second, HoldRetry: time.Second,
	})
	if err != nil {
		return err
	}
	c, err := s.Work(ctx, client.Options{Plugins: []client.Plugin{guard}}, Fulfil, payments, warehouse)
	if err != nil {
		return err
	}

	for _, f := range []provider.Fault{
		{Order: "refund of ch_1", Kind: provider.Drop, Times: 1}, // paid back, and the answer is lost
		{Order: "order-2", Kind: provider.Drop, Times: 1},        // charged, and the answer is lost
		{Order: "order-3", Kind: provider.Decline, Times: 1},
	} {
		if err := s.Provider.Arm(ctx, f); err != nil {
			return err
		}
	}
	var first client.WorkflowRun
	for _, id := range []string{"order-1", "order-2", "order-3"} {
		run, err := fulfil(ctx, s, c, id)
		if err != nil {
			return err
		}
		if first == nil {
			first = run
		}
	}

	warehouse.stock.Add(1)
	if err := reopen(ctx, guard, s.Records, first.GetID()); err != nil {
		return err
	}
	fmt.Fprintln(s.Out, "order-1: reopened, and started again")
	if _, err := fulfil(ctx, s, c, "order-1"); err != nil {
		return err
	}
	ledger, err := s.Provider.Charges(ctx, "")
	fmt.Fprintln(s.Out, "the ledger:")
	for _, e := range ledger {
		fmt.Fprintf(s.Out, "  %s  %s\n", e.ID, e.Order)
	}
	return err
}

// reopen allows one more charge where that of a workflow was compensated. It is
// what an operator does, in a program of his own.
func reopen(ctx context.Context, guard *interceptor.Guard, records store.Store, workflowID string) error {
	charges := store.Query{State: store.Succeeded, Activity: "ChargeCard", WorkflowID: workflowID}
	for r, err := range records.List(ctx, charges) {
		if err != nil {
			return err
		}
		_, err = guard.Resolve(ctx, r, resolve.AsNotDone(), resolve.Decision{
			By: "the shop", Why: "refunded; the goods have come in, and the order is started again",
		})
		if err != nil { // such as store.ErrMoved: somebody was faster
			return err
		}
	}
	return nil
}

// fulfil runs the workflow and prints how it ended. A saga that compensated is
// no error here.
func fulfil(ctx context.Context, s *stage.Stage, c client.Client, id string) (client.WorkflowRun, error) {
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: s.Queue}, Fulfil, Order{ID: id, Cents: 1200})
	if err != nil {
		return nil, err
	}
	var tracking string
	err = run.Get(ctx, &tracking)
	failure := (*temporal.ApplicationError)(nil)
	switch {
	case once.MayHaveHappened(err):
		fmt.Fprintf(s.Out, "%s: not shipped: nobody knows whether the card was charged\n", id)
	case errors.As(err, &failure):
		fmt.Fprintf(s.Out, "%s: not shipped: %s\n", id, failure.Message())
	case err != nil:
		return nil, err
	default:
		fmt.Fprintf(s.Out, "%s: shipped: %s\n", id, tracking)
	}
	return run, nil
}
