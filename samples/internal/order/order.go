// Package order is a saga: reserve stock, charge the card, ship; and undo what
// was done if a later step fails for good.
package order

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
)

// Order is the workflow's input.
type Order struct {
	ID    string
	Item  string
	Cents int64
}

// Confirmation is the workflow's result.
type Confirmation struct {
	Charge   string // the provider's ID
	Tracking string
}

// AttemptTimeout is how long one attempt of a step may take.
const AttemptTimeout = 3 * time.Second

// Workflow fulfils an order. Each step is retried for as long as it takes; it
// fails for good only where its activity says so.
func Workflow(ctx workflow.Context, o Order) (c Confirmation, err error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: AttemptTimeout,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 1},
	})
	var undo []func(workflow.Context) error
	defer func() {
		if err == nil {
			return
		}
		if left := compensate(ctx, undo); left != nil {
			err = fmt.Errorf("%w; and not all of it could be undone: %w", err, left)
		}
	}()

	var warehouse *Warehouse
	if err := workflow.ExecuteActivity(ctx, warehouse.ReserveStock, o).Get(ctx, nil); err != nil {
		return c, err
	}
	undo = append(undo, func(ctx workflow.Context) error {
		return workflow.ExecuteActivity(ctx, warehouse.ReleaseStock, o).Get(ctx, nil)
	})

	var payments *Payments
	refund := func(ctx workflow.Context) error {
		return workflow.ExecuteActivity(ctx, payments.RefundCard, o.ID).Get(ctx, nil)
	}
	var receipt Receipt
	err = workflow.ExecuteActivity(ctx, payments.ChargeCard, Charge{OrderID: o.ID, Cents: o.Cents}).Get(ctx, &receipt)
	if err == nil || once.MayHaveHappened(err) {
		undo = append(undo, refund)
	}
	if err != nil {
		return c, err
	}

	c.Charge = receipt.ID
	err = workflow.ExecuteActivity(ctx, warehouse.ShipOrder, o).Get(ctx, &c.Tracking)
	return c, err
}

// compensate undoes, in reverse order, even if the workflow is cancelled.
func compensate(ctx workflow.Context, undo []func(workflow.Context) error) error {
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	var errs []error
	for i := len(undo) - 1; i >= 0; i-- {
		errs = append(errs, undo[i](ctx))
	}
	return errors.Join(errs...)
}
