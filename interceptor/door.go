package interceptor

import (
	"context"
	"errors"
	"reflect"

	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/store"
)

// door is the engine's door for one activity task.
type door struct {
	codec codec
	info  sdkactivity.Info
	beat  *heartbeat // nil: it runs nowhere
	limit int        // Options.MaxOutcome

	// surrounded says that other interceptors get the answer: they get a value, as the
	// body returns it, instead of what is recorded.
	surrounded bool
	returns    reflect.Type // the type of the body's result; nil: none, or not known
}

var _ engine.Door = (*door)(nil)

// know takes over what the header says of the call.
func (d *door) know(r *engine.Request, h callHeader) {
	r.Holder.OriginalRunID, r.Holder.Occurrence = h.OriginalRunID, h.Occurrence
	if d.info.RetryPolicy == nil {
		a := attemptOf(d.info, h)
		r.Retries, r.Last, r.Unsure = a.Retries, a.Last, a.Unsure
	}
}

// Encode implements engine.Door. The SDK gets the very payloads that are recorded.
func (d *door) Encode(ctx context.Context, result any) (store.Outcome, any, error) {
	o, answer, err := d.codec.encode(ctx, result, d.limit)
	if d.surrounded {
		answer = result
	}
	return o, answer, err
}

// EncodeFailure implements engine.Door.
func (d *door) EncodeFailure(ctx context.Context, err error) (store.Outcome, error) {
	return d.codec.encodeFailure(ctx, err)
}

// EncodeDoubt implements engine.Door.
func (d *door) EncodeDoubt(ctx context.Context, err error) store.Outcome {
	return d.codec.doubt(ctx, err)
}

// Decode implements engine.Door.
func (d *door) Decode(ctx context.Context, o store.Outcome) (result any, failure, broken error) {
	result, failure, broken = d.codec.replay(ctx, o)
	if broken == nil && d.surrounded {
		if value := d.codec.decoded(ctx, result, d.returns); value != nil {
			return value, failure, nil
		}
	}
	return result, failure, broken
}

// DecodeDoubt implements engine.Door.
func (d *door) DecodeDoubt(ctx context.Context, o store.Outcome) error { return d.codec.cause(ctx, o) }

// After implements engine.Door.
func (d *door) After(err, first error) error { return after(err, first) }

// Refuse implements engine.Door. The SDK neither logs a benign error nor counts it
// as a failure.
func (d *door) Refuse(_ context.Context, r engine.Refusal) error {
	o := temporal.ApplicationErrorOptions{NonRetryable: !r.Retryable, Cause: r.Cause, Details: []any{r.Details()}}
	if r.Retryable {
		o.NextRetryDelay = r.Delay
	}
	if r.Benign {
		o.Category = temporal.ApplicationErrorCategoryBenign
	}
	return temporal.NewApplicationErrorWithOptions(r.Message("Temporal tries again"), string(r.Reason), o)
}

// LeavesOpen implements engine.Door: another workflow or activity that the body has
// waited for may have ended so, too.
func (d *door) LeavesOpen(err error) (open, known bool) {
	is, _ := err.(interface{ Is(error) bool })
	if err == sdkactivity.ErrResultPending || is != nil && is.Is(sdkactivity.ErrResultPending) { //nolint:errorlint // of err alone
		return true, true
	}
	switch e := err.(type) { //nolint:errorlint // of err alone
	case *temporal.CanceledError, *temporal.TimeoutError, *temporal.TerminatedError, *temporal.PanicError:
		return true, true
	case *temporal.ApplicationError: // another activity's
		_, guarded := once.Why(e)
		return guarded && once.MayHaveHappened(e), true
	}
	return false, false
}

// IsPending implements engine.Door. The SDK compares likewise.
func (d *door) IsPending(err error) bool {
	return err == sdkactivity.ErrResultPending && !d.info.IsLocalActivity //nolint:errorlint // see above
}

// IsStop implements engine.Door.
func (d *door) IsStop(err error) bool { return errors.Is(err, worker.ErrWorkerShutdown) }

// errPanicked stands for the end of a body that did not return.
var errPanicked = temporal.NewApplicationError("the activity panicked", "panic")

// Panicked implements engine.Door.
func (d *door) Panicked() error { return errPanicked }

// Token implements engine.Door.
func (d *door) Token(b store.Bid, origin store.Origin, begun bool) string {
	return ticket{Task: d.info.TaskToken, Where: d.codec.where, Origin: origin, Bid: b, Begun: begun}.String()
}

// Beat implements engine.Door.
func (d *door) Beat(ctx context.Context) { d.beat.again(ctx) }

// KeyOf implements engine.Door.
func (d *door) KeyOf(ctx context.Context) string { return once.Key(ctx) }
