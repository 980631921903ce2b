// Command demo shows what a payment provider without idempotency keys books
// when workers die: first with plain Temporal, then with guarded activities. It
// starts all that it needs, as child processes on 127.0.0.1, and ends it again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case err == nil:
	case interrupted:
		fmt.Fprintln(os.Stderr, "demo: interrupted; every process that it started has ended")
		os.Exit(130)
	case errors.Is(err, errVerdict):
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run is the demo, or one of its child processes.
func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	if len(args) > 0 {
		switch args[0] {
		case "worker":
			return runWorker(ctx, flags, args[1:])
		case "provider":
			return runProvider(ctx, flags, args[1:])
		}
	}
	store := flags.String("store", "file", "where the guard remembers: file, redis or postgres, which then has the charges, too")
	data := flags.String("data", "demo-data", "directory for ledgers, logs and the file store")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return runDemo(ctx, *store, *data)
}
