package ops

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// Moment is something that happened to a record.
type Moment struct {
	At time.Time `json:"at"`
	// What is one of claimed, in_doubt, settled and the constants of store.Turn.
	What string `json:"what"`
	Text string `json:"text"` // in words, with what strangers wrote in it as it is
}

// moments returns the life of a record, the oldest first.
func moments(r store.Record) (all []Moment) {
	add := func(at time.Time, what, format string, args ...any) {
		if !at.IsZero() {
			all = append(all, Moment{At: at, What: what, Text: fmt.Sprintf(format, args...)})
		}
	}
	if r.Info.Holder != (store.Holder{}) { // which an erasure removes
		add(r.Claimed, "claimed", "claimed by %s", holder(r.Info.Holder))
	}
	for _, turn := range r.History {
		add(turn.At, turn.What, "%s", turned(turn))
	}
	switch {
	case r.State == store.InDoubt && r.Marked:
		add(r.Doubted, "in_doubt", "in doubt: nothing was heard of its owner")
	case r.State == store.InDoubt:
		add(r.Doubted, "in_doubt", "in doubt: its owner reported that it does not know")
	case r.State == store.Pending:
		add(r.Settled, "pending", "pending: its end is to be reported from outside")
	case (r.State == store.Succeeded || r.State == store.Failed) && r.By == "":
		add(r.Settled, "settled", "%s, as its owner reported", r.State)
	case (r.State == store.Succeeded || r.State == store.Failed) && r.By == store.BySuperseded:
		add(r.Settled, "settled", "%s, as an owner reported that had been superseded", r.State)
	case r.State == store.Tombstone && r.By == "":
		add(r.Settled, "given_back", "given back: the owner reported that nothing happened")
	}
	slices.SortStableFunc(all, func(a, b Moment) int { return a.At.Compare(b.At) })
	return all
}

// turned says what a turn was.
func turned(t store.Turn) string {
	from := StateName(t.From)
	switch t.What {
	case store.TurnReleased:
		return "given back, and claimed by another call"
	case store.TurnTakenOver:
		return "taken over from an owner that was " + from
	case store.TurnConflict:
		return "a superseded owner reported success, too: the effect may have happened twice"
	case store.TurnForgotten:
		return "the store had lost the claim when its owner reported"
	case store.TurnErased:
		return "erased, when it was " + from + decidedBy(t)
	case store.TurnResolved:
		return "decided, when it was " + from + decidedBy(t)
	}
	return t.What
}

// decidedBy says who made a decision, and why.
func decidedBy(t store.Turn) string {
	var b strings.Builder
	switch {
	case t.Who != "":
		b.WriteString(", by " + t.Who)
	case t.By == store.ByReconcile:
		b.WriteString(", by the Reconcile function")
	case t.By == store.ByOperator:
		b.WriteString(", by an operator")
	}
	if t.Why != "" {
		b.WriteString(": " + t.Why)
	}
	return b.String()
}

// holder names a call.
func holder(h store.Holder) string {
	var b strings.Builder
	switch {
	case h.WorkflowID != "":
		fmt.Fprintf(&b, "workflow %s, run %s, attempt %d", h.WorkflowID, h.RunID, h.Attempt)
	case h.ActivityID != "":
		fmt.Fprintf(&b, "activity %s, run %s, attempt %d", h.ActivityID, h.ActivityRunID, h.Attempt)
	default:
		fmt.Fprintf(&b, "call %s", h.ActivityRunID)
	}
	if h.Worker != "" {
		b.WriteString(", on " + h.Worker)
	}
	return b.String()
}
