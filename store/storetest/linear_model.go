package storetest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/anishathalye/porcupine"

	"github.com/atmostonce/atmostonce/store"
)

// This file says once more what each verb does to one key, as far as callers can
// see, and without a clock. It is written from the contract of
// [store.Store], not from any store.

// A model is the sequential key. A call without an answer forks it: the call may
// have been applied, or not.
var (
	model = newModel(false)
	// lockedModel is of a store with Harness.LeaseByLock: it may consider the lease
	// of an owner that got no answer to be over.
	lockedModel = newModel(true)
)

func newModel(byLock bool) porcupine.Model {
	nondeterministic := porcupine.NondeterministicModel{
		Init: func() []any { return []any{state{}} },
		Step: func(s, input, output any) (after []any) {
			a := output.(answer)
			if a.silent {
				after = append(after, s)
			}
			for _, t := range s.(state).turns(input.(call)) {
				if byLock && a.silent && t.fence != s.(state).fence {
					t.mortal = true
				}
				if next, ok := t.explain(a); ok {
					after = append(after, next)
				}
			}
			return after
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprint(input, " → ", output) },
		DescribeState:     func(s any) string { return fmt.Sprintf("%+v", s) },
	}
	return nondeterministic.ToModel()
}

// view is what of a record the model explains; fence and revision come beside
// it, since a store is free in the steps by which they rise.
type view struct {
	State         store.State
	Owner         string
	Marked        bool
	By            string
	Outcome, Kept string
	Generation    uint64
}

func viewOf(r store.Record) view {
	v := view{State: r.State, Owner: r.Owner, Marked: r.Marked, By: r.By, Generation: r.Generation}
	if !r.Outcome.IsZero() {
		v.Outcome = show(r.Outcome)
	}
	if r.Kept != nil {
		v.Kept = show(*r.Kept)
	}
	return v
}

// number is a fence or a revision. It is open until an answer reveals it: n or
// more.
type number struct {
	n    uint64
	open bool
}

func (n number) higher() number { return number{n.n + 1, true} }

func (n number) is(told uint64) bool { return told == n.n || n.open && told > n.n }

// state is a key between two calls. It is comparable.
type state struct {
	view
	fence, revision number
	origin          store.Origin
	mortal          bool   // the owner's lease may be over
	brief           bool   // the record may be forgotten
	past            string // the events that answers depend on: "|what nonce state by|" each
}

// turn is one thing that a call may do, and what it then answers.
type turn struct {
	state
	verdict error
}

// explain returns the state after t if t's answer is a.
func (t turn) explain(a answer) (state, bool) {
	s := t.state
	if a.silent {
		return s, true
	}
	if !errors.Is(a.verdict, t.verdict) {
		return s, false
	}
	if s.State == store.Absent {
		return s, a.State == store.Absent
	}
	if a.view != s.view || !s.fence.is(a.fence) || !s.revision.is(a.revision) {
		return s, false
	}
	s.fence, s.revision = number{n: a.fence}, number{n: a.revision}
	return s, true
}

func (s state) turns(c call) []turn {
	all := s.turn(c)
	if s.brief {
		all = append(all, state{fence: s.fence}.turn(c)...)
	}
	for i, t := range all {
		contact := t.revision != s.revision || c.verb == "Acquire" && t.verdict == nil
		all[i].brief = t.brief && !(contact && max(c.bid.TTL, c.resolution.TTL) >= longTTL)
	}
	return all
}

func (s state) turn(c call) []turn {
	switch c.verb {
	case "Acquire":
		return s.acquire(c.bid)
	case "Renew":
		return s.renew(c.bid)
	case "Settle":
		return s.settle(c.bid, c.outcome)
	case "Release":
		return s.release(c.bid)
	case "Takeover":
		return s.takeover(c.bid, c.from)
	case "Resolve":
		return s.resolve(c.from, c.resolution)
	}
	return s.answers(nil)
}

func (s state) answers(verdict error) []turn { return []turn{{s, verdict}} }

func (s state) acquire(b store.Bid) []turn {
	switch {
	case s.State == store.Absent:
		return s.granted(b, store.First)
	case s.spent(b.Owner):
		return s.answers(store.ErrSuperseded)
	case s.State == store.Tombstone:
		return s.replaced().granted(b, store.First)
	case s.State == store.Running && s.Owner != b.Owner && s.mortal:
		marked := s.to(store.InDoubt)
		marked.Marked = true
		if s.Kept != "" {
			marked = s.adopted()
		}
		return []turn{{s, nil}, {marked, nil}}
	}
	return s.answers(nil)
}

