package activity

import (
	"context"
	"errors"
	"strings"

	"go.temporal.io/sdk/temporal"
)

// Why returns what the guard said in err; ok is false if err is not from a
// guard. Inside a timeout it is what the guard answered to an earlier attempt.
func Why(err error) (r Refusal, ok bool) {
	for err != nil {
		app := (*temporal.ApplicationError)(nil)
		if !errors.As(err, &app) {
			return Refusal{}, false
		}
		if strings.HasPrefix(app.Type(), "atmostonce.") {
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
// compensate. It is true unless the error excludes it: for a key in doubt or in
// flight, cancellations, panics, whatever kept the guard from asking the store,
// since an earlier attempt may have run, and timeouts. That includes
// ScheduleToStart: the last attempt did not begin, but one before it may have. It
// is false for nil, for an error that a guarded activity returned and the
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
		return r.MayHaveHappened()
	}
	if errors.As(err, &canceled) || errors.As(err, &panicked) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	app := (*temporal.ApplicationError)(nil)
	// The SDK replaces a result that the server would refuse.
	return !errors.As(err, &app) || app.Type() == "payloadSizeError"
}
