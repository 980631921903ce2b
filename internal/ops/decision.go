package ops

import (
	"fmt"
	"time"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

// Risk says what a decision about a record means, and what goes wrong if it is
// mistaken: to is what the record becomes; Absent, that it is erased.
func Risk(r store.Record, to store.State) string {
	var says string
	switch to {
	case store.Succeeded:
		says = "You say that the effect took place. It will not happen again: every call of the key gets the result that you give. If it did not take place, it never will."
	case store.Failed:
		says = "You say that the effect did not take place, and never will under this key: every call of the key fails, and is not retried. If it did take place, nobody is told of it."
	case store.Tombstone:
		says = "You say that the effect did not take place, or was undone: the next call of the key has it. If it did take place, it happens twice."
	default:
		says = "You erase what is known of the key. The next call of it runs: if the effect took place, it happens twice."
	}
	if r.State == store.Running {
		says += " It is running now: whoever runs it may have its effect in spite of your decision."
	}
	return says
}

// Entry is what an audit log keeps of one decision. It has no key, input or result.
type Entry struct {
	Time     time.Time   `json:"time"`   // the store's clock
	Event    string      `json:"event"`  // atmostonce.resolved or atmostonce.erased, as the notices are called
	Action   string      `json:"action"` // resolve, correct, reopen, forget or purge
	Digest   string      `json:"digest"`
	Activity string      `json:"activity"`
	From     store.State `json:"from"`
	To       store.State `json:"to"`
	Revision uint64      `json:"revision"` // of the record after the decision

	Namespace  string `json:"namespace,omitempty"`
	WorkflowID string `json:"workflow_id,omitempty"`
	RunID      string `json:"run_id,omitempty"`

	By    string `json:"by"`
	Why   string `json:"why"`
	Force bool   `json:"force,omitempty"`
	Error string `json:"error,omitempty"` // why nothing was decided
}

// NewEntry returns the entry of a decision by which before became after.
func NewEntry(action string, before, after store.Record, by, why string) Entry {
	h, event := before.Info.Holder, "atmostonce.resolved"
	if action == "forget" || action == "purge" {
		event = "atmostonce.erased"
	}
	at := after.Now
	if at.IsZero() { // nothing was decided
		at = before.Now
	}
	return Entry{
		Time: at.UTC(), Event: event, Action: action, Digest: keys.Downstream(before.Key)[:shownDigits],
		Activity: before.Info.Activity, From: before.State, To: after.State, Revision: after.Revision,
		Namespace: h.Namespace, WorkflowID: h.WorkflowID, RunID: h.RunID, By: by, Why: why,
	}
}

// Said is a decision in one line: what was decided about which call, by whom and why.
func (e Entry) Said() string {
	return fmt.Sprintf("%s %s %s: %s → %s (%s: %s)", e.Digest, Text(e.Activity, Short), Text(e.WorkflowID, Short), StateName(e.From), StateName(e.To), Text(e.By, Short), Text(e.Why, Long))
}