// renew may leave the revision as it is: a lock needs no writing.
func (s state) renew(b store.Bid) []turn {
	switch {
	case s.State == store.Absent:
		return s.answers(store.ErrGone)
	case s.owned(b) && s.State == store.Running:
		return []turn{{s, nil}, {s.to(store.Running), nil}}
	case s.owned(b) && s.Marked:
		return s.to(store.Running).answers(nil)
	}
	return s.answers(store.ErrSuperseded)
}

func (s state) settle(b store.Bid, o store.Outcome) []turn {
	late := o.State == store.Succeeded
	switch {
	case late && s.happened(store.TurnConflict, b.Owner):
		return s.answers(store.ErrConflict)
	case s.heard(b.Owner, o.State):
		return s.answers(nil)
	case s.State == store.Absent:
		s.Owner, s.origin, s.fence, s.brief = b.Owner, store.First, number{n: max(b.Fence, 1)}, b.TTL < longTTL
		return s.noted(store.TurnForgotten, b.Owner).settled(o).answers(nil)
	case !s.owned(b) && !late:
		return s.answers(store.ErrSuperseded)
	case !s.owned(b):
		return s.conflict(b, o)
	}
	switch s.State {
	case store.Succeeded, store.Failed:
		switch {
		case s.By == "", s.By == store.BySuperseded && !late, s.By == store.ByReconcile && s.State == o.State:
			return s.answers(nil)
		case late:
			return s.conflict(b, o)
		}
		return s.answers(store.ErrSuperseded)
	case store.Tombstone:
		if !late {
			return s.answers(store.ErrSuperseded)
		}
	case store.InDoubt, store.Pending:
		declared := s.State == store.InDoubt && !s.Marked
		if s.State == store.Pending && o.State == store.Pending || declared && (o.State == store.InDoubt || o.State == store.Pending) {
			return s.answers(nil)
		}
	}
	if s.Kept != "" && (o.State == store.Failed || o.State == store.InDoubt) {
		return s.adopted().answers(nil)
	}
	return s.settled(o).answers(nil)
}

// conflict keeps the success of a claim that was superseded.
func (s state) conflict(b store.Bid, o store.Outcome) []turn {
	s = s.noted(store.TurnConflict, b.Owner)
	s.revision = s.revision.higher()
	switch s.State {
	case store.Tombstone, store.InDoubt:
		s = s.replaced()
		s.Owner = b.Owner
		s = s.settled(o)
	case store.Running, store.Pending:
		if s.Kept == "" {
			s.Kept = show(o)
		}
	}
	return s.answers(store.ErrConflict)
}

func (s state) release(b store.Bid) []turn {
	switch {
	case s.State == store.Absent:
		s.Owner, s.origin, s.fence = b.Owner, store.First, s.fence.higher()
		return s.to(store.Tombstone).answers(nil)
	case !s.owned(b):
		if s.happened(store.TurnReleased, b.Owner) {
			return s.answers(nil)
		}
		return s.answers(store.ErrSuperseded)
	case s.State == store.Tombstone, s.By == store.BySuperseded, s.happened(store.TurnResolved, b.Owner, by(store.Succeeded, store.BySuperseded)):
		return s.answers(nil)
	case s.State == store.Succeeded, s.State == store.Failed:
		return s.answers(store.ErrSuperseded)
	case s.Kept != "":
		return s.adopted().answers(nil)
	case s.origin == store.First, s.origin == store.Clean && b.Began:
		return s.to(store.Tombstone).answers(nil)
	case s.State == store.InDoubt && !s.Marked:
		return s.answers(nil)
	}
	return s.to(store.InDoubt).answers(nil)
}

func (s state) takeover(b store.Bid, from store.Record) []turn {
	switch {
	case s.State == store.Running && s.Owner == b.Owner:
		return s.answers(nil)
	case !s.readAs(from):
		return s.answers(store.ErrMoved)
	case s.spent(b.Owner), s.Owner == b.Owner:
		return s.answers(store.ErrSuperseded)
	case s.State != store.InDoubt && s.State != store.Pending:
		return s.answers(store.ErrMoved)
	case b.Clean:
		return s.replaced().granted(b, store.Clean)
	}
	return s.replaced().granted(b, store.Taken)
}

