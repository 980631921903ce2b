package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

// State is what a record says about the act. The zero value is Absent.
type State string

// The states of a record.
const (
	Absent    State = ""
	Running   State = "running"   // owned; the act may be happening
	InDoubt   State = "in_doubt"  // nobody knows whether it happened
	Pending   State = "pending"   // started; its end will be reported from outside
	Succeeded State = "succeeded" // it happened
	Failed    State = "failed"    // it did not happen, for good
	Tombstone State = "tombstone" // given back: it did not happen
)

// Record is what a store knows about one key. All times are the store's.
type Record struct {
	Key      string    `json:"key"`
	State    State     `json:"state"`
	Owner    string    `json:"owner"`    // nonce of the claim that holds or last held the key
	Fence    uint64    `json:"fence"`    // orders grants of this key; never goes back while the record is remembered
	Revision uint64    `json:"revision"` // raised by every write
	Now      time.Time `json:"-"`        // the store's clock when it answered
	// Generation is how often a success under this key was reopened: how many effects
	// came before, of which each was to happen. Only a [Resolution] of a success to
	// Tombstone raises it, an erasure included. It never goes back while the record is
	// remembered.
	Generation uint64 `json:"generation,omitempty"`

	LeaseEnd time.Time `json:"lease_end,omitzero"` // when a running claim stops being presumed alive
	Claimed  time.Time `json:"claimed,omitzero"`   // when Owner got the key
	Deadline time.Time `json:"deadline,omitzero"`  // when Owner's attempt ends for Temporal
	Doubted  time.Time `json:"doubted,omitzero"`   // when the record went InDoubt
	Settled  time.Time `json:"settled,omitzero"`   // when it last became Succeeded, Failed, Pending or Tombstone
	Expires  time.Time `json:"expires,omitzero"`   // until when the record is remembered at least; zero: forever

	// Marked is set while InDoubt because the lease was over, not because the
	// owner said so: the owner's next Renew takes it back.
	Marked bool `json:"marked,omitempty"`
	// Origin says how Owner came by the key.
	Origin Origin `json:"origin"`
	// Forgotten is set by a Settle that found no record: the store lost the
	// claim, and may have granted the key to others meanwhile.
	Forgotten bool `json:"forgotten,omitempty"`
	// By names who wrote the state when it was not the owner: Resolution.By, or
	// BySuperseded for a success that was Kept.
	By string `json:"by,omitempty"`

	Info    Info     `json:"info"`             // of Owner's bid
	Outcome Outcome  `json:"outcome,omitzero"` // of Succeeded and Failed; of InDoubt if the owner said why
	Kept    *Outcome `json:"kept,omitempty"`   // a superseded owner's success, while another one runs
	History []Turn   `json:"history,omitempty"`
}

// Origin says how a claim came by its key.
type Origin string

// The origins of a claim.
const (
	First Origin = "first" // nothing had happened before
	Taken Origin = "taken" // taken over; an earlier run is still in doubt
	Clean Origin = "clean" // taken over; the earlier runs are known not to have happened
)

// Info describes a claim. Stores keep it and do not look inside, [Query] excepted.
type Info struct {
	Activity string `json:"activity,omitempty"`
	Input    string `json:"input,omitempty"` // digest of the whole input
	Match    string `json:"match,omitempty"` // what a duplicate must agree on
	// Ledger names what knows whether the effect took place, if anything does.
	Ledger string `json:"ledger,omitempty"`
	Trace  string `json:"trace,omitempty"` // W3C traceparent of the owner's span
	Holder Holder `json:"holder,omitzero"`
}

// Holder is the activity attempt that makes a claim.
type Holder struct {
	Namespace     string    `json:"namespace,omitempty"`
	WorkflowID    string    `json:"workflow_id,omitempty"`
	RunID         string    `json:"run_id,omitempty"`
	ActivityID    string    `json:"activity_id,omitempty"`
	ActivityRunID string    `json:"activity_run_id,omitempty"`
	Local         bool      `json:"local,omitempty"`
	Scheduled     time.Time `json:"scheduled,omitzero"` // by Temporal's clock; equal in all attempts
	Attempt       int32     `json:"attempt,omitempty"`
	Worker        string    `json:"worker,omitempty"`
	// OriginalRunID and Occurrence name the call across resets of its workflow,
	// together with [Info]'s Activity and Input. Both are zero where the call
	// came without the guard's header.
	OriginalRunID string `json:"original_run_id,omitempty"`
	Occurrence    int32  `json:"occurrence,omitempty"`
}

// Outcome is what came of an act.
type Outcome struct {
	// State is Succeeded, Failed, InDoubt or Pending.
	State State `json:"state,omitempty"`
	// Data is the encoded result or failure; nil is a result too. Of InDoubt it is
	// the encoded error after which the owner did not know, or nil.
	Data []byte `json:"data,omitempty"`
	// Context says how Data was encoded; the guard reads it.
	Context string `json:"context,omitempty"`
	// Missing, if not empty, says why Data could not be kept.
	Missing string `json:"missing,omitempty"`
	// InLedger is set where the ledger that [Info] names has the outcome, too.
	InLedger bool `json:"in_ledger,omitempty"`
}

// IsZero reports whether o says nothing.
func (o Outcome) IsZero() bool {
	return o.State == "" && o.Data == nil && o.Context == "" && o.Missing == "" && !o.InLedger
}

