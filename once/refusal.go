package once

import (
	"strings"
	"time"
)

// Reason says why the guard did not run an activity, or does not vouch for it.
// It is the type of the ApplicationError that the workflow sees, and can be
// named in a retry policy's NonRetryableErrorTypes.
type Reason string

// Error is the reason itself, so that errors.Is can ask a guarded function's error for
// it.
func (r Reason) Error() string { return string(r) }

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

// MayHaveHappened reports whether the effect of the call that was refused may have taken
// place, in this attempt or in one before it.
func (r Refusal) MayHaveHappened() bool {
	switch r.Reason {
	case BadKey, BadSetup, StoreDown, BadRecord, InFlight:
		return !r.Untouched
	}
	return true
}

// isRefusal reports whether err itself is a guard's answer: of a function, or of an
// activity. What it wraps is about a call that has been judged.
func isRefusal(err error) bool {
	switch e := err.(type) { //nolint:errorlint // of err alone
	case interface{ MayHaveHappened() bool }:
		return true
	case interface{ Type() string }:
		return strings.HasPrefix(e.Type(), reasonPrefix)
	}
	return false
}
