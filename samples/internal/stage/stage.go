// Package stage sets up what the small samples need around them: a Temporal
// server, a payment provider with a ledger, a store, a worker.
package stage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"

	"github.com/atmostonce/atmostonce/samples/internal/devserver"
	"github.com/atmostonce/atmostonce/samples/internal/provider"
	"github.com/atmostonce/atmostonce/store"
)

// Stage is what a sample plays on. Everything on it listens on 127.0.0.1.
type Stage struct {
	Temporal string          // address of the server
	Queue    string          // a task queue that is new
	Provider provider.Client // charges each time it is asked
	Records  store.Store     // a new file store, in Dir/records
	Dir      string          // for files of the sample
	Out      io.Writer       // for what the sample prints

	closers []func()
}

// Open sets the stage up, with its files in dir. The caller ends it by Close.
func Open(ctx context.Context, dir string, out io.Writer) (*Stage, error) {
	s := &Stage{Queue: "sample-" + rand.Text(), Dir: dir, Out: out}
	bank, err := provider.Open(s.ledger(), nil)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, func() { _ = bank.Close() })
	if s.Provider.URL, err = s.Serve(ctx, bank); err != nil {
		s.Close()
		return nil, err
	}
	server, err := devserver.Start(ctx, devserver.Options{LogFile: filepath.Join(dir, "temporal.log"), Progress: os.Stderr})
	if err != nil {
		s.Close()
		return nil, err
	}
	s.closers = append(s.closers, server.Stop)
	s.Temporal = server.Address
	records, err := store.NewFile(filepath.Join(dir, "records"), store.FileOptions{})
	if err != nil {
		s.Close()
		return nil, err
	}
	s.closers = append(s.closers, func() { _ = records.Close() })
	s.Records = records
	return s, nil
}

// Dial returns a client of the server, which lives until Close.
func (s *Stage) Dial(ctx context.Context, o client.Options) (client.Client, error) {
	o.HostPort = s.Temporal
	o.Logger = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
	c, err := client.DialContext(ctx, o)
	if err == nil {
		s.closers = append(s.closers, c.Close)
	}
	return c, err
}

// Work starts a worker with these options of its client, which it returns. Both
// live until Close. It needs only Temporal and Queue of the stage.
func (s *Stage) Work(ctx context.Context, o client.Options, workflow any, activities ...any) (client.Client, error) {
	c, err := s.Dial(ctx, o)
	if err != nil {
		return nil, err
	}
	// Short, so that the workflows of a worker that was killed soon go on.
	w := worker.New(c, s.Queue, worker.Options{StickyScheduleToStartTimeout: time.Second})
	w.RegisterWorkflow(workflow)
	for _, a := range activities {
		w.RegisterActivity(a)
	}
	if err := w.Start(); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, w.Stop)
	return c, nil
}

// Close ends what was set up, the last first.
func (s *Stage) Close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

// Serve serves HTTP until Close, and returns the URL.
func (s *Stage) Serve(ctx context.Context, h http.Handler) (url string, err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	s.closers = append(s.closers, func() { _ = server.Close() })
	return "http://" + listener.Addr().String(), nil
}

func (s *Stage) ledger() string { return filepath.Join(s.Dir, "ledger.jsonl") }

// Charged returns how often each order was charged, as the ledger on disk says.
func (s *Stage) Charged() (map[string]int, error) {
	ledger, err := provider.ReadLedger(s.ledger())
	count := map[string]int{}
	for _, c := range ledger {
		count[c.Order]++
	}
	return count, err
}

// AwaitCharge returns when an order has been charged.
func (s *Stage) AwaitCharge(ctx context.Context, order string) error {
	for {
		charges, err := s.Provider.Charges(ctx, order)
		if err != nil || len(charges) > 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not charged: %w", order, context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Main is the main function of a sample: it sets the stage up in a directory of
// its own, plays, clears away, and ends the process with status 1 on an error.
func Main(play func(context.Context, *Stage) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := perform(ctx, play)
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted; what it started has ended")
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func perform(ctx context.Context, play func(context.Context, *Stage) error) (err error) {
	dir, err := os.MkdirTemp("", "atmostonce-sample-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := Open(ctx, dir, os.Stdout)
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return play(ctx, s)
}
