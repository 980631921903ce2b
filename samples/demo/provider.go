package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/atmostonce/atmostonce/samples/internal/provider"
)

// booking is a line from the provider's process to the demo: first the URL it
// answers at, then every charge that it committed.
type booking struct {
	URL    string           `json:",omitempty"`
	Charge *provider.Charge `json:",omitempty"`
}

// runProvider is the payment provider's process.
func runProvider(ctx context.Context, flags *flag.FlagSet, args []string) error {
	ledger := flags.String("ledger", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	say := func(b booking) {
		mu.Lock()
		defer mu.Unlock()
		// An error says that the demo has gone, and this process goes with it.
		_ = out.Encode(b)
	}
	p, err := provider.Open(*ledger, func(c provider.Charge) { say(booking{Charge: &c}) })
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, p.Close())
	}
	server := &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	say(booking{URL: "http://" + listener.Addr().String()})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return errors.Join(err, p.Close())
	}
	return p.Close()
}
