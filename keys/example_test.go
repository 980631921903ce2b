package keys_test

import (
	"fmt"

	"github.com/atmostonce/atmostonce/keys"
)

type Charge struct {
	OrderID string
	Cents   int
}

// charged is a call of ChargeCard, as a guard describes it.
func charged(workflow, run string, in Charge) keys.Call {
	return keys.Call{Namespace: "shop", WorkflowID: workflow, RunID: run, Activity: "ChargeCard", Args: []any{in}}
}

// A key function names the effect by a part of the input: how much is charged makes no
// other effect of it.
func ExampleFrom() {
	order := keys.From(func(in Charge) string { return in.OrderID })
	for _, in := range []Charge{{"7", 1200}, {"7", 1300}} {
		key, err := keys.Make(keys.PerNamespace, order, charged("order-7", "run-1", in))
		fmt.Println(key, err)
	}
	// Output:
	// v1/shop/n/ChargeCard/k:7 <nil>
	// v1/shop/n/ChargeCard/k:7 <nil>
}

// A key function may look at more than the first argument, and may refuse a call, or
// have it run without the guard.
func ExampleFromCall() {
	order := keys.FromCall(func(c keys.Call) (string, error) {
		in := c.Args[0].(Charge)
		if in.Cents == 0 {
			return "", keys.ErrSkip // nothing is charged: nothing to guard
		}
		return keys.Join(c.TaskQueue, in.OrderID), nil
	})
	_, err := keys.Make(keys.PerNamespace, order, charged("order-7", "run-1", Charge{"7", 0}))
	fmt.Println(err)
	// Output: keys: run this call unguarded
}

// However the parts are cut, different parts make different keys.
func ExampleJoin() {
	fmt.Println(keys.Join("eu", "7"))
	fmt.Println(keys.Join("eu/7"))
	// Output:
	// eu/7/
	// eu%2F7/
}

// The scope says how far a key reaches.
func ExampleScope() {
	order := keys.From(func(in Charge) string { return in.OrderID })
	call := charged("order-7", "run-1", Charge{"7", 1200})
	for _, scope := range []keys.Scope{keys.PerNamespace, keys.PerWorkflow, keys.PerRun} {
		key, err := keys.Make(scope, order, call)
		fmt.Println(scope, key, err)
	}
	// Output:
	// PerNamespace v1/shop/n/ChargeCard/k:7 <nil>
	// PerWorkflow v1/shop/w:order-7/ChargeCard/k:7 <nil>
	// PerRun v1/shop/r:run-1/ChargeCard/k:7 <nil>
}
