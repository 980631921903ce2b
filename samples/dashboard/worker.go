package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"os"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/samples/internal/order"
	"github.com/atmostonce/atmostonce/samples/internal/provider"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/telemetry"
)

const queue = "orders"

// ready is the line that a worker writes when it polls.
type ready struct {
	Metrics string // where its metrics are
}

// runWorker is a worker process. It logs to stderr.
func runWorker(ctx context.Context, flags *flag.FlagSet, args []string) error {
	address := flags.String("temporal", "", "")
	otlp := flags.String("otlp", "", "")
	bank := flags.String("provider", "", "")
	outbox := flags.String("outbox", "", "")
	redis := flags.String("redis", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	i, err := newInstruments(ctx, "worker", *otlp)
	if err != nil {
		return err
	}
	defer i.Close()
	s, err := openStore(*redis)
	if err != nil {
		return err
	}
	payments, mail := &order.Payments{Provider: provider.Client{URL: *bank}}, &Mail{URL: *outbox}
	guard, err := newGuard(s, payments, mail, telemetry.NewOTel(telemetry.Options{TracerProvider: i.Tracers}), interceptor.Options{Summaries: true, CountRecords: time.Second})
	if err != nil {
		return err
	}
	c, err := i.dial(ctx, client.Options{
		HostPort: *address, Plugins: []client.Plugin{guard}, Logger: log.NewStructuredLogger(slog.New(slog.NewTextHandler(os.Stderr, nil))),
	})
	if err != nil {
		return err
	}
	defer c.Close()
	w := worker.New(c, queue, worker.Options{StickyScheduleToStartTimeout: time.Second, WorkerStopTimeout: time.Second})
	w.RegisterWorkflow(order.Workflow)
	w.RegisterWorkflow(Receipt)
	w.RegisterActivity(payments)
	w.RegisterActivity(&order.Warehouse{})
	w.RegisterActivity(mail)
	if err := w.Start(); err != nil {
		return err
	}
	defer w.Stop()
	if err := json.NewEncoder(os.Stdout).Encode(ready{i.Address}); err != nil {
		return errors.Join(errors.New("the dashboard has gone"), err)
	}
	<-ctx.Done()
	return nil
}

// newGuard guards the charge as the order sample does, and the mail with no
// policy but the defaults. Its times are short, so that there is something to
// see; the defaults are 60 s, 30 s and 30 s.
func newGuard(s store.Store, p *order.Payments, m *Mail, o observe.Observer, options interceptor.Options) (*interceptor.Guard, error) {
	options.Activities = append(options.Activities, once.Mark(once.Policy{}, m.SendReceipt)...)
	options.Lease, options.SettleDelay, options.HoldRetry = 3*time.Second, 2*time.Second, 2*time.Second
	options.Observers = []observe.Observer{o}
	return order.Guard(s, p, options)
}
