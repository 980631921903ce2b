// Command dashboard shows the guard at work: order sagas under faults, their
// traces in a viewer whose links can be clicked, their metrics on a dashboard, and
// Temporal's web UI beside them. It starts all that it needs, as child processes
// on 127.0.0.1, and ends it again.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	worker := len(os.Args) > 1 && os.Args[1] == "worker"
	finished := context.AfterFunc(ctx, func() {
		if !worker {
			fmt.Println("\ndashboard: ending; this takes some seconds ...")
		}
		stop() // a second Ctrl-C ends it at once
	})
	err := run(ctx, os.Args[1:])
	interrupted := !finished()
	stop()
	switch {
	case interrupted: // its ordinary end
		if !worker {
			fmt.Println("dashboard: every process that it started has ended")
		}
	case err != nil:
		fmt.Fprintln(os.Stderr, "dashboard:", err)
		os.Exit(1)
	}
}

// run is the dashboard, or one of its workers.
func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("dashboard", flag.ContinueOnError)
	if len(args) > 0 && args[0] == "worker" {
		return runWorker(ctx, flags, args[1:])
	}
	data := flags.String("data", "dashboard-data", "directory for ledgers, logs and what the servers keep")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return show(ctx, filepath.Join(*data, time.Now().Format("20060102-150405")))
}

// show runs the sagas until ctx ends.
func show(ctx context.Context, dir string) error {
	fmt.Println("atmostonce: order sagas under faults, and all that can be seen of them; Ctrl-C ends it")
	s, err := open(ctx, dir, os.Stdout)
	if err != nil {
		return err
	}
	defer func() {
		s.Close()
		if ctx.Err() != nil { // else the logs are wanted
			_ = os.RemoveAll(dir)
		}
	}()
	fmt.Printf(`
  dashboard  %s
  alerts     %s  (Expand All)
  traces     %s
  Temporal   %s
  logs       %s

`, s.DashboardURL, s.AlertsURL, s.ViewerURL, s.Temporal.UI, dir)
	t, err := newTraffic(ctx, s)
	if err != nil {
		return err
	}
	named := false
	for round := 1; ; round++ {
		if err := t.round(ctx); err != nil {
			return err
		}
		sofar, err := t.sofar()
		if err != nil {
			return err
		}
		fmt.Printf("round %d: %s\n", round, sofar)
		if named {
			continue
		}
		link, found, err := s.linkedTrace(ctx)
		if err != nil {
			return err
		}
		if found {
			named = true
			fmt.Printf("\n  A second workflow was served the first one's charge. Its span, with a link to the one that charged:\n  %s\n\n", s.spanURL(link.duplicate))
		}
	}
}
