package activity_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/keys"
)

type Charge struct {
	OrderID string
	Cents   int
}

// Provider is the callee.
type Provider interface {
	Charge(ctx context.Context, in Charge, idempotencyKey string) (receipt string, err error)
	Refunds(ctx context.Context, orderID string) (n int, err error)
}

var errDeclined = errors.New("the card is declined")

type Payments struct{ provider Provider }

func (p *Payments) ChargeCard(ctx context.Context, in Charge) (string, error) {
	receipt, err := p.provider.Charge(ctx, in, once.Key(ctx))
	if errors.Is(err, errDeclined) {
		return "", once.NotDone(err)
	}
	return receipt, err
}

func (p *Payments) CountRefunds(ctx context.Context, orderID string) (int, error) {
	return p.provider.Refunds(ctx, orderID)
}

// What acts on the world is marked, with its policy; what only reads is exempt.
func ExampleMark() {
	p := &Payments{}
	marks := append(once.Mark(once.Policy{
		Key:       keys.From(func(in Charge) string { return in.OrderID }),
		Scope:     keys.PerNamespace,
		OnFailure: once.Doubt,
	}, p.ChargeCard), once.Exempt(p.CountRefunds)...)
	for _, m := range marks {
		fmt.Println(m.Name, m.Policy.Scope, m.Exempt)
	}
	// Output:
	// ChargeCard PerNamespace false
	// CountRefunds Scope(0) true
}

// An activity hands its key to the callee: it is the same in every attempt.
func ExampleKey() {
	charge := func(ctx context.Context) { fmt.Println("Idempotency-Key:", once.Key(ctx)) }
	ctx := once.NewContext(context.Background(), once.Claim{Key: "b4b653605d0cd823"}) // as a guard does
	charge(ctx)
	charge(ctx)
	// Output:
	// Idempotency-Key: b4b653605d0cd823
	// Idempotency-Key: b4b653605d0cd823
}

// Code that saw the callee's answer knows best what came of the effect.
func ExampleNotDone() {
	err := once.NotDone(errDeclined)
	fmt.Println(err)
	fmt.Println(errors.Is(err, errDeclined))
	// Output:
	// the card is declined
	// true
}

// A saga compensates what may have happened.
func ExampleMayHaveHappened() {
	order := func(ctx workflow.Context, in Charge) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		err := workflow.ExecuteActivity(ctx, "ChargeCard", in).Get(ctx, nil)
		if once.MayHaveHappened(err) {
			err = errors.Join(err, workflow.ExecuteActivity(ctx, "Refund", in).Get(ctx, nil))
		}
		return err
	}
	_ = order // a workflow, to be registered with a worker

	fmt.Println(once.MayHaveHappened(temporal.NewApplicationError("the card is declined", "Declined")))
	fmt.Println(once.MayHaveHappened(temporal.NewApplicationError("in doubt: ...", string(once.InDoubt))))
	fmt.Println(once.MayHaveHappened(temporal.NewCanceledError()))
	// Output:
	// false
	// true
	// true
}
