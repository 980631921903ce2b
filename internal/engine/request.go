package engine

import (
	"context"
	"reflect"

	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// Request is a call as it comes in through a door.
type Request struct {
	Identity
	Attempt
	Policy once.Policy  // complete
	Args   []any        // for the Reconcile function
	Out    reflect.Type // of the result; nil if it is not known
	Door   Door
	Life   *Life // that takes the call

	HeaderErr error // why the call has no usable header

	step string // the name of the step that it is; "": it is none

	settled func(store.Record) // nil, or who gets the settled record that this call has written
}

// meet hands on what is known of the key for good.
func (r *Request) meet(record store.Record) {
	if r.settled != nil && (record.State == store.Succeeded || record.State == store.Failed) {
		r.settled(record)
	}
}

// Body is what is guarded.
type Body func(context.Context) (any, error)

// Door is what the engine does not know: how its callers encode what comes of a call,
// what they get as an error, and what an error of theirs means. Its methods are those
// of one call, may panic as code of users does, and never see a plain key.
type Door interface {
	// Encode returns the outcome of a body that succeeded, and what to answer with in
	// place of its result. With an error the outcome says that it is missing.
	Encode(ctx context.Context, result any) (o store.Outcome, answer any, err error)
	// EncodeFailure returns the outcome of a body that failed for good, and the error
	// in the form in which it is replayed.
	EncodeFailure(ctx context.Context, err error) (o store.Outcome, failure error)
	// EncodeDoubt returns the outcome of a body after whose error nobody knows what
	// happened.
	EncodeDoubt(ctx context.Context, err error) store.Outcome
	// Decode returns the answer to a call whose outcome is recorded; if there is
	// none, broken, which can be ErrNotKept.
	Decode(ctx context.Context, o store.Outcome) (result any, failure, broken error)
	// DecodeInto is Decode into ptr, of the result of a step.
	DecodeInto(ctx context.Context, o store.Outcome, ptr any) (failure, broken error)
	// DecodeDoubt returns the error that EncodeDoubt has kept; nil if there is none.
	DecodeDoubt(ctx context.Context, o store.Outcome) error

	// After returns err with the error that came first as its cause, unless that is nil.
	After(err, first error) error
	// Refuse makes the error that the caller gets.
	Refuse(ctx context.Context, r Refusal) error
	// LeavesOpen reports whether err, whatever it wraps, leaves open if the effect
	// took place; known is false where the door does not know the error.
	LeavesOpen(err error) (open, known bool)
	// IsFinal reports whether no attempt would follow after err, under that retry policy.
	IsFinal(err error, p *Retries) bool
	// IsPending reports whether err says that the end is reported later.
	IsPending(err error) bool
	// IsStop reports whether err, the cause of a context's end, says that the life of
	// the call ends.
	IsStop(err error) bool
	// Panicked is what the guard has for the error of a body that does not return.
	Panicked() error

	// Token is what once.Claim.Token gives; of a call without a claim, b is empty.
	Token(b store.Bid, origin store.Origin, begun bool) string
	// Beat sends a heartbeat with the progress that was there.
	Beat(ctx context.Context)
	// KeyOf is the key for the callee where the guard has made none.
	KeyOf(ctx context.Context) string
}
