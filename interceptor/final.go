package interceptor

import (
	"errors"
	"slices"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"

	"github.com/atmostonce/atmostonce/internal/engine"
)

// IsFinal implements engine.Door: the server judges the failure that it is sent, and
// for a local activity the SDK judges whatever err wraps.
func (d *door) IsFinal(err error, p *engine.Retries) bool {
	var types []string
	if p != nil {
		types = p.NonRetryable
	}
	if d.info.IsLocalActivity {
		terminated, timedOut, app := (*temporal.TerminatedError)(nil), (*temporal.TimeoutError)(nil), (*temporal.ApplicationError)(nil)
		switch {
		case errors.As(err, &terminated):
			return true
		case errors.As(err, &timedOut):
			return endsCall(timedOut.TimeoutType())
		case errors.As(err, &app):
			return app.NonRetryable() || slices.Contains(types, app.Type())
		}
	}
	failure := d.codec.failuresIn(d.codec.where).ErrorToFailure(err)
	switch {
	case failure.GetApplicationFailureInfo() != nil:
		info := failure.GetApplicationFailureInfo()
		return info.GetNonRetryable() || slices.Contains(types, info.GetType())
	case failure.GetTimeoutFailureInfo() != nil:
		return endsCall(failure.GetTimeoutFailureInfo().GetTimeoutType())
	}
	return failure.GetTerminatedFailureInfo() != nil || failure.GetServerFailureInfo().GetNonRetryable()
}

// endsCall reports whether there is no retry after a timeout of that type.
func endsCall(t enumspb.TimeoutType) bool {
	return t != enumspb.TIMEOUT_TYPE_START_TO_CLOSE && t != enumspb.TIMEOUT_TYPE_HEARTBEAT
}