// Turn is one turn in a record's life, other than the plain run and settle.
type Turn struct {
	What  string    `json:"what"`            // one of the Turn constants
	At    time.Time `json:"at"`              // the store's clock
	From  State     `json:"from,omitempty"`  // the state before
	Owner string    `json:"owner,omitempty"` // the nonce that the event is about
	Fence uint64    `json:"fence,omitempty"` // and its fence
	By    string    `json:"by,omitempty"`    // what kind of decision it was: Resolution.By
	Why   string    `json:"why,omitempty"`   // and why
	ID    string    `json:"id,omitempty"`    // nonce of the resolution
	// FromBy is Record.By before a resolution: who had written From, where it was
	// not Owner.
	FromBy string `json:"from_by,omitempty"`
	Who    string `json:"who,omitempty"` // the person who decided
}

// What a Turn says.
const (
	TurnReleased  = "released"   // Owner gave the key back, and another claim followed
	TurnTakenOver = "taken_over" // Owner was superseded by a Takeover
	TurnConflict  = "conflict"   // Owner succeeded after it was superseded
	TurnResolved  = "resolved"   // a Resolve overrode Owner
	TurnForgotten = "forgotten"  // the store had no record of Owner's claim when it settled
	TurnErased    = "erased"     // a Resolve erased the record; earlier events have lost Who and Why
)

// Who decided, where it was not the owner.
const (
	ByOperator   = "operator"
	ByReconcile  = "reconcile"
	BySuperseded = "superseded"
)

// maxHistory bounds a record's history. The oldest event that a later one repeats
// is dropped first, then the oldest release, then the oldest event.
const maxHistory = 64

// Bid is a claim's side of every call.
type Bid struct {
	Key   string
	Owner string // nonce: unique to one claim, never used again
	Fence uint64 // Record.Fence of the grant; 0 while unknown
	// Lease is how long the claim is presumed alive without a Renew.
	Lease time.Duration
	// TTL is how long from now the record must at least be remembered.
	TTL time.Duration
	// Deadline is how long from now the attempt may still run; 0 if unlimited.
	Deadline time.Duration
	// Began is set once the body was started. Only Release asks.
	Began bool
	// Clean says that the predecessors are known not to have taken effect. Only
	// Takeover asks.
	Clean bool
	Info  Info
}

// Resolution is a decision about a record that no owner made.
type Resolution struct {
	ID string // nonce of the resolution
	// To is Succeeded, Failed, or Tombstone: it did not happen, or may happen
	// again.
	To      State
	Outcome Outcome // of Succeeded and Failed
	// By is ByOperator or ByReconcile. It names nobody, and outlasts an erasure.
	By string
	// Who is the person who decided. An erasure of the record removes it.
	Who, Why string
	TTL      time.Duration
	Force    bool // also while Running; to erase, while InDoubt or Pending too
	// Erase, with To Tombstone, leaves nothing of the record but its key, its fence,
	// the nonces that are spent and a TurnErased, and those no longer than
	// TombstoneTTL, whatever was promised before. It needs no TTL.
	Erase bool
}

// Query selects records. Zero fields select everything.
type Query struct {
	State      State
	Namespace  string
	Activity   string
	WorkflowID string
	// Digest begins the hexadecimal SHA-256 of the key, as errors, logs and spans
	// show it.
	Digest     string
	OlderThan  time.Duration // since the record was claimed
	DoubtedFor time.Duration // since the record went in doubt; selects no other
	// After is the last record of the page before: of records in its state, only
	// those that come after it in the order of [Record.Since] are selected.
	After Record
}

// Matches reports whether q selects r.
func (q Query) Matches(r Record) bool {
	return (q.State == "" || q.State == r.State) &&
		(q.Namespace == "" || q.Namespace == r.Info.Holder.Namespace) &&
		(q.Activity == "" || q.Activity == r.Info.Activity) &&
		(q.WorkflowID == "" || q.WorkflowID == r.Info.Holder.WorkflowID) &&
		(q.Digest == "" || strings.HasPrefix(digest(r.Key), q.Digest)) &&
		(q.OlderThan == 0 || r.Now.Sub(r.Claimed) > q.OlderThan) &&
		(q.DoubtedFor == 0 || r.State == InDoubt && r.Now.Sub(r.Doubted) > q.DoubtedFor) &&
		(q.After.State == Absent || q.After.State == r.State && q.After.Compare(r) < 0)
}

// OnlyState returns the one state that q selects; Absent if it may select several. A
// store that keeps an index goes by it to choose how it lists.
func (q Query) OnlyState() State {
	switch {
	case q.State != Absent:
		return q.State
	case q.DoubtedFor != 0:
		return InDoubt
	}
	return q.After.State
}

// Since is when the record came into its state, by the store's clock.
func (r Record) Since() time.Time {
	switch r.State {
	case Running:
		return r.Claimed
	case InDoubt:
		return r.Doubted
	default:
		return r.Settled
	}
}

// Compare orders records as [Store].List yields those of one open state, for
// [slices.SortFunc]: oldest first by [Record.Since], and by key where they are equally
// old.
func (r Record) Compare(other Record) int {
	return cmp.Or(r.Since().Compare(other.Since()), strings.Compare(r.Key, other.Key))
}

// IsOpen reports whether something may yet come of the record's act: it is running, in
// doubt or pending. What is open must be found without a look at what is settled; see
// [Store].
func (s State) IsOpen() bool {
	return s == Running || s == InDoubt || s == Pending
}

func digest(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// Owned reports whether the bid of that nonce holds the key.
func (r Record) Owned(nonce string) bool {
	return r.State == Running && r.Owner == nonce
}

// clone returns a copy that shares no memory with r.
func (r Record) clone() Record {
	r.Outcome.Data = slices.Clone(r.Outcome.Data)
	r.History = slices.Clone(r.History)
	if r.Kept != nil {
		kept := *r.Kept
		kept.Data = slices.Clone(kept.Data)
		r.Kept = &kept
	}
	return r
}
