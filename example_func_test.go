package atmostonce_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"time"

	"go.opentelemetry.io/otel"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/telemetry"
)

// say prints a line.
func say(words ...any) { fmt.Fprintln(os.Stdout, words...) }

// Order is what the examples are about.
type Order struct {
	ID    string
	Cents int
}

// Receipt is what charging one gives.
type Receipt struct{ Number string }

// chargeCard stands for what must not happen twice.
func chargeCard(_ context.Context, o Order) (Receipt, error) {
	say("charging order", o.ID)
	return Receipt{"R-" + o.ID}, nil
}

// inMemory returns a guard for the examples; a program that may die uses a store that
// does not: store.NewFile, or package store/redisstore.
func inMemory(o atmostonce.Options) *atmostonce.Guard {
	o.Logger = slog.New(slog.DiscardHandler)
	guard, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), o)
	if err != nil {
		panic(err)
	}
	return guard
}

// show prints what a call has returned.
func show(r any, err error) {
	var e *atmostonce.Error
	switch {
	case errors.As(err, &e):
		say("refused:", e.Reason, "try again:", e.RetryAfter > 0)
	case err != nil:
		say("failed:", err)
	default:
		say("returned", r)
	}
}

// A webhook is delivered twice: the second delivery gets the same receipt.
func ExampleFunc() {
	guard := inMemory(atmostonce.Options{})
	charge := atmostonce.Func(guard, "charge", once.Policy{
		Key: keys.From(func(o Order) string { return o.ID }),
	}, chargeCard)
	show(charge(context.Background(), Order{"7", 1200}))
	show(charge(context.Background(), Order{"7", 1200}))
	// Output:
	// charging order 7
	// returned {R-7}
	// returned {R-7}
}

// Webhook answers deliveries: what is not charged now is delivered again.
func Webhook(charge func(context.Context, Order) (Receipt, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		receipt, err := charge(context.WithoutCancel(r.Context()), Order{ID: r.FormValue("order")})
		if err != nil {
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, receipt.Number)
	}
}

func ExampleFunc_webhook() {
	guard := inMemory(atmostonce.Options{})
	handler := Webhook(atmostonce.Func(guard, "charge", once.Policy{}, chargeCard))
	for range 2 {
		answer := httptest.NewRecorder()
		handler(answer, httptest.NewRequest(http.MethodPost, "/?order=7", nil))
		fmt.Print(answer.Code, " ", answer.Body)
	}
	// Output:
	// charging order 7
	// 200 R-7
	// 200 R-7
}

// Without a Key, the whole input is the key: different arguments run again.
func ExampleFunc_differentArguments() {
	guard := inMemory(atmostonce.Options{})
	charge := atmostonce.Func(guard, "charge", once.Policy{}, chargeCard)
	show(charge(context.Background(), Order{"7", 1200}))
	show(charge(context.Background(), Order{"7", 1200}))
	show(charge(context.Background(), Order{"8", 1200}))
	// Output:
	// charging order 7
	// returned {R-7}
	// returned {R-7}
	// charging order 8
	// returned {R-8}
}

// Other input under the same key is refused, unless Match says that it does not matter.
func ExampleFunc_otherInput() {
	guard := inMemory(atmostonce.Options{})
	byID := keys.From(func(o Order) string { return o.ID })
	charge := atmostonce.Func(guard, "charge", once.Policy{Key: byID}, chargeCard)
	show(charge(context.Background(), Order{"7", 1200}))
	show(charge(context.Background(), Order{"7", 9900}))
	lenient := atmostonce.Func(guard, "charge leniently", once.Policy{Key: byID, Match: keys.Any()}, chargeCard)
	show(lenient(context.Background(), Order{"7", 1200}))
	show(lenient(context.Background(), Order{"7", 9900}))
	// Output:
	// charging order 7
	// returned {R-7}
	// refused: atmostonce.Mismatch try again: false
	// charging order 7
	// returned {R-7}
	// returned {R-7}
}

