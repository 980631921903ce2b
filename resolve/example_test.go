package resolve_test

import (
	"context"
	"errors"
	"fmt"

	"go.temporal.io/sdk/converter"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// decide writes down what an operator has found out at the callee about the key with
// that digest, which an error, a log line or a span has named.
func decide(ctx context.Context, g *interceptor.Guard, digest string, f resolve.Finding, d resolve.Decision) error {
	r, err := g.Find(ctx, digest)
	if err != nil {
		return err
	}
	_, err = g.Resolve(ctx, r, f, d)
	return err
}

// The charge is found at the provider: duplicates of the call get its receipt.
func ExampleAsDone() {
	s := store.NewMemory(store.MemoryOptions{}) // the workers' store
	guard, err := interceptor.New(s, interceptor.Options{
		Activities:    once.Mark(once.Policy{}, "ChargeCard"),
		DataConverter: converter.GetDefaultDataConverter(), // the workers' client's
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = decide(context.Background(), guard, "b4b653605d0cd823", resolve.AsDone("receipt 7"),
		resolve.Decision{By: "ann@example.com", Why: "found at the provider"})
	fmt.Println(errors.Is(err, resolve.ErrNotFound))
	// Output: true
}

// What was found out is checked before anything is written.
func ExampleFinding() {
	for _, f := range []resolve.Finding{resolve.AsNotDone(), resolve.AsFailed(nil), {}} {
		fmt.Println(f.To, f.Validate())
	}
	// Output:
	// tombstone <nil>
	// failed AsFailed needs an error
	//  an empty Finding: use AsDone, AsFailed or AsNotDone
}
