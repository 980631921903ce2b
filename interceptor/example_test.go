package interceptor_test

import (
	"context"
	"log"

	"github.com/redis/go-redis/v9"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
	"github.com/atmostonce/atmostonce/telemetry"
)

type Charge struct {
	OrderID string
	Cents   int
}

type Receipt struct{ ID string }

type Provider interface {
	Charge(ctx context.Context, cents int, idempotencyKey string) (Receipt, error)
	Find(ctx context.Context, orderID string) (r Receipt, found bool, err error)
}

type Payments struct{ provider Provider }

func (p *Payments) ChargeCard(ctx context.Context, in Charge) (Receipt, error) {
	return p.provider.Charge(ctx, in.Cents, once.Key(ctx))
}

// FindCharge has the shape of an activity on purpose: the SDK refuses to
// register a struct with methods of any other shape.
func (p *Payments) FindCharge(ctx context.Context, in Charge) (Receipt, error) {
	r, found, err := p.provider.Find(ctx, in.OrderID)
	if err == nil && !found {
		err = once.ErrNotDone
	}
	return r, err
}

// Guarded stands beside the activities, and is not a method of the struct that
// is registered: the SDK would take it for an activity.
func Guarded(p *Payments) []once.Marked {
	return once.Mark(once.Policy{
		Key:         keys.From(func(in Charge) string { return in.OrderID }),
		Scope:       keys.PerNamespace, // one charge per order, whichever workflow asks
		OnDuplicate: once.Wait,
		InDoubt:     once.Reconcile(p.FindCharge), // the worker died mid-charge? ask the provider
	}, p.ChargeCard)
}

// The whole set-up of a worker whose activities take effect at most once.
func ExampleNew() {
	payments := &Payments{}
	s, err := redisstore.New(redis.NewClient(&redis.Options{Addr: "localhost:6379"}), redisstore.Options{})
	if err != nil {
		log.Fatalln(err)
	}
	guard, err := interceptor.New(s, interceptor.Options{
		Activities: Guarded(payments),
		Observers:  []observe.Observer{telemetry.NewOTel(telemetry.Options{})}, // spans; for metrics and warnings nothing is needed
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
	err = w.Run(worker.InterruptCh())
	c.Close()
	if err != nil {
		log.Fatalln(err)
	}
}

// An operator decides about a key in doubt, which an error, a log line or a span
// named by its digest.
func ExampleGuard_Resolve() {
	ctx, payments := context.Background(), &Payments{}
	s, err := store.NewFile("/var/lib/atmostonce", store.FileOptions{})
	if err != nil {
		log.Fatalln(err)
	}
	guard, err := interceptor.New(s, interceptor.Options{
		Activities:    Guarded(payments),
		DataConverter: converter.GetDefaultDataConverter(), // the client's: it encodes the result
	})
	if err != nil {
		log.Fatalln(err)
	}
	r, err := guard.Find(ctx, "b4b653605d0cd823")
	if err != nil {
		log.Fatalln(err)
	}
	_, err = guard.Resolve(ctx, r, resolve.AsDone(Receipt{ID: "ch_7"}), resolve.Decision{
		By: "ann@example.com", Why: "found at the provider",
	})
	if err != nil { // such as store.ErrMoved: the owner came back meanwhile
		log.Fatalln(err)
	}
}

// A customer asks for erasure.
func ExampleGuard_Forget() {
	ctx := context.Background()
	s, err := store.NewFile("/var/lib/atmostonce", store.FileOptions{})
	if err != nil {
		log.Fatalln(err)
	}
	guard, err := interceptor.New(s, interceptor.Options{Activities: Guarded(&Payments{})})
	if err != nil {
		log.Fatalln(err)
	}
	r, err := guard.Find(ctx, "b4b653605d0cd823")
	if err != nil {
		log.Fatalln(err)
	}
	_, err = guard.Forget(ctx, r, resolve.Decision{By: "ann@example.com", Why: "request 4711"})
	if err != nil { // such as that it is in doubt: find out first
		log.Fatalln(err)
	}
}
