package httponce_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/httponce"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

type userKey struct{}

// customer is who your authentication, in front of the middleware, has found.
func customer(r *http.Request) (string, error) {
	user, known := r.Context().Value(userKey{}).(string)
	if !known {
		return "", errors.New("nobody is logged in")
	}
	return user, nil
}

// post sends a request of ada's, and says what it gets.
func post(api http.Handler, key, body string) string {
	r := httptest.NewRequest(http.MethodPost, "/orders", strings.NewReader(body))
	r.Header.Set("Idempotency-Key", `"`+key+`"`)
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), userKey{}, "ada")))
	return fmt.Sprintf("%d %s, replayed: %q", w.Code, w.Header().Get("Content-Type"), w.Header().Get("Idempotent-Replayed"))
}

func newGuard() *atmostonce.Guard {
	guard, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), atmostonce.Options{})
	if err != nil {
		log.Fatalln(err)
	}
	return guard
}

func Example() {
	guard, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), atmostonce.Options{})
	if err != nil {
		log.Fatalln(err)
	}
	once, err := httponce.New(guard, httponce.Options{Identity: customer})
	if err != nil {
		log.Fatalln(err)
	}
	orders := 0
	api := http.NewServeMux()
	api.Handle("POST /orders", once(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		orders++
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "order %d", orders)
	})))

	fmt.Println(post(api, "k-1", "tea"))
	fmt.Println(post(api, "k-1", "tea"))
	fmt.Println(post(api, "k-1", "coffee"))
	fmt.Println(post(api, "k-2", "coffee"))
	fmt.Println(orders, "orders")
	// Output:
	// 201 text/plain, replayed: ""
	// 201 text/plain, replayed: "true"
	// 422 application/problem+json, replayed: ""
	// 201 text/plain, replayed: ""
	// 2 orders
}

// A handler that knows more than its status says, says so.
func ExampleJudge() {
	once, err := httponce.New(newGuard(), httponce.Options{Identity: customer, Policy: once.Policy{OnDuplicate: once.Wait}})
	if err != nil {
		log.Fatalln(err)
	}
	api := once(http.HandlerFunc(soldOut))
	fmt.Println(post(api, "k-1", "tea"))
	fmt.Println(post(api, "k-1", "tea"))
	// Output:
	// 503 text/plain; charset=utf-8, replayed: ""
	// 503 text/plain; charset=utf-8, replayed: ""
}

func soldOut(w http.ResponseWriter, r *http.Request) {
	httponce.Judge(r.Context(), once.Unlock) // the shop is closed: nothing has happened
	http.Error(w, "come back tomorrow", http.StatusServiceUnavailable)
}

// orders are what a program keeps of its own.
type orders map[string]string

// find asks whether an order was made under the key that the handler gave it.
func (o orders) find(ctx context.Context, _ httponce.Request) (httponce.Response, error) {
	id, made := o[once.Key(ctx)]
	if !made {
		return httponce.Response{}, once.ErrNotDone
	}
	return httponce.Response{Status: http.StatusCreated, Header: http.Header{"Location": {"/orders/" + id}}}, nil
}

// After a crash the middleware asks, instead of leaving the key to an operator.
func ExampleOptions() {
	made := orders{}
	_, err := httponce.New(newGuard(), httponce.Options{
		Identity: customer,
		Unquoted: true,
		Headers:  []string{"X-Order"},
		Policy: once.Policy{
			OnDuplicate: once.Wait,   // instead of 409
			OnFailure:   once.Unlock, // a 4xx means that nothing happened
			InDoubt:     once.Reconcile(made.find),
		},
		Documentation: "https://shop.example/docs/idempotency",
	})
	fmt.Println(err)
	// Output: <nil>
}
