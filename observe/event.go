package observe

import (
	"strings"
	"time"
	"unicode"

	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// Kind says what became of a guarded call.
type Kind uint8

// The kinds of Event.
const (
	KindClaim     Kind = iota + 1 // begun; what it becomes is said at its end
	KindExecute                   // the body ran
	KindDuplicate                 // a recorded outcome was replayed
	KindFail                      // the guard refused, or the effect is in doubt
	KindSkip                      // ran unguarded: by the key function's wish, or by the Mode
	KindWait                      // the call kept its slot until another one had ended
	KindNotice                    // something to know that changed no answer; see Event.Notice
)

// String returns the kind in lower case.
func (k Kind) String() string {
	names := [...]string{"", "claim", "execute", "duplicate", "fail", "skip", "wait", "notice"}
	if int(k) >= len(names) {
		return "unknown"
	}
	return names[k]
}

// Event is one decision of the guard. It carries no input, result or plain key;
// Err may: it is what Temporal gets.
type Event struct {
	Kind     Kind
	Notice   Notice // of KindNotice
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
	// Waited says, at the end of a wait, how it ended.
	Waited WaitResult
	// Store is the kind of store; see store.Kind.
	Store string
}

// Outcome says what became of a guarded call: executed, duplicate, failed or
// skipped.
func (e Event) Outcome() string {
	switch e.Kind {
	case KindExecute:
		return "executed"
	case KindDuplicate:
		return "duplicate"
	case KindSkip:
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
// look into: the notice, or in_doubt; "" if there is nothing. See Event.Remedy.
func (e Event) Warning() Notice {
	switch {
	case e.Kind == KindNotice && remedies[e.Notice] != "":
		return e.Notice
	case e.Kind != KindNotice && e.Kind != KindWait && e.Reason == once.InDoubt && !e.Settling:
		return InDoubt
	}
	return ""
}

// Remedy is what to do about the event's Warning, for its key; "" if there is nothing.
func (e Event) Remedy() string {
	if e.Digest == "" {
		return Remedy(e.Warning())
	}
	return strings.ReplaceAll(Remedy(e.Warning()), "DIGEST", e.Digest)
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

const settling = "settling"