func (s state) resolve(from store.Record, r store.Resolution) []turn {
	if s.happened(decision, r.ID) {
		return s.answers(nil)
	}
	open := r.Force
	switch s.State {
	case store.Absent:
		open = false
	case store.Tombstone:
		open = r.Erase
	case store.Succeeded, store.Failed:
		open = true
	case store.InDoubt, store.Pending:
		open = open || !r.Erase
	}
	if !s.readAs(from) || !open {
		return s.answers(store.ErrMoved)
	}
	what := store.TurnResolved
	if r.Erase {
		what = store.TurnErased
	}
	if s.State == store.Succeeded && r.To == store.Tombstone {
		s.Generation++
	}
	o := r.Outcome
	o.State = r.To
	s = s.noted(what, s.Owner).noted(decision, r.ID).settled(o)
	s.By = r.By
	return s.answers(nil)
}

// granted gives the key to b.
func (s state) granted(b store.Bid, origin store.Origin) []turn {
	s.brief = b.TTL < longTTL && (s.brief || s.State == store.Absent)
	s = s.to(store.Running)
	s.Owner, s.origin, s.mortal, s.Outcome = b.Owner, origin, b.Lease < longLease, ""
	s.fence = s.fence.higher()
	return s.answers(nil)
}

// settled is the key after an outcome of its owner, or a resolution.
func (s state) settled(o store.Outcome) state {
	s = s.to(o.State)
	if o.State == store.Succeeded || o.State == store.Failed {
		s.Outcome, s.Kept = show(o), ""
	}
	if o.State == store.InDoubt && o.Data != nil {
		s.Outcome = show(o)
	}
	return s
}

// adopted is the key after its run came to nothing beside a success that was
// kept.
func (s state) adopted() state {
	s = s.to(store.Succeeded)
	s.Outcome, s.Kept, s.By = s.Kept, "", store.BySuperseded
	return s
}

// to is the key after a write.
func (s state) to(next store.State) state {
	s.State, s.Marked, s.By = next, false, ""
	s.revision = s.revision.higher()
	if next == store.Tombstone {
		s.Outcome, s.Kept = "", ""
	}
	return s
}

// replaced notes that the owner is to lose the key. A resolution has said so
// already.
func (s state) replaced() state {
	switch {
	case s.By != "":
		return s
	case s.State == store.Tombstone:
		return s.noted(store.TurnReleased, s.Owner)
	}
	return s.noted(store.TurnTakenOver, s.Owner)
}

// decision stands beside the Event constants.
const decision = "decision"

func (s state) noted(what, nonce string) state {
	s.past += fmt.Sprintf("|%s %s %s", what, nonce, by(s.State, s.By))
	return s
}

// by is a state and who wrote it, where it was not the owner, as past has them.
func by(state store.State, who string) string { return fmt.Sprintf("%s %s|", state, who) }

// happened reports whether that was noted, in one of the states if any is given.
func (s state) happened(what, nonce string, in ...string) bool {
	entry := "|" + what + " " + nonce + " "
	found := len(in) == 0 && strings.Contains(s.past, entry)
	for _, before := range in {
		found = found || strings.Contains(s.past, entry+before)
	}
	return found
}

// heard reports whether the claim of that nonce had settled to that state before
// somebody else did.
func (s state) heard(nonce string, to store.State) bool {
	for _, what := range []string{store.TurnResolved, store.TurnErased, store.TurnTakenOver} {
		before := []string{by(store.Succeeded, ""), by(store.Failed, ""), by(to, ""), by(to, store.ByReconcile)}
		if to != store.Succeeded {
			before = append(before, by(store.Succeeded, store.BySuperseded))
		}
		if s.happened(what, nonce, before...) {
			return true
		}
	}
	return false
}

// spent reports whether the claim of that nonce has come to its end.
func (s state) spent(nonce string) bool {
	return s.State == store.Tombstone && s.Owner == nonce || strings.Contains(s.past, " "+nonce+" ")
}

func (s state) owned(b store.Bid) bool {
	return s.State != store.Absent && s.Owner == b.Owner && (b.Fence == 0 || s.fence == number{n: b.Fence})
}

// readAs reports whether the key is as a caller read it, in from.
func (s state) readAs(from store.Record) bool {
	return s.State == from.State && s.fence == number{n: from.Fence} && s.revision == number{n: from.Revision}
}
