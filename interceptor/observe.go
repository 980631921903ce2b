package interceptor

import (
	"cmp"
	"context"
	"strings"
	"time"
	"unicode"

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
	LeaseLost      = "lease_lost"      // a running body was superseded, or could not renew in time
	RenewFailed    = "renew_failed"    // a renewal got no answer; it is tried again
	SettleDelayed  = "settle_delayed"  // the outcome is not written yet; that goes on in the background
	SettleFailed   = "settle_failed"   // the outcome could not be written before the worker stopped
	StoreLost      = "store_lost"      // the store had forgotten a claim
	StoreForgot    = "store_forgot"    // the store has lost records; see store.ErrForgot
	StoreReplaced  = "store_replaced"  // the store may have lost records; see store.ErrReplaced
	StoreUnsafe    = "store_unsafe"    // the store is set up such that it may lose records
	Conflict       = "conflict"        // a superseded run succeeded: evidence of two executions
	Reconciled     = "reconciled"      // a Reconcile function said what happened; Event.Err if it could not
	OtherRun       = "other_run"       // the replayed outcome is another workflow run's
	SameRun        = "same_run"        // the replayed outcome is another call's of the same run
	NoHeader       = "no_header"       // scope is PerRun or PerCall, but the call has no usable header: a reset of it is another call
	OneAttempt     = "one_attempt"     // MaximumAttempts is 1: what is in doubt cannot be cleared by a retry
	PolicyDefeated = "policy_defeated" // timeouts or the retry policy keep the policy from being carried out; Event.Err says which, and what to change
	Resolved       = "resolved"        // an operator resolved the key; Event.Record as it then is
	Erased         = "erased"          // an operator had the key's record erased, by Guard.Forget; the last event of Event.Record says who and why
	Observed       = "observed"        // under Mode Observe the body ran, which Enforce would not have run; Event.Reason, or a replay if that is empty
)

// Notices returns what a Notice can tell.
func Notices() []string {
	return []string{LeaseLost, RenewFailed, SettleDelayed, SettleFailed, StoreLost, StoreForgot, StoreReplaced, StoreUnsafe,
		Conflict, Reconciled, OtherRun, SameRun, NoHeader, OneAttempt, PolicyDefeated, Resolved, Erased, Observed}
}

// Event is one decision of the guard. It carries no input, result or plain key;
// Err may: it is what Temporal gets.
type Event struct {
	Kind     Kind
	Notice   string // of Kind Notice
	Activity string
	Digest   string // of the key, 16 hexadecimal digits: the beginning of once.Key
	Policy   once.DuplicatePolicy

	WorkflowID, RunID, ActivityID string // of a standalone activity there is no workflow ID, and RunID is its own
	Attempt                       int32

	// Reason is why the guard refused; "" where the body's own error passed.
	Reason once.Reason
	// Settling is set with reason InDoubt where the policy has not decided yet.
	// Where it is not set, somebody has to decide, unless the last owner still
	// writes down what came of it.
	Settling bool
	// Repeated is set where this process has reported the same before: of the key, the
	// doubt or the activity type. It is counted, but logs can leave it out: they have
	// it when it begins, after an hour, and then each day.
	Repeated bool
	// Err is the error that Temporal gets, or that the notice is about.
	Err error
	// Takeover is set where the body ran although an earlier run is in doubt.
	Takeover bool

	// Record is the one that the decision rests on, without its key, its outcome and
	// what Match made of the input. Where the body ran it is the call's own, and
	// Earlier the one it took over.
	Record, Earlier store.Record
	// Took is the time from begin to end.
	Took time.Duration
	// Waited says, at the end of a Wait, how it ended: completed or failed, as the
	// owner did; released, if the key was free again; owner_lost, if the owner's
	// effect went in doubt; store_down, if it was the store that was waited for;
	// timeout or cancelled, if the call's own time was over; stopped, if the
	// worker's was; else as ErrorType.
	Waited string
	// Store is the kind of store: memory, file, redis or other.
	Store string
}

// Outcome says what became of a guarded call: executed, duplicate, failed or
// skipped.
func (e Event) Outcome() string {
	switch e.Kind {
	case Execute:
		return "executed"
	case Duplicate:
		return "duplicate"
	case Skip:
		return "skipped"
	default:
		return "failed"
	}
}

// ErrorType is Reason in lower case, such as store_down; settling where Settling
// is set; "" without a reason.
func (e Event) ErrorType() string {
	if e.Settling {
		return settling
	}
	return reasonLabel(e.Reason)
}

// Warning is what is to be logged of the event as something that somebody should
// look into: the notice, or in_doubt; "" if there is nothing. See Remedy.
func (e Event) Warning() string {
	switch {
	case e.Kind == Notice && remedies[e.Notice] != "":
		return e.Notice
	case e.Kind != Notice && e.Kind != Wait && e.Reason == once.InDoubt && !e.Settling:
		return inDoubt
	}
	return ""
}

// reasonLabel returns "store_down" for "atmostonce.StoreDown".
func reasonLabel(r once.Reason) string {
	var b strings.Builder
	for i, c := range strings.TrimPrefix(string(r), "atmostonce.") {
		if i > 0 && unicode.IsUpper(c) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// Observer is told what the guard does. It cannot change an answer: a panic in
// it is swallowed, and one that does not return within a second, or a tenth of
// the time that is left to the call, is left out until it has.
type Observer interface {
	// Begin is called when something starts, with the context of the call; of what
	// it returns the body's context has the values, and nothing else. The returned
	// function is called once at the end, with what is known then, unless Begin was
	// not waited for.
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

// begin tells of something that starts. It returns the traceparent of the first
// observer that traces, if it is a call, and what tells of the end.
func (g *Guard) begin(ctx context.Context, e Event) (bctx context.Context, traceparent string, end func(Event)) {
	began := time.Now()
	e.Store = g.storeKind
	bctx = ctx
	ends := make([]func(Event), 0, len(g.observers))
	for _, o := range g.observers {
		var t string
		var end func(Event)
		bctx, t, end = o.begin(bctx, e)
		traceparent = cmp.Or(traceparent, t)
		ends = append(ends, end)
	}
	return bctx, traceparent, func(e Event) {
		e.Took, e.Store = time.Since(began), g.storeKind
		g.warn(ctx, e)
		for _, end := range ends {
			end(e)
		}
	}
}