// When the TTL is over, the call runs again.
func ExampleFunc_ttl() {
	guard := inMemory(atmostonce.Options{Lease: 30 * time.Millisecond, SettleDelay: 30 * time.Millisecond})
	charge := atmostonce.Func(guard, "charge", once.Policy{TTL: 50 * time.Millisecond}, chargeCard) // in a program: hours, or days
	show(charge(context.Background(), Order{"7", 1200}))
	<-time.After(100 * time.Millisecond)
	show(charge(context.Background(), Order{"7", 1200}))
	// Output:
	// charging order 7
	// returned {R-7}
	// charging order 7
	// returned {R-7}
}

// While the first call runs, a duplicate is sent away, with the time after which to come
// back; then it gets the result.
func ExampleFunc_return() {
	guard := inMemory(atmostonce.Options{})
	started, finish := make(chan bool), make(chan bool)
	charge := atmostonce.Func(guard, "charge", once.Policy{OnDuplicate: once.Return}, // the default
		func(ctx context.Context, o Order) (Receipt, error) {
			started <- true
			<-finish
			return chargeCard(ctx, o)
		})
	var first sync.WaitGroup
	first.Go(func() { show(charge(context.Background(), Order{"7", 1200})) })
	<-started
	show(charge(context.Background(), Order{"7", 1200}))
	finish <- true
	first.Wait()
	show(charge(context.Background(), Order{"7", 1200}))
	// Output:
	// refused: atmostonce.InFlight try again: true
	// charging order 7
	// returned {R-7}
	// returned {R-7}
}

// Under Reject a duplicate is an error, also when the first call has ended.
func ExampleFunc_reject() {
	guard := inMemory(atmostonce.Options{})
	charge := atmostonce.Func(guard, "charge", once.Policy{OnDuplicate: once.Reject}, chargeCard)
	show(charge(context.Background(), Order{"7", 1200}))
	_, err := charge(context.Background(), Order{"7", 1200})
	fmt.Println(errors.Is(err, once.Duplicate))
	// Output:
	// charging order 7
	// returned {R-7}
	// true
}

// Under Wait a duplicate waits for the first call, until its context ends.
func ExampleFunc_wait() {
	guard := inMemory(atmostonce.Options{})
	charge := atmostonce.Func(guard, "charge", once.Policy{OnDuplicate: once.Wait}, chargeCard)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() { show(charge(ctx, Order{"7", 1200})) })
	}
	all.Wait()
	// Output:
	// charging order 7
	// returned {R-7}
	// returned {R-7}
	// returned {R-7}
}

// By default an error unlocks the key: the next call runs.
func ExampleFunc_unlock() {
	guard := inMemory(atmostonce.Options{})
	tries := 0
	charge := atmostonce.Func(guard, "charge", once.Policy{OnFailure: once.Unlock}, // the default
		func(ctx context.Context, o Order) (Receipt, error) {
			if tries++; tries == 1 {
				return Receipt{}, errors.New("the till is closed")
			}
			return chargeCard(ctx, o)
		})
	show(charge(context.Background(), Order{"7", 1200}))
	show(charge(context.Background(), Order{"7", 1200}))
	// Output:
	// failed: the till is closed
	// charging order 7
	// returned {R-7}
}

// ErrDeclined and Declined are what a charge can fail with for good.
var ErrDeclined = errors.New("declined")

type Declined struct{ Code int }

func (d Declined) Error() string { return fmt.Sprintf("declined with code %d", d.Code) }

// Under Lock an error is kept, and duplicates get it, without a run.
func ExampleFunc_lock() {
	guard := inMemory(atmostonce.Options{})
	charge := atmostonce.Func(guard, "charge", once.Policy{OnFailure: once.Lock}, func(context.Context, Order) (Receipt, error) {
		fmt.Println("asking the bank")
		return Receipt{}, ErrDeclined
	})
	show(charge(context.Background(), Order{"7", 1200}))
	show(charge(context.Background(), Order{"7", 1200}))
	// Output:
	// asking the bank
	// failed: declined
	// failed: declined
}

