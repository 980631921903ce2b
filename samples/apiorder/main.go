// Command apiorder is an HTTP API whose callers send an Idempotency-Key: the
// same key and body get the same answer, again and at the same time, and one
// charge; the same key with another body gets status 422.
//
// The guard's key is the caller's key, joined with the customer, so that one
// customer's key never meets another's. Match is left at its default, the whole
// input: that is what finds the other body. The scope is the namespace, because
// every request starts a workflow of its own.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/samples/internal/provider"
	"github.com/atmostonce/atmostonce/samples/internal/stage"
)

// Order is a request; Item and Cents are its body.
type Order struct {
	Customer       string
	IdempotencyKey string
	Item           string
	Cents          int64
}

// Receipt is the answer.
type Receipt struct {
	Charge string
	At     time.Time
}

// Payments are the activities.
type Payments struct{ Provider provider.Client }

// ChargeCard charges each time it runs. The provider is given the guard's key
// for a reference, by which FindCharge can ask for the charge.
func (p *Payments) ChargeCard(ctx context.Context, o Order) (Receipt, error) {
	charge, err := p.Provider.Charge(ctx, once.Key(ctx), o.Cents)
	return Receipt{charge.ID, charge.At}, err
}

// FindCharge asks the provider whether the order was charged.
func (p *Payments) FindCharge(ctx context.Context, _ Order) (Receipt, error) {
	charges, err := p.Provider.Charges(ctx, once.Key(ctx))
	if err != nil {
		return Receipt{}, err
	}
	if len(charges) == 0 {
		return Receipt{}, once.ErrNotDone
	}
	return Receipt{charges[0].ID, charges[0].At}, nil
}

func guarded(p *Payments) []once.Marked {
	return once.Mark(once.Policy{
		Key:         keys.From(func(o Order) string { return keys.Join(o.Customer, o.IdempotencyKey) }),
		Scope:       keys.PerNamespace,
		OnDuplicate: once.Wait,      // the caller waits too
		TTL:         24 * time.Hour, // what the API's documentation promises for a key
		InDoubt:     once.Reconcile(p.FindCharge),
	}, p.ChargeCard)
}

// PlaceOrder is the workflow that a request starts.
func PlaceOrder(ctx workflow.Context, o Order) (r Receipt, err error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	var payments *Payments
	err = workflow.ExecuteActivity(ctx, payments.ChargeCard, o).Get(ctx, &r)
	return r, err
}

// orders is the API.
func orders(c client.Client, queue string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var o Order
		err := json.NewDecoder(r.Body).Decode(&o)
		// A real API would authenticate the customer.
		o.Customer, o.IdempotencyKey = r.Header.Get("Customer"), r.Header.Get("Idempotency-Key")
		if err != nil || o.Customer == "" || o.IdempotencyKey == "" {
			http.Error(w, "an order needs a customer, an Idempotency-Key and a body", http.StatusBadRequest)
			return
		}
		run, err := c.ExecuteWorkflow(r.Context(), client.StartWorkflowOptions{TaskQueue: queue}, PlaceOrder, o)
		var receipt Receipt
		if err == nil {
			err = run.Get(r.Context(), &receipt)
		}
		switch {
		case once.Is(err, once.Mismatch):
			http.Error(w, "this Idempotency-Key was used for another order", http.StatusUnprocessableEntity)
		case err != nil:
			http.Error(w, "try again, with the same Idempotency-Key", http.StatusServiceUnavailable)
		default:
			_ = json.NewEncoder(w).Encode(receipt) // an error says that the caller has gone
		}
	}
}

func main() { stage.Main(play) }

func play(ctx context.Context, s *stage.Stage) error {
	url, err := start(ctx, s)
	if err != nil {
		return err
	}
	for _, r := range []struct{ customer, key, body string }{
		{"ann", "k1", `{"Item": "book", "Cents": 1200}`},
		{"ann", "k1", `{"Item": "book", "Cents": 1200}`},
		{"ann", "k1", `{"Item": "lamp", "Cents": 9900}`},
		{"bob", "k1", `{"Item": "lamp", "Cents": 9900}`},
		{"ann", "k2", `{"Item": "book", "Cents": 1200}`},
	} {
		status, answer, err := post(ctx, url, r.customer, r.key, r.body)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.Out, "%s %s %s: %d %s", r.customer, r.key, r.body, status, answer)
	}
	charged, err := s.Charged()
	fmt.Fprintf(s.Out, "charges on the ledger: %d\n", len(charged))
	return err
}

// start starts the worker and the API.
func start(ctx context.Context, s *stage.Stage) (url string, err error) {
	payments := &Payments{Provider: s.Provider}
	// A guard is made of a store and the marks. As a plugin of the client it is in
	// each of its workers; Work starts one, as it would without a guard.
	guard, err := interceptor.New(s.Records, interceptor.Options{Activities: guarded(payments)})
	if err != nil {
		return "", err
	}
	c, err := s.Work(ctx, client.Options{Plugins: []client.Plugin{guard}}, PlaceOrder, payments)
	if err != nil {
		return "", err
	}
	return s.Serve(ctx, orders(c, s.Queue))
}

func post(ctx context.Context, url, customer, key, body string) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewBufferString(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Customer", customer)
	req.Header.Set("Idempotency-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}
