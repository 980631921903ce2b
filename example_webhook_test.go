package atmostonce_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
)

// webhook charges an order once, however often its event is delivered.
func webhook(guard *atmostonce.Guard) http.Handler {
	charge := atmostonce.Func(guard, "charge", once.Policy{
		Key:         keys.From(func(o Order) string { return o.ID }),
		OnDuplicate: once.Wait, // each delivery gets the one receipt
	}, chargeCard)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var o Order
		_ = json.NewDecoder(r.Body).Decode(&o)
		receipt, err := charge(context.WithoutCancel(r.Context()), o) // for a sender that hangs up, too
		if err != nil {
			http.Error(w, "not now", http.StatusServiceUnavailable) // it is delivered again
			return
		}
		fmt.Fprintln(w, receipt.Number)
	})
}

func ExampleFunc_deliveries() {
	server := webhook(inMemory(atmostonce.Options{}))
	for range 2 {
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/events", strings.NewReader(`{"ID": "7", "Cents": 1200}`)))
		fmt.Print(answer.Body)
	}
	// Output:
	// charging order 7
	// R-7
	// R-7
}
