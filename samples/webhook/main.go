// Command webhook charges a customer once for an event that is delivered
// several times: at the same time, and again after its workflow has ended.
//
// Whoever sends webhooks sends them at least once. Each delivery starts a
// workflow here; the guard's key is the event's ID, and the scope is the
// namespace, because the deliveries have nothing else in common. (An equal
// workflow ID would join them too, but for the retention period at most, and it
// does nothing about an activity that is tried twice.)
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/samples/internal/provider"
	"github.com/atmostonce/atmostonce/samples/internal/stage"
)

// Event is the body of a delivery.
type Event struct {
	ID    string
	Cents int64
}

// Payments are the activities.
type Payments struct{ Provider provider.Client }

// ChargeCustomer charges each time it runs, and returns the charge's ID.
func (p *Payments) ChargeCustomer(ctx context.Context, e Event) (string, error) {
	charge, err := p.Provider.Charge(ctx, e.ID, e.Cents)
	return charge.ID, err
}

func guarded(p *Payments) []once.Marked {
	return once.Mark(once.Policy{
		Key:         keys.From(func(e Event) string { return e.ID }),
		Scope:       keys.PerNamespace,   // whichever delivery's workflow asks
		OnDuplicate: once.Wait,           // each of them ends with the charge's ID
		TTL:         90 * 24 * time.Hour, // longer than the sender delivers again
		InDoubt:     once.Hold,           // until somebody has asked the provider
	}, p.ChargeCustomer)
}

// OnEvent is the workflow that a delivery starts.
func OnEvent(ctx workflow.Context, e Event) (charge string, err error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	var payments *Payments
	err = workflow.ExecuteActivity(ctx, payments.ChargeCustomer, e).Get(ctx, &charge)
	return charge, err
}

// webhook answers a delivery with the ID of the workflow that it started.
func webhook(c client.Client, queue string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var e Event
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil || e.ID == "" {
			http.Error(w, "not an event", http.StatusBadRequest)
			return
		}
		run, err := c.ExecuteWorkflow(r.Context(), client.StartWorkflowOptions{TaskQueue: queue}, OnEvent, e)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable) // it will be delivered again
			return
		}
		fmt.Fprint(w, run.GetID())
	}
}

func main() { stage.Main(play) }

func play(ctx context.Context, s *stage.Stage) error {
	payments := &Payments{Provider: s.Provider}
	// A guard is made of a store and the marks. As a plugin of the client it is in
	// each of its workers; Work starts one, as it would without a guard.
	guard, err := interceptor.New(s.Records, interceptor.Options{Activities: guarded(payments)})
	if err != nil {
		return err
	}
	c, err := s.Work(ctx, client.Options{Plugins: []client.Plugin{guard}}, OnEvent, payments)
	if err != nil {
		return err
	}
	url, err := s.Serve(ctx, webhook(c, s.Queue))
	if err != nil {
		return err
	}

	// Slow, so that the deliveries meet while the first of them charges.
	if err := s.Provider.Arm(ctx, provider.Fault{Order: "evt-1", Kind: provider.Slow, Delay: time.Second, Times: 1}); err != nil {
		return err
	}
	for _, batch := range []struct {
		event, how string
		times      int
	}{{"evt-1", "delivered 5 times at once", 5}, {"evt-1", "delivered again", 1}, {"evt-2", "delivered", 1}} {
		charges := make([]string, batch.times)
		errs := make([]error, batch.times)
		var all sync.WaitGroup
		for i := range batch.times {
			all.Go(func() { charges[i], errs[i] = deliver(ctx, c, url, batch.event) })
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		fmt.Fprintf(s.Out, "%s %s: %s\n", batch.event, batch.how, strings.Join(charges, " "))
	}
	charged, err := s.Charged()
	fmt.Fprintf(s.Out, "charges on the ledger: %v\n", charged)
	return err
}

// deliver delivers an event and returns what its workflow charged.
func deliver(ctx context.Context, c client.Client, url, event string) (charge string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"ID": "`+event+`", "Cents": 1200}`))
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", errors.Join(err, fmt.Errorf("%s: %s", resp.Status, answer))
	}
	err = c.GetWorkflow(ctx, string(answer), "").Get(ctx, &charge)
	return charge, err
}
