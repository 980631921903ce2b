package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.temporal.io/sdk/converter"

	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/samples/internal/order"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/telemetry"
)

// operate is the person who is paged: it looks for receipts that are in doubt,
// finds out at the mail server, and writes down what it found.
func (t *traffic) operate(ctx context.Context) error {
	observer := telemetry.NewOTel(telemetry.Options{TracerProvider: t.own.Tracers, MeterProvider: t.own.Meters})
	guard, err := newGuard(t.store, &order.Payments{}, &Mail{}, observer, interceptor.Options{DataConverter: converter.GetDefaultDataConverter()})
	if err != nil {
		return err
	}
	for {
		for r, err := range t.store.List(ctx, store.Query{State: store.InDoubt, Activity: "SendReceipt"}) {
			if err != nil {
				break // the store does not answer: look again
			}
			if err := t.lookInto(ctx, guard, r); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (t *traffic) lookInto(ctx context.Context, guard *interceptor.Guard, r store.Record) error {
	if r.Now.Sub(r.Doubted) < t.operatorAfter {
		return nil
	}
	found, why := resolve.AsDone(nil), "the mail server has sent it"
	if id := strings.TrimPrefix(r.Info.Holder.WorkflowID, "receipt-"); t.outbox.count(id) == 0 {
		found, why = resolve.AsNotDone(), "the mail server knows nothing of it"
	}
	_, err := guard.Resolve(ctx, r, found, resolve.Decision{By: "the operator of the demo", Why: why})
	if errors.Is(err, store.ErrMoved) || errors.Is(err, resolve.ErrTooEarly) {
		return nil // look again
	}
	return err
}
