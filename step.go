package atmostonce

import (
	"context"
	"fmt"
	"reflect"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// Step runs f as a step of the guarded call whose context ctx is or is derived from: of
// an activity that package interceptor guards, or of a function that this package does.
// The step has a record of its own under the call's key. When the body of the call runs
// again, after whatever interruption, a step that was finished gets its recorded result,
// and f is not run. Steps may run at the same time.
//
// name must be the same in every run, and different for each step of a run; it is kept
// in plain text. f gets a context with a claim of the step's own: [once.Key] in it is
// another key for each step. A step has no steps of its own. Misuse is an error with
// reason BadSetup, and so is a ctx that belongs to no guarded call.
//
// A policy, at most one, may say TTL, OnDuplicate Return or Wait, OnFailure and InDoubt.
// What it leaves out is the call's; but a step whose call has InDoubt Resume, Rerun,
// Reconcile or a ledger's holds, for these are about the body, and a Reject is a Return. TTL is at
// least the call's; Match is the call's. A Reconcile function gets the first argument of the call, or a
// struct{} if there is none, and returns an Out.
//
// Errors are those of a guarded call. A failed step that left no effect behind runs
// again in the next run. A body that returns an error, be it the step's or another one,
// puts its call in doubt while a step is in doubt or runs, unless NotDone or Classify
// says otherwise of the call. The error of a step that was not run, because the store is down, say,
// counts for the call's OnFailure as one that says nothing of an effect, and is never
// kept.
func Step[Out any](ctx context.Context, name string, f func(context.Context) (Out, error), policy ...once.Policy) (Out, error) {
	step := engine.Step{Name: name, Policy: policy, Out: reflect.TypeFor[Out]()}
	if f != nil {
		step.Body = func(ctx context.Context) (any, error) { return f(ctx) }
	}
	result, err := engine.RunStep(ctx, step)
	if err == engine.ErrNoCall { //nolint:errorlint // never wrapped
		err = &Error{Refusal: once.Refusal{Reason: once.BadSetup}, text: "bad set-up: step " + name + " was not run: " + err.Error()}
	}
	out, _ := result.(Out)
	return out, err
}

// DecodeInto implements engine.Door.
func (d door) DecodeInto(_ context.Context, o store.Outcome, ptr any) (failure, broken error) {
	if o.Missing != "" || o.State == store.Failed {
		_, failure, broken = d.codec.replay(o)
		return failure, broken
	}
	if err := safely(func() error { return d.codec.with.Decode(o.Data, ptr) }); err != nil {
		return nil, fmt.Errorf("result: %w", err)
	}
	return nil, nil
}
