package order

import (
	"context"
	"errors"
	"net/http"

	"go.temporal.io/sdk/temporal"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/samples/internal/provider"
)

// Charge is what ChargeCard is asked for.
type Charge struct {
	OrderID string
	Cents   int64
}

// Receipt says that a card was charged.
type Receipt struct {
	ID    string // the provider's
	Cents int64
}

// Payments are the activities that move money.
type Payments struct {
	Provider provider.Client
}

// ChargeCard charges the order's card, each time it runs.
func (p *Payments) ChargeCard(ctx context.Context, c Charge) (Receipt, error) {
	charge, err := p.Provider.Charge(ctx, c.OrderID, c.Cents)
	if status := (*provider.StatusError)(nil); errors.As(err, &status) && status.Code == http.StatusPaymentRequired {
		return Receipt{}, temporal.NewNonRetryableApplicationError("card declined", "Declined", err)
	}
	return Receipt{charge.ID, charge.Cents}, err
}

// FindCharge asks the provider whether the order was charged.
func (p *Payments) FindCharge(ctx context.Context, c Charge) (Receipt, error) {
	charges, err := p.Provider.Charges(ctx, c.OrderID)
	if err != nil {
		return Receipt{}, err
	}
	if len(charges) == 0 {
		return Receipt{}, once.ErrNotDone
	}
	return Receipt{charges[0].ID, charges[0].Cents}, nil
}

// RefundCard pays back what was charged for an order. The provider pays no
// charge back twice, so this needs no guard.
func (p *Payments) RefundCard(ctx context.Context, orderID string) error {
	_, err := p.Provider.Refund(ctx, orderID)
	return err
}

// Warehouse are the activities that move goods. Its system knows orders by their
// ID and may be asked again, so they need no guard.
type Warehouse struct{}

// ReserveStock sets an order's item aside.
func (*Warehouse) ReserveStock(context.Context, Order) error { return nil }

// ReleaseStock puts it back.
func (*Warehouse) ReleaseStock(context.Context, Order) error { return nil }

// ShipOrder sends it off and returns the tracking number.
func (*Warehouse) ShipOrder(_ context.Context, o Order) (string, error) {
	return "parcel-" + o.ID, nil
}
