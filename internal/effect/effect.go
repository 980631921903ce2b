// Package effect is between the engine and a ledger: a place beside the effects, such as
// a table of the same database, that is written in one step with each of them and so
// knows which took place. Package txn keeps one.
package effect

import (
	"context"
	"errors"
	"reflect"
	"time"
)

// Outcome is what came of an effect, encoded by the guard's converter or codec.
type Outcome struct {
	Data    []byte
	Context string // how Data was encoded; the guard reads it
}

// Call is what a ledger needs to know of the guarded call, or of its step, that has the
// effect.
type Call struct {
	Key        string       // once.Key
	Generation uint64       // how often a success under the key was reopened
	Owner      string       // nonce of the claim
	Match      string       // what a duplicate must agree on
	Ledger     string       // ID of the ledger that the call's policy goes by; "": of none
	Out        reflect.Type // of the result; nil if it is not known
	// Guarded is false where the call runs without a claim: mode Off or Observe, or no
	// usable key. Nothing is to be written down then.
	Guarded bool

	// Encode and Decode are the guard's. Encode comes before what it encodes is written
	// down: of a run that has not called it, the guard knows that it has written nothing.
	// What it returns is never nil data, and an error if the result cannot be kept.
	Encode func(ctx context.Context, result any) (Outcome, error)
	Decode func(ctx context.Context, o Outcome, ptr any) error
	// Committed says that the effect took place, with that outcome: whatever the body
	// returns from now on, this is what the guard records and answers. A second
	// effect of one call is refused: it returns an error then.
	Committed func(o Outcome) error
}

// Key is that of a call in a context; see FromContext. A context may make the call when it
// is asked for it.
type Key struct{}

// NewContext returns a context in which c is the call.
func NewContext(ctx context.Context, c *Call) context.Context {
	return context.WithValue(ctx, Key{}, c)
}

// FromContext returns the innermost call in ctx: of a step, the step.
func FromContext(ctx context.Context) (c *Call, ok bool) {
	c, ok = ctx.Value(Key{}).(*Call)
	return c, ok
}

// Run is a run of a call whose end the guard does not know, or knows by its record only.
type Run struct {
	Key        string
	Generation uint64
	Owner      string // nonce of the claim; of what is confirmed, another run may have had the effect
	Match      string
	// At is when the run got its claim, by the clock of the guard's store: the effect did
	// not take place before. Zero if it is not known.
	At time.Time
}

// Errors of a ledger.
var (
	// ErrNotDone: the effect of that run did not take place, and cannot any more.
	ErrNotDone = errors.New("ledger: the effect did not take place")
	// ErrMissing: the record says that the effect took place, and the ledger, which is
	// older than it was, does not know of it.
	ErrMissing = errors.New("ledger: the effect is gone")
)

// Ledger knows which effects took place.
type Ledger interface {
	// ID names what the ledger is written in. A claim keeps it, and only the ledger
	// of that ID decides about it.
	ID() string
	// Decide returns the outcome of the run's effect; ErrNotDone, and from then on
	// that run cannot have it. Any other error leaves it open.
	Decide(ctx context.Context, r Run) (Outcome, error)
	// Confirm returns ErrMissing if the effect, which the guard's record says has
	// taken place, is gone. Any other error leaves it open.
	Confirm(ctx context.Context, r Run) error
}
