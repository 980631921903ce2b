package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// situation is what a guard would decide on. The limits of time are left out: a
// call that is late only looks, and changes nothing.
func (m *model) situation(a *attempt, r store.Record) situation {
	h := a.bid.Info.Holder
	c := Identity{Holder: store.Holder{RunID: h.RunID, ActivityID: h.ActivityID, OriginalRunID: h.OriginalRunID, Occurrence: h.Occurrence}}
	return situation{
		policy: m.policy, record: r, nonce: a.bid.Owner, match: a.bid.Info.Match,
		retry: c.isRetryOf(r), sameCall: c.isSameCall(r),
		settleDelay: modelDelay, holdRetry: maxRetry, timeLeft: time.Hour, scheduleLeft: -1,
		last: m.made[a.call] == m.most[a.call] && !m.unknown, unsure: m.unknown,
	}
}

// obey carries out what is decided for a that met r.
func (m *model) obey(a *attempt, r store.Record) {
	switch d := m.decide(m.situation(a, r)); d.do {
	case run:
		a.phase, a.origin, a.bid.Began, a.bid.Fence = inBody, store.First, true, r.Fence
		if r.Owned(a.bid.Owner) {
			a.origin = r.Origin
			if r.Fence <= m.fence {
				m.breaks("fence %d was granted after %d", r.Fence, m.fence)
			}
			m.fence = r.Fence
		}
		m.grants++
		a.granted, a.epoch = m.grants, m.epoch
	case replay:
		a.phase = over
		m.replayed(a, r)
	case refuse:
		a.phase, a.silent = over, true
		if d.retryable {
			m.attemptOf(a.call)
		}
	case await:
		a.phase = claiming
	case takeOver:
		a.phase, a.from = taking, r
		if m.policy.InDoubt == once.Resume && r.Info.Holder.RunID != a.bid.Info.Holder.RunID {
			m.breaks("call %d goes on with what %s began", a.call, r.Info.Holder.RunID)
		}
	case ask:
		a.phase, a.from = asking, r
	}
}

// end records what a's body returned, and answers Temporal.
func (m *model) end(a *attempt, f fate) {
	switch f {
	case unheard:
		m.write(a)
	case early:
		m.conclude(a, store.Record{})
	default:
		r := m.write(a)
		a.phase = over
		m.conclude(a, r)
	}
}

// write records what a's body returned.
func (m *model) write(a *attempt) store.Record {
	verdict := a.verdict
	if verdict == retDoubt {
		verdict = m.unsure
	}
	if verdict == retLock && a.origin == store.Taken && !m.locksAll {
		// It cannot speak for the runs before it, as Release cannot.
		verdict = retDoubt
	}
	o := store.Outcome{Data: []byte(a.bid.Owner)}
	switch verdict {
	case retUnlock, retFinal:
		r, _ := m.store.Release(context.Background(), a.bid)
		return r
	case retOK:
		o.State = store.Succeeded
	case retLock:
		o.State = store.Failed
	default:
		o = store.Outcome{State: store.InDoubt}
	}
	r, _ := m.store.Settle(context.Background(), a.bid, o)
	a.wrote = o.State
	return r
}

// conclude answers Temporal for a body that returned; r is what its end was
// written to, if it was.
func (m *model) conclude(a *attempt, r store.Record) {
	switch {
	case a.silent:
		return
	case a.verdict == retOK:
	case r.State == store.Succeeded:
		m.replayed(a, r)
	case a.verdict == retLock && a.origin != store.Taken:
	case a.verdict == retFinal && a.origin == store.Taken: // the doubt stays, the call ends
	case (a.verdict == retUnlock || a.verdict == retFinal) && a.origin != store.Taken:
		for _, other := range m.attempts {
			if other.call == a.call && other.epoch == a.epoch && (other.request == landed || other.request == underway && !other.barred) {
				m.breaks("call %d was told that nothing happened", a.call)
			}
		}
		if a.verdict == retUnlock {
			m.attemptOf(a.call)
		}
	default:
		m.attemptOf(a.call)
	}
	a.silent = true
}

// replayed answers a with the outcome of r.
func (m *model) replayed(a *attempt, r store.Record) {
	a.silent = true
	if r.By == store.ByOperator {
		return // it is his word
	}
	by := slices.IndexFunc(m.attempts, func(o *attempt) bool { return o.bid.Owner == string(r.Outcome.Data) })
	switch {
	case by < 0:
		m.breaks("call %d was served an outcome that nobody recorded, of a record %s", a.call, r.State)
	case r.By != store.ByReconcile && m.attempts[by].wrote != r.State:
		m.breaks("call %d was served %s, but attempt %d recorded %q", a.call, r.State, by, m.attempts[by].wrote)
	case r.State == store.Succeeded && m.attempts[by].request != landed:
		m.breaks("call %d was served a success without an effect", a.call)
	}
}

// effect returns an attempt that had the effect; negative if none had.
func (m *model) effect() int {
	return slices.IndexFunc(m.attempts, func(a *attempt) bool { return a.request == landed })
}

// checkEffects: a run beside or after an effect is a takeover that the policy
// allows.
func (m *model) checkEffects() {
	twice := m.policy.InDoubt == once.Resume || m.policy.InDoubt == once.Rerun
	for i, a := range m.attempts {
		for j, b := range m.attempts {
			if i != j && a.request == landed && b.request == landed && a.granted < b.granted && a.epoch == b.epoch &&
				(!twice || b.origin != store.Taken) {
				m.breaks("attempts %d and %d both had the effect", i, j)
			}
		}
	}
}

// checkRecord: the record says nothing that is not so.
func (m *model) checkRecord() {
	r := m.load()
	success := func(o store.Outcome) {
		by := slices.IndexFunc(m.attempts, func(a *attempt) bool { return a.bid.Owner == string(o.Data) })
		if by < 0 || m.attempts[by].request != landed {
			m.breaks("a success is recorded without its effect")
		}
	}
	for i := range m.decided {
		id := fmt.Sprint("operator", i)
		if !slices.ContainsFunc(r.History, func(e store.Turn) bool { return e.ID == id && e.Who == "ann" || e.ID == id && m.epoch > 0 }) {
			m.breaks("the decision %s is not in the history", id)
		}
	}
	switch {
	case r.By == store.ByOperator:
	case r.State == store.Succeeded:
		success(r.Outcome)
	case r.Kept != nil:
		success(*r.Kept)
	case m.epoch > 0: // what was known before is erased
	case (r.State == store.Tombstone || r.State == store.Failed) && m.effect() >= 0:
		m.breaks("the record is %s, but attempt %d had the effect", r.State, m.effect())
	}
}

// checkRest makes one more call once nothing else can happen: it ends in a
// definite answer.
func (m *model) checkRest() {
	m.made[0] = m.most[0] - 1
	m.attemptOf(0)
	last := len(m.attempts) - 1
	a := m.attempts[last]
	m.rules.faults = 0
	for range 20 {
		switch {
		case a.phase == over:
			return
		case a.phase == inBody:
			if by := m.effect(); by >= 0 && a.origin != store.Taken && m.attempts[by].epoch == m.epoch {
				m.breaks("a further call runs again what attempt %d had done", by)
			}
			return
		}
		// Time passes before the call looks again.
		next := m.moves()
		m.step(next[max(0, slices.IndexFunc(next, func(x move) bool { return x.act != doClaim }))])
	}
	m.breaks("a further call gets no answer: %s, record %s", a.phase, m.load().State)
}
