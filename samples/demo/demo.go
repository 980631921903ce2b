package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/atmostonce/atmostonce/internal/dbserver"
	"github.com/atmostonce/atmostonce/samples/internal/child"
	"github.com/atmostonce/atmostonce/samples/internal/devserver"
)

// A half takes about 15 s; one that takes this long hangs.
const halfTimeout = 90 * time.Second

// The names of the halves, and of their databases.
const (
	unguardedHalf = "unguarded"
	guardedHalf   = "guarded"
)

var errVerdict = errors.New("the ledger does not say what it should")

// demo is what both halves share.
type demo struct {
	console   *console
	dir       string
	run       string // makes workflow IDs unique on a server that lives on
	address   string // of Temporal
	namespace string
	client    client.Client
	postgres  *dbserver.Server // has records and charges; nil: charges are the provider's
}

func runDemo(ctx context.Context, storeKind, data string) error {
	began := time.Now()
	run := began.Format("20060102-150405")
	d := &demo{console: newConsole(os.Stdout), run: run, dir: filepath.Join(data, run), namespace: "default"}
	if name := os.Getenv("TEMPORAL_NAMESPACE"); name != "" {
		d.namespace = name
	}
	if !slices.Contains([]string{"file", "redis", "postgres"}, storeKind) {
		return fmt.Errorf("-store is %q; it may be file, redis or postgres", storeKind)
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	d.console.printf("atmostonce: %d orders unguarded, then %d guarded, with the same faults\n\n", orders, orders)

	server, err := devserver.Start(ctx, devserver.Options{
		UI: true, LogFile: filepath.Join(d.dir, "temporal.log"), Progress: os.Stdout,
	})
	if err != nil {
		return err
	}
	defer server.Stop()
	d.address = server.Address
	d.client, err = client.DialContext(ctx, client.Options{
		HostPort: server.Address, Namespace: d.namespace,
		Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		return err
	}
	defer d.client.Close()

	storeURL, stop, err := d.startStore(ctx, storeKind)
	if err != nil {
		return err
	}
	defer stop()
	d.console.printf("  Temporal  %s at %s  %s\n", server.Version, server.Address, server.UI)
	d.console.printf("  store     %s\n", storeURL)
	if d.postgres != nil {
		d.console.printf("  charges   rows of a table, in the databases %s and %s of that server\n", unguardedHalf, guardedHalf)
	}
	d.console.printf("  logs      %s\n", d.dir)

	unguarded, err := d.runHalf(ctx, unguardedHalf, "")
	if err != nil {
		return err
	}
	guarded, err := d.runHalf(ctx, guardedHalf, storeURL)
	if err != nil {
		return err
	}
	return d.verdict(unguarded, guarded, time.Since(began))
}

// startStore returns where the guarded workers find their store.
func (d *demo) startStore(ctx context.Context, kind string) (url string, stop func(), err error) {
	dir := filepath.Join(d.dir, "store")
	if kind == "file" {
		return "file:" + dir, func() {}, nil
	}
	if kind == "postgres" {
		if d.postgres, err = dbserver.Postgres(ctx); err != nil {
			return "", nil, err
		}
		return d.postgres.DSN(guardedHalf), func() { _ = d.postgres.Close() }, nil
	}
	redis, address, err := child.Redis(ctx, dir)
	if err != nil {
		return "", nil, err
	}
	return "redis:" + address, func() { redis.Stop(5 * time.Second) }, nil
}

func (d *demo) runHalf(ctx context.Context, name, storeURL string) (tally, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, halfTimeout, fmt.Errorf("the %s half takes longer than %v", name, halfTimeout))
	defer cancel()
	d.console.begin(name)
	h := &half{demo: d, name: name, storeURL: storeURL, workers: map[int]*child.Process{}, seen: map[string]sighting{}}
	defer h.stop()
	if err := h.start(ctx); err != nil {
		return tally{}, fmt.Errorf("%s: %w", name, err)
	}
	if err := h.fulfil(ctx); err != nil {
		return tally{}, fmt.Errorf("%s: %w", name, err)
	}
	return h.count(ctx)
}
