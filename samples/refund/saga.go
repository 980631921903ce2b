package main

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/samples/internal/provider"
)

// Order is the workflow's input.
type Order struct {
	ID    string
	Cents int64
}

// Charge is an entry on the provider's ledger.
type Charge struct {
	ID    string
	Cents int64
}

// Payments are the activities that move money, each time they run.
type Payments struct{ Provider provider.Client }

// ChargeCard charges the order's card.
func (p *Payments) ChargeCard(ctx context.Context, o Order) (Charge, error) {
	c, err := p.Provider.Charge(ctx, o.ID, o.Cents)
	if status := (*provider.StatusError)(nil); errors.As(err, &status) && status.Code == http.StatusPaymentRequired {
		return Charge{}, temporal.NewNonRetryableApplicationError("card declined", "Declined", err)
	}
	return Charge{c.ID, c.Cents}, err
}

// FindCharges returns all charges for an order. It changes nothing, so it needs
// no guard.
func (p *Payments) FindCharges(ctx context.Context, order string) (found []Charge, err error) {
	charges, err := p.Provider.Charges(ctx, order)
	for _, c := range charges {
		found = append(found, Charge{c.ID, c.Cents})
	}
	return found, err
}

// RefundCharge transfers a charge back. As at a bank, that is an entry of its
// own: asked twice, it pays twice.
func (p *Payments) RefundCharge(ctx context.Context, c Charge) (Charge, error) {
	back, err := p.Provider.Charge(ctx, "refund of "+c.ID, c.Cents)
	return Charge{back.ID, back.Cents}, err
}

// FindRefund asks the provider whether a charge was transferred back.
func (p *Payments) FindRefund(ctx context.Context, c Charge) (Charge, error) {
	found, err := p.FindCharges(ctx, "refund of "+c.ID)
	if err != nil {
		return Charge{}, err
	}
	if len(found) == 0 {
		return Charge{}, once.ErrNotDone
	}
	return found[0], nil
}

// Warehouse is the activity that moves goods. Its system knows orders by their
// ID and may be asked again.
type Warehouse struct{ stock atomic.Int64 }

// ShipOrder sends the goods off and returns the tracking number.
func (w *Warehouse) ShipOrder(_ context.Context, o Order) (string, error) {
	if w.stock.Load() == 0 {
		return "", temporal.NewNonRetryableApplicationError("sold out", "SoldOut", nil)
	}
	return "parcel of " + o.ID, nil
}

func guarded(p *Payments) []once.Marked {
	return append(
		once.Mark(once.Policy{
			Key:     keys.From(func(o Order) string { return o.ID }),
			Scope:   keys.PerNamespace, // an order that is started again is not charged again
			InDoubt: once.Fail,         // the workflow can compensate, so it need not wait
		}, p.ChargeCard),
		once.Mark(once.Policy{
			Key:     keys.From(func(c Charge) string { return c.ID }),
			Scope:   keys.PerNamespace, // one refund per charge, whoever compensates
			InDoubt: once.Reconcile(p.FindRefund),
		}, p.RefundCharge)...,
	)
}

// Fulfil charges and ships an order. If that fails, it pays back what was
// charged, or may have been.
func Fulfil(ctx workflow.Context, o Order) (tracking string, err error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 30 * time.Second})
	var payments *Payments
	var warehouse *Warehouse
	err = workflow.ExecuteActivity(ctx, payments.ChargeCard, o).Get(ctx, nil)
	if err != nil && !once.MayHaveHappened(err) {
		return "", err // declined: there is nothing to pay back
	}
	if err == nil {
		err = workflow.ExecuteActivity(ctx, warehouse.ShipOrder, o).Get(ctx, &tracking)
	}
	if err == nil {
		return tracking, nil
	}

	ctx, cancel := workflow.NewDisconnectedContext(ctx) // also if the workflow is canceled
	defer cancel()
	var charges []Charge
	if left := workflow.ExecuteActivity(ctx, payments.FindCharges, o.ID).Get(ctx, &charges); left != nil {
		return "", errors.Join(err, left)
	}
	for _, c := range charges { // earlier ones too: those are paid back already, and the guard knows
		if left := workflow.ExecuteActivity(ctx, payments.RefundCharge, c).Get(ctx, nil); left != nil {
			return "", errors.Join(err, left)
		}
	}
	return "", err
}
