package ops

import (
	"time"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// View is a record as an operator reads it. Its texts are as the record has them:
// [Text] makes them harmless for a terminal, a template for a page, [JSON] for JSON.
// Times are the store's; AgeSeconds counts from Since to the reading of the record.
type View struct {
	Digest string      `json:"digest"`     // as errors, logs and spans show it
	Callee string      `json:"callee_key"` // what the callee was given as idempotency key: search there for it
	Key    string      `json:"key"`
	State  store.State `json:"state"`
	Since  time.Time   `json:"since,omitzero"`
	// AgeSeconds is how long the record has been in its state.
	AgeSeconds float64 `json:"age_seconds"`

	Activity string `json:"activity"`
	Function bool   `json:"function,omitempty"` // it is no activity, but a guarded function
	// Holder is the call that has the key, or had it last.
	Holder store.Holder `json:"holder,omitzero"`
	Trace  string       `json:"trace,omitempty"` // the W3C trace ID of the holder's span

	Claimed  time.Time `json:"claimed,omitzero"`
	LeaseEnd time.Time `json:"lease_end,omitzero"`
	Deadline time.Time `json:"deadline,omitzero"`
	Doubted  time.Time `json:"doubted,omitzero"`
	Settled  time.Time `json:"settled,omitzero"`
	Expires  time.Time `json:"expires,omitzero"` // zero: it is remembered for good
	// MayActUntil is until when the last owner may still have its effect; zero where
	// that is over, or the owner runs. Until then nobody can know that it did not
	// happen.
	MayActUntil time.Time `json:"may_act_until,omitzero"`

	Marked   bool   `json:"marked,omitempty"` // in doubt because nobody heard of the owner
	By       string `json:"by,omitempty"`     // who wrote the state, where it was not the owner
	Author   string `json:"author,omitempty"` // the same in words, of what is settled
	Revision uint64 `json:"revision"`
	Fence    uint64 `json:"fence"`
	// ResultBytes is the size of the recorded result, failure or cause of the doubt.
	ResultBytes int    `json:"result_bytes"`
	Missing     string `json:"missing,omitempty"` // why the result could not be kept

	History []Moment `json:"history"`
	Next    []string `json:"next"` // what comes next, a sentence each
	Command string   `json:"command,omitempty"`

	now time.Time
}

// NewView returns r as it is to be read. settleDelay is the guard's; 0: its default. p
// is the policy of r's activity; the zero value says that it is not known.
func NewView(r store.Record, settleDelay time.Duration, p once.Policy) View {
	if settleDelay == 0 {
		settleDelay = DefaultSettleDelay
	}
	h := r.Info.Holder
	callee := keys.Downstream(r.Key)
	v := View{
		Digest: callee[:shownDigits], Callee: callee, Key: r.Key, State: r.State, Since: r.Since(),
		Activity: r.Info.Activity, Function: IsFunction(r), Holder: h, Trace: traceID(r.Info.Trace),
		Claimed: r.Claimed, LeaseEnd: r.LeaseEnd, Deadline: r.Deadline, Doubted: r.Doubted, Settled: r.Settled, Expires: r.Expires,
		Marked: r.Marked, By: r.By, Revision: r.Revision, Fence: r.Fence, ResultBytes: len(r.Outcome.Data), Missing: r.Outcome.Missing,
		now: r.Now,
	}
	if !v.Since.IsZero() {
		v.AgeSeconds = max(0, r.Now.Sub(v.Since).Seconds())
	}
	if until := engine.MayActUntil(r, settleDelay); (r.State == store.InDoubt || r.State == store.Pending) && r.Now.Before(until) {
		v.MayActUntil = until
	}
	if r.State == store.Succeeded || r.State == store.Failed {
		v.Author = engine.Author(r)
	}
	v.History, v.Next, v.Command = moments(r), next(v, p), command(v)
	return v
}

// DefaultSettleDelay is the default of the guards' Options.SettleDelay.
const DefaultSettleDelay = 30 * time.Second

// shownDigits is how many digits of a digest errors, logs and spans show.
const shownDigits = 16

// Age is AgeSeconds as people say it.
func (v View) Age() string { return Age(time.Duration(v.AgeSeconds * float64(time.Second))) }

// Ago is how long before the reading of the record t was, as people say it; "in 3m"
// where it is yet to come, "" for the zero time.
func (v View) Ago(t time.Time) string {
	switch {
	case t.IsZero():
		return ""
	case t.After(v.now):
		return "in " + Age(t.Sub(v.now)+time.Second-1)
	}
	return Age(v.now.Sub(t)) + " ago"
}

// StateName is a state as people read it: "in doubt", and "free" for a tombstone.
func StateName(s store.State) string {
	switch s {
	case store.InDoubt:
		return "in doubt"
	case store.Tombstone:
		return "free"
	case store.Absent:
		return "no record"
	}
	return string(s)
}

// Subject is the holder in a word: the ID of its workflow, or of its standalone activity, or
// the process of a function.
func (v View) Subject() string {
	switch h := v.Holder; {
	case h.WorkflowID != "":
		return h.WorkflowID
	case h.ActivityID != "":
		return h.ActivityID
	default:
		return h.Worker
	}
}

// traceID returns the ID in a W3C traceparent; "" if it is none.
func traceID(parent string) string {
	const from, digits = 3, 32
	if len(parent) < from+digits {
		return ""
	}
	id := parent[from : from+digits]
	for _, c := range id {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return ""
		}
	}
	return id
}

// IsFunction reports whether r is of a guarded function, and not of an activity.
func IsFunction(r store.Record) bool {
	h := r.Info.Holder
	return h.WorkflowID == "" && h.ActivityID == "" && h.ActivityRunID != ""
}
