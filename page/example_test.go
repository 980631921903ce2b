package page_test

import (
	"errors"
	"log"
	"net/http"

	"go.temporal.io/sdk/converter"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/page"
	"github.com/atmostonce/atmostonce/store"
)

// The page shows what is in the store, and changes nothing.
func Example() {
	records := store.NewMemory(store.MemoryOptions{}) // the workers' store
	p, err := page.New(records, page.Options{
		Title:       "Payments, production",
		WorkflowURL: "https://temporal.example/namespaces/{namespace}/workflows/{workflow_id}/{run_id}",
		TraceURL:    "https://traces.example/trace/{trace_id}",
	})
	if err != nil {
		log.Fatalln(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/atmostonce/", p)
	// Output:
}

// operator returns who sends the request, as the proxy in front of the page has found it.
// The proxy removes this header from what it gets.
func operator(r *http.Request) (string, error) {
	if user := r.Header.Get("X-Forwarded-Email"); user != "" {
		return user, nil
	}
	return "", errors.New("nobody is logged in")
}

// Operators decide on the page: a guard, which has the workers' marks and data converter,
// writes it down.
func ExampleOptions() {
	records := store.NewMemory(store.MemoryOptions{}) // the workers' store
	guard, err := interceptor.New(records, interceptor.Options{
		Activities:    once.Mark(once.Policy{}, "ChargeCard"), // the workers' marks
		DataConverter: converter.GetDefaultDataConverter(),    // the workers' client's
	})
	if err != nil {
		log.Fatalln(err)
	}
	p, err := page.New(records, page.Options{Resolver: guard, User: operator})
	if err != nil {
		log.Fatalln(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/atmostonce/", p)
	// Output:
}
