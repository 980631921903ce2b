// Command page serves the operators' page over a few records that it plants: effects in
// doubt, to be looked at and decided.
//
//	go run ./page
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"go.temporal.io/sdk/converter"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/page"
	"github.com/atmostonce/atmostonce/store"
)

// newPage returns a page on which an operator decides. A real one asks the proxy in front
// of it who that is: see docs/page.md.
func newPage(records store.Store, operator string) (http.Handler, error) {
	guard, err := interceptor.New(records, interceptor.Options{
		Activities:    once.Mark(once.Policy{}, "ChargeCard", "SendReceipt", "BookParcel"),
		DataConverter: converter.GetDefaultDataConverter(), // the workers' client's
	})
	if err != nil {
		return nil, err
	}
	return page.New(records, page.Options{
		Title:       "Shop, sample",
		Resolver:    guard,
		User:        func(*http.Request) (string, error) { return operator, nil },
		WorkflowURL: "http://localhost:8233/namespaces/{namespace}/workflows/{workflow_id}/{run_id}",
		TraceURL:    "http://localhost:8000/traces/{trace_id}",
	})
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8088", "the `address` to listen on")
	operator := flag.String("operator", "ann@example.com", "the `name` of who decides")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *listen, *operator)
	stop()
	if err != nil {
		log.Fatalln("page:", err)
	}
}

func run(ctx context.Context, listen, operator string) error {
	dir, err := os.MkdirTemp("", "page-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	records, err := store.NewFile(dir, store.FileOptions{})
	if err != nil {
		return err
	}
	defer records.Close()
	if err := plant(ctx, records); err != nil {
		return err
	}
	handler, err := newPage(records, operator)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/atmostonce/", handler)
	mux.Handle("GET /{$}", http.RedirectHandler("/atmostonce/", http.StatusFound))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	l, err := net.Listen("tcp", listen) //nolint:noctx // it is closed with the server
	if err != nil {
		return err
	}
	fmt.Printf("look at http://%s/atmostonce/\n", l.Addr())
	context.AfterFunc(ctx, func() { _ = server.Shutdown(context.Background()) })
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
