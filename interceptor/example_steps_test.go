package interceptor_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	once "github.com/atmostonce/atmostonce/activity"
)

type Sale struct {
	ID    string
	Cents int
}

type Shop interface {
	Reserve(ctx context.Context, sale, idempotencyKey string) (stock string, err error)
	Charge(ctx context.Context, cents int, idempotencyKey string) (charge string, err error)
	// FindCharge returns "" if there is no charge.
	FindCharge(ctx context.Context, sale string) (charge string, err error)
	Ship(ctx context.Context, stock, idempotencyKey string) (parcel string, err error)
}

type Sales struct{ shop Shop }

func (s *Sales) Fulfil(ctx context.Context, sale Sale) (string, error) {
	stock, err := atmostonce.Step(ctx, "reserve", func(ctx context.Context) (string, error) {
		return s.shop.Reserve(ctx, sale.ID, once.Key(ctx)) // each step has a key of its own
	})
	if err != nil {
		return "", err
	}
	charge, err := atmostonce.Step(ctx, "charge", func(ctx context.Context) (string, error) {
		return s.shop.Charge(ctx, sale.Cents, once.Key(ctx))
	}, once.Policy{InDoubt: once.Reconcile(s.FindCharge)})
	if err != nil {
		return "", err
	}
	parcel, err := atmostonce.Step(ctx, "ship", func(ctx context.Context) (string, error) {
		return s.shop.Ship(ctx, stock, once.Key(ctx))
	})
	return fmt.Sprintf("parcel %s, paid by %s", parcel, charge), err
}

// FindCharge gets what the activity gets, and returns what the step does.
func (s *Sales) FindCharge(ctx context.Context, sale Sale) (string, error) {
	charge, err := s.shop.FindCharge(ctx, sale.ID)
	if err == nil && charge == "" {
		return "", once.ErrNotDone
	}
	return charge, err
}

// The body may run again; its steps do not.
func (s *Sales) marks() []once.Marked {
	return once.Mark(once.Policy{InDoubt: once.Rerun}, s.Fulfil)
}

// counter is a shop that counts, and gives no answer to the first charge.
type counter struct{ reserved, charged, shipped int }

func (c *counter) Reserve(context.Context, string, string) (string, error) {
	c.reserved++
	return "shelf 4", nil
}

func (c *counter) Charge(context.Context, int, string) (string, error) {
	c.charged++
	return "", context.DeadlineExceeded
}

func (c *counter) FindCharge(context.Context, string) (string, error) { return "ch_1", nil }

func (c *counter) Ship(context.Context, string, string) (string, error) {
	c.shipped++
	return "p_1", nil
}

func TestFulfil_GoesOnAfterTheChargeThatGotNoAnswer(t *testing.T) {
	t.Parallel()
	shop := &counter{}
	s := &Sales{shop}
	o := options(s.marks())
	o.Lease, o.SettleDelay = 60*time.Millisecond, 30*time.Millisecond
	g := newGuard(t, memory(), o)
	fulfil := func() (got string, err error) {
		env := environment(t, g)
		env.RegisterActivity(s)
		value, err := env.ExecuteActivity(s.Fulfil, Sale{"7", 100})
		if err != nil {
			return "", err
		}
		err = value.Get(&got)
		return got, err
	}
	_, err := fulfil()
	why, _ := once.Why(err)
	require.Equal(t, once.InDoubt, why.Reason)
	later(40 * time.Millisecond)
	got, err := fulfil()
	require.NoError(t, err)
	require.Equal(t, "parcel p_1, paid by ch_1", got)
	require.Equal(t, &counter{1, 1, 1}, shop)
}
