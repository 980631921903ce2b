// Command webhook charges a customer once for an event that is delivered several
// times, without Temporal: the handler's function is guarded, and its records are
// files.
//
//	go run ./plain/webhook
//	curl -d '{"ID": "evt-1", "Cents": 1200}' http://127.0.0.1:8080/events
//	curl -d '{"ID": "evt-1", "Cents": 1200}' http://127.0.0.1:8080/events
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// Event is the body of a delivery.
type Event struct {
	ID    string
	Cents int64
}

// charges counts what the provider has charged, from 1 again after a restart.
type charges struct{ n atomic.Int64 }

// charge charges each time it runs.
func (c *charges) charge(_ context.Context, e Event) (receipt string, err error) {
	return "ch_" + strconv.FormatInt(c.n.Add(1), 10) + " for " + e.ID, nil
}

// webhook answers each delivery of an event with the one receipt.
func webhook(g *atmostonce.Guard, c *charges) http.HandlerFunc {
	charge := atmostonce.Func(g, "charge", once.Policy{
		Key:         keys.From(func(e Event) string { return e.ID }),
		OnDuplicate: once.Wait,           // each delivery gets the receipt
		TTL:         90 * 24 * time.Hour, // longer than the sender delivers again
	}, c.charge)
	return func(w http.ResponseWriter, r *http.Request) {
		var e Event
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil || e.ID == "" {
			http.Error(w, "not an event", http.StatusBadRequest)
			return
		}
		// The charge goes on if the sender hangs up; cut off, it would be in doubt.
		receipt, err := charge(context.WithoutCancel(r.Context()), e)
		switch {
		case errors.Is(err, once.Mismatch): // it was charged with another amount: no delivery can change that
			http.Error(w, "the event was another one before", http.StatusUnprocessableEntity)
			return
		case err != nil: // it will be delivered again
			log.Println("webhook:", err) // it names keys and processes, which are not the sender's business
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, receipt)
	}
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "the `address` to listen on")
	dir := flag.String("data", "webhook-data", "the `directory` of the records")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *listen, *dir)
	stop()
	if err != nil {
		log.Fatalln("webhook:", err)
	}
}

func run(ctx context.Context, listen, dir string) error {
	records, err := store.NewFile(dir, store.FileOptions{})
	if err != nil {
		return err
	}
	defer records.Close()
	guard, err := atmostonce.New(records, atmostonce.Options{})
	if err != nil {
		return err
	}
	server := &http.Server{Handler: webhook(guard, &charges{}), ReadHeaderTimeout: 10 * time.Second}
	if err := guard.Err(); err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen) //nolint:noctx // it is closed with the server
	if err != nil {
		return err
	}
	fmt.Printf("listening; deliver an event, twice:\n  curl -d '{\"ID\": \"evt-1\", \"Cents\": 1200}' http://%s/events\n", l.Addr())
	context.AfterFunc(ctx, func() { _ = server.Shutdown(context.Background()) })
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	closing, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return guard.Close(closing) // what runs is recorded
}
