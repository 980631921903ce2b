package activity

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
)

// Reason says why the guard did not run an activity, or does not vouch for it.
// It is the type of the ApplicationError that the workflow sees, and can be
// named in a retry policy's NonRetryableErrorTypes.
type Reason string

const reasonPrefix = "atmostonce."

const (
	// InFlight: another call with the key is running. Retryable.
	InFlight Reason = reasonPrefix + "InFlight"
	// Duplicate: another call has the key, and the policy is Reject.
	// Non-retryable.
	Duplicate Reason = reasonPrefix + "Duplicate"
	// Mismatch: the key belongs to a call with other input. Non-retryable.
	Mismatch Reason = reasonPrefix + "Mismatch"
	// InDoubt: nobody knows whether the effect took place. Retryable or not as
	// the InDoubt policy says.
	InDoubt Reason = reasonPrefix + "InDoubt"
	// OutcomeNotKept: the effect took place, but its result could not be
	// recorded; or it failed for good, as the message then says, and what encrypts
	// the failure makes it too large. Non-retryable.
	OutcomeNotKept Reason = reasonPrefix + "OutcomeNotKept"
	// StoreDown: the store gave no answer, or grants no new keys (it is full, say),
	// so the activity was not run. Retryable.
	StoreDown Reason = reasonPrefix + "StoreDown"
	// BadRecord: the record is corrupt or of an unknown version, or its outcome
	// cannot be decoded here, so the activity was not run. Retryable: an operator
	// or another worker can help.
	BadRecord Reason = reasonPrefix + "BadRecord"
	// BadKey: no key could be made for the call. Non-retryable, unless the input
	// cannot be read for now, by a codec that does not answer, say.
	BadKey Reason = reasonPrefix + "BadKey"
	// BadSetup: the guard cannot work as it is installed, or cannot know whether
	// the call is of a marked function. Retryable, unless the store refuses the
	// call as invalid.
	BadSetup Reason = reasonPrefix + "BadSetup"
)

// Refusal is what a guard error carries.
type Refusal struct {
	Reason   Reason
	Activity string
	// Key is the short digest that logs and spans show: the beginning of what [Key]
	// returns, the idempotency key that the callee got.
	Key string
	// WorkflowID, RunID and Attempt are of the call that holds the key.
	WorkflowID string    `json:",omitempty"`
	RunID      string    `json:",omitempty"`
	Attempt    int32     `json:",omitempty"`
	Since      time.Time `json:",omitzero"` // when that call got the key, or the doubt began
	// Trace is the W3C traceparent of the span in which that call ran; it has the
	// IDs of its trace and span.
	Trace string `json:",omitempty"`
	// Untouched is set where the call was not run and the store has said that it
	// knows of no run under the key. That this is the first attempt does not say so:
	// after a reset of the activity, attempts are counted anew.
	Untouched bool `json:",omitempty"`
}

// Why returns what the guard said in err; ok is false if err is not from a
// guard. Inside a timeout it is what an earlier attempt was told.
func Why(err error) (r Refusal, ok bool) {
	for err != nil {
		app := (*temporal.ApplicationError)(nil)
		if !errors.As(err, &app) {
			return Refusal{}, false
		}
		if strings.HasPrefix(app.Type(), reasonPrefix) {
			if app.HasDetails() {
				// Without details, the reason alone is the answer.
				_ = app.Details(&r)
			}
			r.Reason = Reason(app.Type())
			return r, true
		}
		err = app.Unwrap()
	}
	return Refusal{}, false
}

// Is reports whether err is a guard error for that reason.
func Is(err error, reason Reason) bool {
	r, ok := Why(err)
	return ok && r.Reason == reason
}

// MayHaveHappened reports whether the effect of a failed activity may have
// taken place: the question that a saga asks before it decides what to
// compensate. It is true for every error that does not exclude it: a key in
// doubt or in flight, cancellations, panics, what kept the guard from asking the
// store, since an earlier attempt may have run, and timeouts, ScheduleToStart
// included: that the last attempt did not begin says nothing about those before
// it. It is false for nil, for an error that a guarded activity returned and the
// guard accepted as "nothing happened", and for a call that was not begun while the
// store knew of no run.
//
// Errors of activities that are not guarded are judged alike, but nobody
// checked them: such an activity's plain error may hide an effect.
func MayHaveHappened(err error) bool {
	if err == nil {
		return false
	}
	// The server hangs the failure of an earlier attempt under a timeout.
	timeout, canceled, panicked := (*temporal.TimeoutError)(nil), (*temporal.CanceledError)(nil), (*temporal.PanicError)(nil)
	if errors.As(err, &timeout) {
		return true
	}
	if r, ok := Why(err); ok {
		switch r.Reason {
		case BadKey, BadSetup, StoreDown, BadRecord, InFlight:
			return !r.Untouched
		}
		return true
	}
	if errors.As(err, &canceled) || errors.As(err, &panicked) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	app := (*temporal.ApplicationError)(nil)
	// The SDK replaces a result that the server would refuse.
	return !errors.As(err, &app) || app.Type() == "payloadSizeError"
}
