package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/samples/internal/order"
	"github.com/atmostonce/atmostonce/samples/internal/provider"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
	"github.com/atmostonce/atmostonce/store/sqlstore"
	"github.com/atmostonce/atmostonce/txn"
)

// Short, so that the demo is. The defaults are 60 s, 30 s and 30 s.
const (
	lease       = 3 * time.Second
	settleDelay = 3 * time.Second
	holdRetry   = time.Second
)

// runWorker is a worker process. With -store, its activities are guarded. It
// logs to stderr and reports on stdout, one report a line.
func runWorker(ctx context.Context, flags *flag.FlagSet, args []string) error {
	address := flags.String("temporal", "", "")
	namespace := flags.String("namespace", "", "")
	queue := flags.String("queue", "", "")
	providerURL := flags.String("provider", "", "")
	booksURL := flags.String("books", "", "postgres://…; in place of -provider")
	storeURL := flags.String("store", "", "file:<directory>, redis:<address> or postgres://…; empty: unguarded")
	if err := flags.Parse(args); err != nil {
		return err
	}
	options := client.Options{
		HostPort: *address, Namespace: *namespace,
		Logger: log.NewStructuredLogger(slog.New(slog.NewTextHandler(os.Stderr, nil))),
	}
	var reports reporter
	payments, guard, err := openPayments(ctx, *providerURL, *booksURL, *storeURL, &reports)
	if err != nil {
		return err
	}
	if guard != nil {
		options.Plugins = []client.Plugin{guard}
	}
	c, err := client.DialContext(ctx, options)
	if err != nil {
		return err
	}
	defer c.Close()
	w := worker.New(c, *queue, worker.Options{StickyScheduleToStartTimeout: time.Second})
	w.RegisterWorkflow(order.Workflow)
	w.RegisterActivity(payments)
	w.RegisterActivity(&order.Warehouse{})
	if err := w.Start(); err != nil {
		return err
	}
	defer w.Stop()
	reports.send(report{Kind: ready})
	<-ctx.Done()
	return nil
}

// openPayments returns the activities that move money, and their guard; nil without a
// store.
func openPayments(ctx context.Context, providerURL, booksURL, storeURL string, reports *reporter) (any, *interceptor.Guard, error) {
	var records store.Store
	var err error
	if storeURL != "" {
		if records, err = openStore(storeURL); err != nil {
			return nil, nil, err
		}
	}
	options := interceptor.Options{
		Lease: lease, SettleDelay: settleDelay, HoldRetry: holdRetry,
		Observers: []observe.Observer{reports},
	}
	if booksURL == "" {
		payments := &order.Payments{Provider: provider.Client{URL: providerURL}}
		if records == nil {
			return payments, nil, nil
		}
		guard, err := order.Guard(records, payments, options)
		return payments, guard, err
	}
	db, err := sql.Open("pgx", booksURL)
	if err != nil {
		return nil, nil, err
	}
	payments := &order.Books{DB: db, Booked: (&books{db: db}).strike(reports)}
	if records == nil {
		return payments, nil, nil
	}
	if payments.Ledger, err = txn.Open(ctx, db, txn.Options{}); err != nil {
		return nil, nil, err
	}
	guard, err := order.GuardBooks(records, payments, options)
	return payments, guard, err
}

func openStore(url string) (store.Store, error) {
	kind, where, _ := strings.Cut(url, ":")
	switch kind {
	case "file":
		return store.NewFile(where, store.FileOptions{})
	case "redis":
		return redisstore.New(redis.NewClient(&redis.Options{Addr: where, ContextTimeoutEnabled: true}), redisstore.Options{})
	case "postgres":
		db, err := sql.Open("pgx", url)
		if err != nil {
			return nil, err
		}
		return sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Options{})
	}
	return nil, fmt.Errorf("no such store: %q", url)
}

// report is a line from a worker to the demo: an event of the guard, ready, or a charge
// that is committed.
type report struct {
	Kind     string
	Workflow string `json:",omitempty"`
	Attempt  int32  `json:",omitempty"`
	NotDone  bool   `json:",omitempty"` // reconciled: there was no effect
	Err      string `json:",omitempty"`

	Charge *provider.Charge `json:",omitempty"`
}

const (
	ready     = "ready"
	committed = "committed"
)

// reporter is the guard's observer.
type reporter struct{ mu sync.Mutex }

// Begin implements observe.Observer.
func (r *reporter) Begin(ctx context.Context, _ observe.Event) (context.Context, func(observe.Event)) {
	return ctx, func(e observe.Event) {
		line := report{Kind: e.Kind.String(), Workflow: e.WorkflowID, Attempt: e.Attempt, NotDone: errors.Is(e.Err, once.ErrNotDone)}
		if e.Kind == observe.KindNotice {
			line.Kind = string(e.Notice)
		}
		if e.Err != nil {
			line.Err = e.Err.Error()
		}
		r.send(line)
	}
}

func (r *reporter) send(line report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// An error says that the demo has gone, and this process goes with it.
	_ = json.NewEncoder(os.Stdout).Encode(line)
}