// A kept failure is what it was if the guard knows it, and else an atmostonce.Failure.
func ExampleFunc_failureType() {
	guard := inMemory(atmostonce.Options{Errors: []error{ErrDeclined, Declined{}}}) // a sentinel and a type
	charge := atmostonce.Func(guard, "charge", once.Policy{OnFailure: once.Lock}, func(_ context.Context, o Order) (Receipt, error) {
		switch o.ID {
		case "7":
			return Receipt{}, fmt.Errorf("order %s: %w", o.ID, ErrDeclined)
		case "8":
			return Receipt{}, Declined{51}
		}
		return Receipt{}, http.ErrNotSupported
	})
	for _, id := range []string{"7", "8", "9"} {
		_, err := charge(context.Background(), Order{ID: id})
		var declined Declined
		var failure *atmostonce.Failure
		fmt.Println(err, errors.Is(err, ErrDeclined), errors.As(err, &declined), errors.As(err, &failure))
	}
	// Output:
	// order 7: declined true false false
	// declined with code 51 false true false
	// feature not supported false false true
}

// What a guard does, as OpenTelemetry's spans and metrics.
func ExampleNew_observed() {
	guard, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), atmostonce.Options{
		CountRecords: time.Minute, // how many are in doubt
		Observers:    []observe.Observer{telemetry.NewOTel(telemetry.Options{MeterProvider: otel.GetMeterProvider()})},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer guard.Close(context.Background())
}

// A guard is of one store; a function that needs another one has another guard.
func ExampleNew() {
	files, err := store.NewFile("charges", store.FileOptions{}) // outlives the process
	if err != nil {
		fmt.Println(err)
		return
	}
	payments, err := atmostonce.New(files, atmostonce.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	mails, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), atmostonce.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	charge := atmostonce.Func(payments, "charge", once.Policy{}, chargeCard)
	thank := atmostonce.Func(mails, "thank", once.Policy{}, func(context.Context, Order) (struct{}, error) { return struct{}{}, nil })
	_, _ = charge, thank
}

// Tests begin with a clean store.
func ExampleGuard() {
	records := store.NewMemory(store.MemoryOptions{})
	guard, err := atmostonce.New(records, atmostonce.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	charge := atmostonce.Func(guard, "charge", once.Policy{}, chargeCard)
	for range 2 {
		records.Clear()
		show(charge(context.Background(), Order{"7", 1200}))
	}
	// Output:
	// charging order 7
	// returned {R-7}
	// charging order 7
	// returned {R-7}
}

// Do guards one place, with the key in hand: a report of a night.
func ExampleDo() {
	guard := inMemory(atmostonce.Options{})
	for range 2 {
		pages, err := atmostonce.Do(context.Background(), guard, "report", "2026-01-02", func(context.Context) (int, error) {
			fmt.Println("printing")
			return 12, nil
		})
		show(pages, err)
	}
	// Output:
	// printing
	// returned 12
	// returned 12
}

// A caller that compensates asks if the effect may have happened; an operator writes
// down what became of it.
func ExampleGuard_Resolve() {
	ctx := context.Background()
	guard := inMemory(atmostonce.Options{})
	charge := atmostonce.Func(guard, "charge", once.Policy{}, func(ctx context.Context, o Order) (Receipt, error) {
		once.Begin(ctx) // from here on, an error leaves it open
		return Receipt{}, errors.New("the connection broke")
	})
	_, err := charge(ctx, Order{"7", 1200})
	var e *atmostonce.Error
	fmt.Println(errors.As(err, &e), errors.Is(err, once.InDoubt), atmostonce.MayHaveHappened(err))

	record, err := guard.Find(ctx, e.Key)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = guard.Resolve(ctx, record, resolve.AsDone(Receipt{"R-found"}), resolve.Decision{By: "ann", Why: "found at the bank"})
	fmt.Println(err)
	show(charge(ctx, Order{"7", 1200}))
	// Output:
	// true true true
	// <nil>
	// returned {R-found}
}

// What is encrypted, the store cannot read.
func ExampleCodec() {
	guard := inMemory(atmostonce.Options{Codec: sealed{key: [32]byte{1, 2, 3}}})
	charge := atmostonce.Func(guard, "charge", once.Policy{}, chargeCard)
	show(charge(context.Background(), Order{"7", 1200}))
	show(charge(context.Background(), Order{"7", 1200}))
	// Output:
	// charging order 7
	// returned {R-7}
	// returned {R-7}
}
