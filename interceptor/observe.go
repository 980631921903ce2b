package interceptor

import (
	"context"
	"time"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/store"
)

// Kind says what became of a guarded call.
type Kind uint8

// The kinds of Event.
const (
	Claim     Kind = iota + 1 // begun; what it becomes is said at its end
	Execute                   // the body ran
	Duplicate                 // a recorded outcome was replayed
	Fail                      // the guard refused, or the effect is in doubt
	Skip                      // ran unguarded: by the key function's wish, or by the Mode
	Wait                      // the call kept its slot until another one had ended
	Notice                    // something to know that changed no answer; see Event.Notice
)

// String returns the kind in lower case.
func (k Kind) String() string {
	names := [...]string{"", "claim", "execute", "duplicate", "fail", "skip", "wait", "notice"}
	if int(k) >= len(names) {
		return "unknown"
	}
	return names[k]
}

// What a Notice tells.
const (
	LeaseLost     = "lease_lost"     // a running body was superseded, or could not renew in time
	RenewFailed   = "renew_failed"   // a renewal got no answer; it is tried again
	SettleDelayed = "settle_delayed" // the outcome is not written yet; that goes on in the background
	SettleFailed  = "settle_failed"  // the outcome could not be written before the worker stopped
	StoreLost     = "store_lost"     // the store had forgotten a claim
	StoreForgot   = "store_forgot"   // the store has lost records; see store.ErrForgot
	StoreReplaced = "store_replaced" // the store may have lost records; see store.ErrReplaced
	StoreUnsafe   = "store_unsafe"   // the store is set up such that it may lose records
	Conflict      = "conflict"       // a superseded run succeeded: evidence of two executions
	Reconciled    = "reconciled"     // a Reconcile function said what happened; Event.Err if it could not
	OtherRun      = "other_run"      // the replayed outcome is another workflow run's
	SameRun       = "same_run"       // the replayed outcome is another call's of the same run
	NoHeader      = "no_header"      // scope is PerRun or PerCall, but the call has no usable header: a reset of it is another call
	OneAttempt    = "one_attempt"    // MaximumAttempts is 1: what is in doubt cannot be cleared by a retry
	Observed      = "observed"       // under Mode Observe the body ran, which Enforce would not have run; Event.Reason, or a replay if that is empty
)

// Event is one decision of the guard. It carries no input, result or plain key.
type Event struct {
	Kind     Kind
	Notice   string // of Kind Notice
	Activity string
	Digest   string // of the key, 16 hexadecimal digits
	Policy   once.DuplicatePolicy

	WorkflowID, RunID, ActivityID string
	Attempt                       int32

	// Reason is why the guard refused; "" where the body's own error passed.
	Reason once.Reason
	// Err is the error that Temporal gets, or that the notice is about.
	Err error
	// Takeover is set where the body ran although an earlier run is in doubt.
	Takeover bool

	// Record is the one that the decision rests on, without its outcome. Where
	// the body ran it is the call's own, and Earlier the one it took over.
	Record, Earlier store.Record
	// Took is the time from begin to end.
	Took time.Duration
}

// Observer is told what the guard does. It cannot change an answer: a panic in
// it is swallowed.
type Observer interface {
	// Begin is called when something starts, with the context of the call; what
	// it returns is the context of the body. The returned function is called
	// once at the end, with what is known then.
	//
	// Every guarded call begins with Kind Claim and ends with another. Wait and
	// Notice begin and end within it, or in the background after it.
	Begin(ctx context.Context, e Event) (context.Context, func(Event))
}

// Tracer is implemented by observers that trace. The traceparent that it gives
// for the context of a call is kept in the record, for later calls to link to.
type Tracer interface {
	Trace(ctx context.Context) string
}

func (g *Guard) begin(ctx context.Context, e Event) (context.Context, func(Event)) {
	began := time.Now()
	ends := make([]func(Event), 0, len(g.observers))
	for _, o := range g.observers {
		var end func(Event)
		ctx, end = beginOne(ctx, o, e)
		ends = append(ends, end)
	}
	return ctx, func(e Event) {
		e.Took = time.Since(began)
		for _, end := range ends {
			endOne(end, e)
		}
	}
}

func beginOne(ctx context.Context, o Observer, e Event) (out context.Context, end func(Event)) {
	defer func() {
		if recover() != nil || out == nil || end == nil {
			out, end = ctx, func(Event) {}
		}
	}()
	return o.Begin(ctx, e)
}

func endOne(end func(Event), e Event) {
	defer func() { _ = recover() }()
	end(e)
}

func (g *Guard) trace(ctx context.Context) (traceparent string) {
	defer func() {
		if recover() != nil {
			traceparent = ""
		}
	}()
	for _, o := range g.observers {
		if t, ok := o.(Tracer); ok {
			return t.Trace(ctx)
		}
	}
	return ""
}
