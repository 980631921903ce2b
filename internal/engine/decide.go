package engine

import (
	"time"

	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// situation is all that a decision rests on.
type situation struct {
	policy      once.Policy
	record      store.Record
	nonce       string // of this call's claim
	retry       bool   // the record's owner was an earlier attempt of this very call
	sameCall    bool   // so it was, or this call is that one after a reset of its workflow
	match       string // what a duplicate must agree on
	local       bool
	settleDelay time.Duration
	holdRetry   time.Duration

	timeLeft     time.Duration // until the attempt's deadline less its margin, or until the life of the call has ended
	scheduleLeft time.Duration // until no attempt is possible; unlimited if negative
	last         bool          // no attempt follows this one
	unsure       bool          // nobody says whether one does
	alone        bool          // nobody tries again by himself
	late         bool          // too little of this attempt is left for a body
	stopping     bool          // the life of the call ends
}

// action is what the guard does next.
type action uint8

const (
	run      action = iota + 1 // the claim is ours: start the body
	replay                     // answer with the record's outcome
	refuse                     // answer with an error
	await                      // keep the slot, look again after decision.delay at the latest
	takeOver                   // claim the record in doubt, then run
	ask                        // ask whether the effect took place
)

type decision struct {
	do        action
	reason    once.Reason   // of refuse
	retryable bool          // of refuse
	settling  bool          // of refuse as in doubt: the policy has not decided yet
	delay     time.Duration // of refuse: when the caller should come back; of await
}

const (
	minRetry = time.Second
	maxRetry = 10 * time.Second
	// granule is how exactly the server keeps a retry delay.
	granule = time.Second
)

// decide is the guard's whole policy: what a call does with the record that it met.
// Everything around it only carries out.
func decide(s situation) decision {
	r := s.record
	switch {
	case r.Owned(s.nonce):
		return decision{do: run}
	case r.State == store.Absent, r.State == store.Tombstone:
		// Free, but not claimed: the guard does not claim when it is late.
		return s.comeBack(once.InFlight, minRetry)
	case !s.retry && r.Info.Match != s.match:
		return decision{do: refuse, reason: once.Mismatch}
	case !s.sameCall && s.policy.OnDuplicate == once.Reject && r.State != store.InDoubt:
		return decision{do: refuse, reason: once.Duplicate}
	}
	switch r.State {
	case store.Succeeded, store.Failed:
		return decision{do: replay}
	case store.Running:
		return s.inFlight(r.LeaseEnd.Sub(r.Now))
	case store.Pending:
		if !s.sameCall {
			return s.comeBack(once.InFlight, maxRetry)
		}
		return s.inDoubt(r.Now.Sub(r.Deadline))
	default:
		return s.inDoubt(r.Now.Sub(r.Doubted))
	}
}

// inFlight: the owner is alive as far as anybody knows.
func (s situation) inFlight(lease time.Duration) decision {
	lease = min(max(lease, minRetry), maxRetry)
	waits := s.policy.OnDuplicate == once.Wait || s.mayBeLast(lease)
	if waits && !s.givesWay() && s.timeLeft > 0 {
		return decision{do: await, delay: s.timeLeft}
	}
	return s.refuseRetryably(once.InFlight, lease)
}

// inDoubt: nobody knows whether the effect took place, for so long.
func (s situation) inDoubt(since time.Duration) decision {
	p := s.policy.InDoubt
	if left := s.settleDelay - since; left > 0 && !s.isDecidable() {
		return s.settling(left)
	}
	held, limited := p.HoldTime()
	switch {
	case p == once.Fail, limited && since >= held:
		return decision{do: refuse, reason: once.InDoubt}
	case limited:
		return s.refuseRetryably(once.InDoubt, min(s.holdRetry, held-since))
	case !p.TakesOver(), p == once.Resume && (!s.retry || s.local), p.Ledger() != nil && !s.isDecidable():
		return s.refuseRetryably(once.InDoubt, s.holdRetry)
	case s.late || s.givesWay():
		return s.undecided(minRetry)
	case p.Reconciles(), p.Ledger() != nil:
		return decision{do: ask}
	default:
		return decision{do: takeOver}
	}
}

// isDecidable reports whether the doubt is one that the policy's ledger decides: then the
// last owner has its effect by now, or cannot have it any more, and there is nothing to
// wait for.
func (s situation) isDecidable() bool { return isDecidable(s.policy.InDoubt, s.record) }

func isDecidable(p once.DoubtPolicy, r store.Record) bool {
	l := p.Ledger()
	return l != nil && r.State == store.InDoubt && r.Info.Ledger == l.ID()
}

// settling: a request that the last owner sent may still be on its way, and the
// owner itself may yet heal the record.
func (s situation) settling(left time.Duration) decision {
	switch {
	case s.waitsItself() && left < s.timeLeft:
		return decision{do: await, delay: left}
	case !s.mayBeLast(left):
		return s.undecided(left)
	case s.givesWay():
		return s.undecided(minRetry)
	case left < s.timeLeft:
		return decision{do: await, delay: left}
	case !s.isLast(left):
		return s.undecided(left)
	}
	return decision{do: refuse, reason: once.InDoubt}
}

// waitsItself reports whether the call waits for all that passes by itself, because it
// was asked to, and nobody comes back in its place.
func (s situation) waitsItself() bool {
	return s.alone && s.policy.OnDuplicate == once.Wait && !s.givesWay()
}

// isPassing reports whether a doubt that this call leaves behind ends by itself:
// in the next attempt, which the policy lets take over or ask.
func (s situation) isPassing() bool {
	return s.policy.InDoubt.TakesOver() && !(s.policy.InDoubt == once.Resume && s.local) && !s.mayBeLast(minRetry)
}

// undecided leaves the decision to the next attempt.
func (s situation) undecided(delay time.Duration) decision {
	d := s.refuseRetryably(once.InDoubt, delay)
	d.settling = !s.mayBeLast(minRetry)
	return d
}

// comeBack waits for what will not be decided here: in the slot if no attempt
// follows.
func (s situation) comeBack(reason once.Reason, delay time.Duration) decision {
	if s.mayBeLast(delay) && !s.givesWay() && s.timeLeft > 0 {
		return decision{do: await, delay: s.timeLeft}
	}
	return s.refuseRetryably(reason, delay)
}

// givesWay reports whether the call is left to another worker, because this one
// stops. That takes a further attempt, and a remote activity: to the workflow of a
// local one, each refusal is an attempt that failed; only what this worker does not
// get to is begun anew elsewhere.
func (s situation) givesWay() bool { return s.stopping && !s.local && !s.mayBeLast(minRetry) }

// mayBeLast reports whether this may be the last attempt, if the next one would
// come after delay. Then the call waits in its slot for what it can, and what is
// refused stays retryable.
func (s situation) mayBeLast(delay time.Duration) bool { return s.unsure || s.isLast(delay) }

// isLast reports whether no further attempt would be made after delay.
// The server fails an activity at once whose delay does not fit into what is
// left of ScheduleToClose.
func (s situation) isLast(delay time.Duration) bool {
	return s.last || s.scheduleLeft >= 0 && s.scheduleLeft < delay+2*granule
}

func (s situation) refuseRetryably(reason once.Reason, delay time.Duration) decision {
	if s.scheduleLeft >= 0 {
		delay = min(delay, max(s.scheduleLeft-2*granule, minRetry))
	}
	return decision{do: refuse, reason: reason, retryable: true, delay: max(delay, minRetry)}
}
