// Command tools makes sure that the programs it is given are there, building them
// if need be: temporal-cli, trace-viewer, victoria-metrics, vmalert.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/atmostonce/atmostonce/samples/internal/tool"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tools:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string) error {
	tools := map[string]tool.Tool{
		"temporal-cli": tool.TemporalCLI, "trace-viewer": tool.TraceViewer, "victoria-metrics": tool.VictoriaMetrics, "vmalert": tool.VMAlert,
	}
	for _, name := range names {
		t, known := tools[name]
		if !known {
			return fmt.Errorf("no such tool: %q", name)
		}
		if _, err := t.Binary(ctx, os.Stderr); err != nil {
			return err
		}
	}
	return nil
}
