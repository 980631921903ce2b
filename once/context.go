package once

import (
	"context"
	"reflect"
)

// Claim is what a running activity may know of its claim.
type Claim struct {
	// Key is the idempotency key for the callee: what [Key] returns.
	Key string
	// Fence orders the runs under one key: a later run has a greater one. A
	// callee that remembers the greatest fence it saw can refuse a run that was
	// superseded.
	Fence uint64
	// Takeover says that an earlier run may have had its effect: this one was
	// started by Resume or Rerun.
	Takeover bool
	// Lost says that another call has the key, or may have it: the lease was over
	// by this process's own clock when the claim was read, as after a suspension,
	// or the claim was superseded. The activity must not go on; its context is
	// canceled. A Claim does not change after it was read: read it again.
	Lost bool
	// Token returns what Guard.Complete needs to know of this call. An activity
	// that returns ErrResultPending hands it to whoever will report the end, in
	// place of Temporal's task token. It is text that is safe in URLs, shorter than
	// 500 characters where the IDs are of ordinary length. It is not encrypted, and
	// holds what the record holds: the key in plain text, for instance. Treat it as a
	// secret: whoever has it can decide the outcome. Nil where NewContext was not given
	// one.
	Token func() string
	// Begin is what [Begin] calls; nil does nothing.
	Begin func()
}

type claimKey struct{}

// NewContext returns a context in which c is the claim, for tests of activities
// outside of a guarded worker.
func NewContext(ctx context.Context, c Claim) context.Context {
	return context.WithValue(ctx, claimKey{}, c)
}

// FromContext returns the claim under which the activity runs; ok is false if
// it is not guarded. Where the guard lets a call run without a claim, Fence is 0.
// As any look at the context of a guarded activity it judges the clocks: a claim
// whose lease is over is [Claim.Lost], and ctx canceled.
func FromContext(ctx context.Context) (c Claim, ok bool) {
	c, ok = ctx.Value(claimKey{}).(Claim)
	return c, ok
}

// Key returns the idempotency key to hand to the callee of the side effect: 64
// hexadecimal digits, the same in every attempt and every duplicate; "" where ctx
// has no claim. The key of a lost claim is the same: ask ctx, which is canceled by
// then, before you use it.
func Key(ctx context.Context) string {
	c, _ := FromContext(ctx)
	return c.Key
}

// Begin says that from here on the effect may happen: whatever error the activity
// returns after it, in this attempt, puts the effect in doubt, unless NotDone or
// Classify says otherwise. Before it nothing changes: an error there says that
// nothing happened, unless it is recognised as ambiguous. Called right
// before the effect, it makes an activity safe whatever its client returns. Outside
// of guarded activities it does nothing. Guard.Complete knows of a Begin that came
// before the call of Claim.Token.
func Begin(ctx context.Context) {
	if c, ok := FromContext(ctx); ok && c.Begin != nil {
		c.Begin()
	}
}

// NotDone says that err left no effect behind: the key is released, whatever
// the policy and however ambiguous err looks. The workflow gets err itself. In
// an activity that is not guarded, err is wrapped. NotDone(nil) is nil. Joined
// with other errors it speaks for err alone, and they are judged as ever.
func NotDone(err error) error {
	if err == nil {
		return nil
	}
	return &verdictError{err, Unlock}
}

// MaybeDone says that the effect may have happened in spite of err: the key
// goes in doubt, whatever the policy and whatever err is joined with.
// MaybeDone(nil) is nil.
func MaybeDone(err error) error {
	if err == nil {
		return nil
	}
	return &verdictError{err, Doubt}
}

type verdictError struct {
	err     error
	verdict FailurePolicy
}

// said returns what NotDone and MaybeDone say about all that err wraps: Unlock,
// Doubt, or nothing. What they have said in another guarded call was said to its guard.
func said(err error) (verdict FailurePolicy) {
	defer func() {
		if recover() != nil { // a method of somebody's nil pointer, say
			verdict = FailurePolicy{}
		}
	}()
	for err != nil && !isRefusal(err) {
		var first error
		if e, ok := err.(interface{ As(any) bool }); ok {
			// Some lists show each of their errors in this way alone. One that gives
			// itself is not one of those.
			if !e.As(&first) || reflect.TypeOf(first) == reflect.TypeOf(err) {
				first = nil
			}
		}
		switch e := err.(type) { //nolint:errorlint // the outermost mark of a branch decides
		case *verdictError:
			return e.verdict
		case interface{ Unwrap() []error }:
			return saidOfAll(e.Unwrap())
		case interface{ Unwrap() error }:
			if err = e.Unwrap(); first != nil {
				return saidOfAll([]error{first, err})
			}
		default:
			err = first
		}
	}
	return FailurePolicy{}
}

func saidOfAll(branches []error) FailurePolicy {
	notDone, others := false, false
	for _, err := range branches {
		switch said(err) {
		case Doubt:
			return Doubt
		case Unlock:
			notDone = true
		default:
			others = others || err != nil
		}
	}
	if notDone && !others {
		return Unlock
	}
	return FailurePolicy{}
}

func (e *verdictError) Error() string { return e.err.Error() }
func (e *verdictError) Unwrap() error { return e.err }

// Plain returns err without the mark of NotDone or MaybeDone, if that mark is
// outermost.
func Plain(err error) error {
	if v, ok := err.(*verdictError); ok { //nolint:errorlint // what wraps it stays
		return v.err
	}
	return err
}
