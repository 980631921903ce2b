// Command apiorder is an HTTP API whose orders are made once per Idempotency-Key,
// without Temporal.
//
//	go run ./plain/apiorder
//	curl -i -H 'X-Customer: ann' -H 'Idempotency-Key: "k1"' -d '{"Item": "lamp"}' http://127.0.0.1:8080/orders
//
// The second answer is the first one again, with Idempotent-Replayed: true.
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
	"sync/atomic"
	"time"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/httponce"
	"github.com/atmostonce/atmostonce/store"
)

// orders makes a new order each time it is asked. It counts from 1 again after a restart,
// which the records of the keys outlive.
type orders struct{ n atomic.Int64 }

// ServeHTTP implements http.Handler.
func (o *orders) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct{ Item string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Item == "" {
		http.Error(w, "not an order", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, `{"Order": %d, "Item": %q}`+"\n", o.n.Add(1), in.Item)
}

// customer is who sends the request. A real one was authenticated before.
func customer(r *http.Request) (string, error) {
	name := r.Header.Get("X-Customer")
	if name == "" {
		return "", errors.New("no X-Customer")
	}
	return name, nil
}

// api answers each key of a customer once, and the same again.
func api(guard *atmostonce.Guard, o *orders) (http.Handler, error) {
	once, err := httponce.New(guard, httponce.Options{Identity: customer})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("POST /orders", once(o))
	return mux, nil
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "the `address` to listen on")
	dir := flag.String("data", "apiorder-data", "the `directory` of the records")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *listen, *dir)
	stop()
	if err != nil {
		log.Fatalln("apiorder:", err)
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
	handler, err := api(guard, &orders{})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen) //nolint:noctx // it is closed with the server
	if err != nil {
		return err
	}
	fmt.Printf("listening; make an order, twice:\n  curl -i -H 'X-Customer: ann' -H 'Idempotency-Key: \"k1\"' -d '{\"Item\": \"lamp\"}' http://%s/orders\n", l.Addr())
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Shutdown(context.Background()) })
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	closing, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return guard.Close(closing) // what runs is recorded
}
