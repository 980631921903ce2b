package atmostonce

import (
	"errors"
	"slices"
	"time"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/once"
)

// Error is what a guarded call gets that was not run, or whose effect is in doubt.
// errors.As finds it; errors.Is finds its reason, errors.Is(err, once.InFlight), and
// what ended its wait, context.DeadlineExceeded, say.
type Error struct {
	// Refusal has the reason, the digest of the key, and since when another call has it.
	// What it has of workflows is empty.
	once.Refusal
	// RetryAfter is after how long another try can get another answer; 0 if none will.
	RetryAfter time.Duration
	text       string
	cause      error
}

// refused is the answer to a call of what is no guard.
func refused(name string, why error) *Error {
	r := engine.Refusal{Reason: once.BadSetup, Activity: name, Alone: true, Cause: why}
	return &Error{Refusal: r.Details(), text: r.Message(""), cause: why}
}

// Error says the verdict, what it means for the effect, and what comes next.
func (e *Error) Error() string {
	if e.cause != nil {
		return e.text + "; the cause: " + say(e.cause)
	}
	return e.text
}

// Unwrap returns what the guard got from others: the store, or the function itself.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is e's reason.
func (e *Error) Is(target error) bool {
	r, ok := target.(once.Reason)
	return ok && r == e.Reason
}

// MayHaveHappened reports whether the effect of a guarded call that ended in err may
// have taken place: the question that a caller asks before it compensates. It is true
// for every error that does not exclude it, and false for nil, for an error that the
// guard accepted as "nothing happened", and for a call that was not begun while the
// store knew of no run.
func MayHaveHappened(err error) bool {
	switch e := err.(type) { //nolint:errorlint // each branch of a tree
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), MayHaveHappened)
	case *Error:
		return e.Refusal.MayHaveHappened()
	}
	return err != nil && MayHaveHappened(errors.Unwrap(err))
}
