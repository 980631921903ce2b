package atmostonce

import (
	"context"
	"errors"
	"log/slog"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// door is the engine's door for one call of a function.
type door struct{ codec codec }

var _ engine.Door = door{}

// Encode implements engine.Door.
func (d door) Encode(_ context.Context, result any) (store.Outcome, any, error) {
	o, err := d.codec.encode(result)
	return o, result, err
}

// EncodeFailure implements engine.Door.
func (d door) EncodeFailure(_ context.Context, err error) (store.Outcome, error) {
	return d.codec.encodeError(store.Failed, err)
}

// EncodeDoubt implements engine.Door.
func (d door) EncodeDoubt(_ context.Context, err error) store.Outcome {
	o, _ := d.codec.encodeError(store.InDoubt, err)
	o.Missing = ""
	return o
}

// Decode implements engine.Door.
func (d door) Decode(_ context.Context, o store.Outcome) (result any, failure, broken error) {
	return d.codec.replay(o)
}

// DecodeDoubt implements engine.Door.
func (d door) DecodeDoubt(_ context.Context, o store.Outcome) error {
	if o.State != store.InDoubt || len(o.Data) == 0 {
		return nil
	}
	failure, _ := d.codec.decodeError(o.Data)
	return failure
}

// After implements engine.Door.
func (d door) After(err, first error) error {
	if first == nil {
		return err
	}
	return &wrapped{textOf(err) + ": " + textOf(first), []error{err, first}}
}

// Refuse implements engine.Door.
func (d door) Refuse(ctx context.Context, r engine.Refusal) error {
	if r.Reason == once.BadSetup { // as it is in this process, it stays
		r.Retryable = false
	}
	e := &Error{Refusal: r.Details(), text: r.Message("try again"), cause: r.Cause}
	if r.Retryable {
		e.RetryAfter = r.Delay
	}
	if r.Reason == once.InFlight && e.cause == nil { // see IsStop
		e.cause = context.Cause(ctx)
	}
	return e
}

// LeavesOpen implements engine.Door: what the engine knows is enough.
func (d door) LeavesOpen(error) (open, known bool) { return false, false }

// IsFinal implements engine.Door: another run would get the same answer, from a step that
// fails for good, say. Of other errors nobody knows.
func (d door) IsFinal(err error, _ *engine.Retries) bool {
	e := (*Error)(nil)
	return errors.As(err, &e) && e.RetryAfter == 0
}

// IsPending implements engine.Door.
func (d door) IsPending(error) bool { return false }

// IsStop implements engine.Door: a caller whose context has ended gets an Error, for
// another call may have the effect.
func (d door) IsStop(error) bool { return true }

var errPanicked = errors.New("the function panicked")

// Panicked implements engine.Door.
func (d door) Panicked() error { return errPanicked }

// Token implements engine.Door: nothing is reported from outside.
func (d door) Token(store.Bid, store.Origin, bool) string { return "" }

// Beat implements engine.Door.
func (d door) Beat(context.Context) {}

// KeyOf implements engine.Door.
func (d door) KeyOf(ctx context.Context) string { return once.Key(ctx) }

// sink is where the engine's reports go that no observer takes.
type sink struct{ logger *slog.Logger }

// Destination implements engine.Sink.
func (sink) Destination(context.Context) any { return nil }

// All implements engine.Sink.
func (sink) All() []any { return nil }

// Measure implements engine.Sink: metrics are for observers that take them.
func (sink) Measure(context.Context, any, observe.Measurement) {}

// Logger implements engine.Sink.
func (s sink) Logger(context.Context) engine.Logger { return s.logger }

// Log implements engine.Sink.
func (s sink) Log() engine.Logger { return s.logger }
