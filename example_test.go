package atmostonce_test

import (
	"context"
	"errors"
	"log"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

type Charge struct {
	OrderID string
	Cents   int
}

type Payments struct{} // your provider's client goes here

func (*Payments) ChargeCard(ctx context.Context, in Charge) (receipt string, err error) {
	log.Println("charging order", in.OrderID, "with key", once.Key(ctx))
	return "receipt of order " + in.OrderID, nil
}

// FindCharge asks the provider: a receipt, or once.ErrNotDone if there is no charge.
func (*Payments) FindCharge(ctx context.Context, in Charge) (receipt string, err error) {
	return "", errors.New("no answer from the provider yet")
}

func Example() {
	records, err := store.NewFile("charges", store.FileOptions{})
	if err != nil {
		log.Fatalln(err)
	}
	payments := &Payments{}
	guard, err := interceptor.New(records, interceptor.Options{
		Activities: once.Mark(once.Policy{
			Key:         keys.From(func(in Charge) string { return in.OrderID }),
			Scope:       keys.PerNamespace, // one charge per order, whichever workflow asks
			OnDuplicate: once.Wait,
			InDoubt:     once.Reconcile(payments.FindCharge), // the worker died mid-charge? ask the provider
		}, payments.ChargeCard),
	})
	if err != nil {
		log.Fatalln(err)
	}
	c, err := client.Dial(client.Options{Plugins: []client.Plugin{guard}}) // reaches every worker of this client
	if err != nil {
		log.Fatalln(err)
	}
	w := worker.New(c, "payments", worker.Options{})
	w.RegisterActivity(payments)
	if err := w.Run(worker.InterruptCh()); err != nil {
		log.Fatalln(err)
	}
}
