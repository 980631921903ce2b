// Command refund is a saga under the guard: the charge is marked, and so is the
// refund that compensates it.
//
//   - Under InDoubt: Fail, the workflow learns after the settle delay that nobody
//     knows whether the card was charged, and compensates instead of waiting for
//     an operator. once.MayHaveHappened tells that from "declined".
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
	"path/filepath"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/samples/internal/provider"
	"github.com/atmostonce/atmostonce/samples/internal/stage"
	"github.com/atmostonce/atmostonce/store"
)

func main() { stage.Main(play) }

func play(ctx context.Context, s *stage.Stage) error {
	records, err := store.NewFile(filepath.Join(s.Dir, "records"), store.FileOptions{})
	if err != nil {
		return err
	}
	defer records.Close()
	payments, warehouse := &Payments{Provider: s.Provider}, &Warehouse{}
	guard, err := interceptor.New(records, interceptor.Options{
		Activities: guarded(payments),
		// Short, so that the sample is. The defaults are 60 s, 30 s and 30 s.
		Lease: 3 * time.Second, SettleDelay: 2 * time.Second, HoldRetry: time.Second,
	})
	if err != nil {
		return err
	}
	c, err := client.DialContext(ctx, client.Options{HostPort: s.Temporal, Logger: stage.Quiet, Plugins: []client.Plugin{guard}})
	if err != nil {
		return err
	}
	defer c.Close()
	w := worker.New(c, s.Queue, worker.Options{})
	w.RegisterWorkflow(Fulfil)
	w.RegisterActivity(payments)
	w.RegisterActivity(warehouse)
	if err := w.Start(); err != nil {
		return err
	}
	defer w.Stop()

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
	if err := reopen(ctx, guard, records, first.GetID()); err != nil {
		return err
	}
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

// fulfil runs the workflow and tells how it ended. A saga that compensated is
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
	case errors.As(err, &failure):
		fmt.Fprintf(s.Out, "%s: %s\n", id, failure.Message())
	case err != nil:
		return nil, err
	default:
		fmt.Fprintf(s.Out, "%s: %s\n", id, tracking)
	}
	return run, nil
}
