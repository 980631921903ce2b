// Command rolling is a worker of which there are two builds: with the build tag
// v2, the input of its activity has one more field. It charges on the ledger, a
// file of one line per charge, and is stopped by SIGTERM.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

type receipt struct{ ID string }

var (
	address = flag.String("address", "", "host and port of the Temporal server")
	queue   = flag.String("queue", "", "task queue")
	records = flag.String("store", "", "directory of the store")
	ledger  = flag.String("ledger", "", "file of the charges")
	die     = flag.String("die", "", `"charged" or "recorded": what the process is killed after, by itself`)
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	s, err := store.NewFile(*records, store.FileOptions{})
	if err != nil {
		return err
	}
	defer s.Close()
	guard, err := interceptor.New(s, interceptor.Options{
		Activities: once.Mark(once.Policy{InDoubt: once.Reconcile(find)}, "Charge"),
		Lease:      600 * time.Millisecond, SettleDelay: 700 * time.Millisecond,
		Observers: []observe.Observer{observer{}},
	})
	if err != nil {
		return err
	}
	c, err := client.Dial(client.Options{
		HostPort: *address, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)), Plugins: []client.Plugin{guard},
	})
	if err != nil {
		return err
	}
	defer c.Close()
	w := worker.New(c, *queue, worker.Options{DisableWorkflowWorker: true})
	w.RegisterActivityWithOptions(charge, sdkactivity.RegisterOptions{Name: "Charge"})
	return w.Run(worker.InterruptCh())
}

func charge(_ context.Context, in input) (receipt, error) {
	f, err := os.OpenFile(*ledger, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return receipt{}, err
	}
	defer f.Close()
	if _, err := fmt.Fprintln(f, "charged", build, in.Order); err != nil {
		return receipt{}, err
	}
	dieAfter("charged")
	return receipt{ID: "receipt for " + in.Order}, nil
}

func find(_ context.Context, in input) (receipt, error) {
	text, err := os.ReadFile(*ledger)
	if err != nil {
		return receipt{}, err
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasSuffix(line, " "+in.Order+"\n") {
			return receipt{ID: "receipt for " + in.Order}, nil
		}
	}
	return receipt{}, once.ErrNotDone
}

// observer learns that a call was recorded before Temporal does.
type observer struct{}

// Begin implements observe.Observer.
func (observer) Begin(ctx context.Context, _ observe.Event) (context.Context, func(observe.Event)) {
	return ctx, func(e observe.Event) {
		if e.Kind == observe.KindExecute {
			dieAfter("recorded")
		}
	}
}

func dieAfter(what string) {
	if *die == what {
		// It cannot fail: the process is our own.
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
