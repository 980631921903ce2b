package once_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
)

type Charge struct {
	OrderID string
	Cents   int
}

// A policy says which calls are one effect, and what comes of doubt.
func ExamplePolicy() {
	p := once.Policy{
		Key:         keys.From(func(in Charge) string { return in.OrderID }),
		Scope:       keys.PerNamespace,
		OnDuplicate: once.Wait,
		OnFailure:   once.Doubt,
		InDoubt:     once.HoldFor(time.Hour),
	}
	fmt.Println(p.Validate())
	p.Scope = 0
	fmt.Println(p.Validate())
	// Output:
	// <nil>
	// Key is set, so Scope must be too: is one effect meant per workflow ID or in the whole namespace?
}

var errRefused = errors.New("the bank refuses")

// What fails before Begin is tried again; what fails after it is in doubt, unless the
// code that saw the answer says otherwise.
func ExampleBegin() {
	send := func(_ context.Context, _ Charge, idempotencyKey string) error { // of the bank's client
		fmt.Println("sent with key", idempotencyKey)
		return errRefused
	}
	charge := func(ctx context.Context, in Charge) error {
		if in.Cents == 0 {
			return errors.New("nothing to charge") // nothing has happened
		}
		once.Begin(ctx)
		err := send(ctx, in, once.Key(ctx))
		if errors.Is(err, errRefused) {
			return once.NotDone(err)
		}
		return err
	}
	// The guard gives a claim with the context; so may a test.
	ctx := once.NewContext(context.Background(), once.Claim{
		Key:   "b4b653605d0cd823",
		Begin: func() { fmt.Println("the effect may begin") },
	})
	fmt.Println(charge(ctx, Charge{"7", 1200}))
	// Output:
	// the effect may begin
	// sent with key b4b653605d0cd823
	// the bank refuses
}
