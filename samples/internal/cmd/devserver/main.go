// Command devserver runs a Temporal development server on free ports of
// 127.0.0.1 until it is interrupted.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/atmostonce/atmostonce/samples/internal/devserver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "devserver:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	s, err := devserver.Start(ctx, devserver.Options{UI: true, Progress: os.Stderr})
	if err != nil {
		return err
	}
	defer s.Stop()
	fmt.Printf("TEMPORAL_ADDRESS=%s  web UI: %s\n", s.Address, s.UI)
	<-ctx.Done()
	return nil
}
