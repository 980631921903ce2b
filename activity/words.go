package activity

import (
	"context"
	"time"

	"github.com/atmostonce/atmostonce/once"
)

// The words of package once, which a worker's code finds here too.
type (
	// Policy says how an activity is guarded.
	Policy = once.Policy
	// DuplicatePolicy says what a call gets while another one with its key runs.
	DuplicatePolicy = once.DuplicatePolicy
	// FailurePolicy says what an error that the activity returns means.
	FailurePolicy = once.FailurePolicy
	// DoubtPolicy says what a call does when it finds its key in doubt.
	DoubtPolicy = once.DoubtPolicy
	// Mode says how much the guard does about an activity.
	Mode = once.Mode
	// Claim is what a running activity may know of its claim.
	Claim = once.Claim
	// Reason says why the guard did not run an activity, or does not vouch for it.
	Reason = once.Reason
	// Refusal is what a guard error carries; see [Why].
	Refusal = once.Refusal
)

// Forever, as a TTL, keeps the record until an operator removes it.
const Forever time.Duration = once.Forever

// What a call gets while another one with its key runs: a DuplicatePolicy.
const (
	Return = once.Return // a retryable error; the slot is free
	Reject = once.Reject // an error for good
	Wait   = once.Wait   // the outcome, in the slot
)

// What a returned error means: a FailurePolicy. See also [Classify].
var (
	Unlock = once.Unlock // nothing happened, unless the error cannot say so
	Lock   = once.Lock   // the failure is kept and replayed
	Doubt  = once.Doubt  // the effect may have happened
)

// What is done about a doubt: a DoubtPolicy. See also [HoldFor] and [Reconcile].
var (
	Hold   = once.Hold   // until an operator has decided
	Fail   = once.Fail   // the workflow gets an error
	Resume = once.Resume // a retry of the same call goes on from its heartbeats
	Rerun  = once.Rerun  // the activity runs again: at least once
)

// How much the guard does: a Mode.
const (
	Enforce = once.Enforce // it guards
	Observe = once.Observe // it records and reports, and changes no answer
	Off     = once.Off     // nothing
)

// Why the guard did not run an activity, or does not vouch for it: a Reason.
const (
	InFlight       = once.InFlight       // another call with the key is running
	Duplicate      = once.Duplicate      // another call has the key, and the policy is Reject
	Mismatch       = once.Mismatch       // the key belongs to a call with other input
	InDoubt        = once.InDoubt        // nobody knows whether the effect took place
	OutcomeNotKept = once.OutcomeNotKept // it took place, but its result could not be recorded
	StoreDown      = once.StoreDown      // the store gave no answer, or grants no new keys
	BadRecord      = once.BadRecord      // the record cannot be read here
	BadKey         = once.BadKey         // no key could be made for the call
	BadSetup       = once.BadSetup       // the guard cannot work as it is installed
)

// ErrNotDone is what a [Reconcile] function returns for an effect that did not
// happen, and cannot happen any more.
var ErrNotDone = once.ErrNotDone

// Classify asks f about each error that the activity returns; f answers Unlock, Lock
// or Doubt, and its answer stands. Anything else it answers counts as Doubt.
func Classify(f func(error) FailurePolicy) FailurePolicy { return once.Classify(f) }

// HoldFor holds until the key has been in doubt for d, then fails. It can fail
// before, where Hold would.
func HoldFor(d time.Duration) DoubtPolicy { return once.HoldFor(d) }

// Reconcile asks find, with the activity's first argument, whether the effect took
// place. find returns the activity's result if it did, ErrNotDone if it did not and
// cannot any more, and another error if that is still not known; see once.Reconcile.
func Reconcile[In, Out any](find func(ctx context.Context, in In) (Out, error)) DoubtPolicy {
	return once.Reconcile(find)
}

// NewContext returns a context in which c is the claim, for tests of activities
// outside of a guarded worker.
func NewContext(ctx context.Context, c Claim) context.Context { return once.NewContext(ctx, c) }

// FromContext returns the claim under which the activity runs; ok is false if it is
// not guarded. Where the guard lets a call run without a claim, Fence is 0.
func FromContext(ctx context.Context) (c Claim, ok bool) { return once.FromContext(ctx) }

// Begin says that from here on the effect may happen: an error that the activity
// returns after it puts the effect in doubt, unless NotDone or Classify says
// otherwise. Call it right before the effect.
func Begin(ctx context.Context) { once.Begin(ctx) }

// NotDone says that err left no effect behind: the key is released, whatever the
// policy and however ambiguous err looks. NotDone(nil) is nil.
func NotDone(err error) error { return once.NotDone(err) }

// MaybeDone says that the effect may have happened in spite of err: the key goes in
// doubt, whatever the policy. MaybeDone(nil) is nil.
func MaybeDone(err error) error { return once.MaybeDone(err) }
