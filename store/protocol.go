package store

import (
	"errors"
	"slices"
	"time"
)

// This file is the protocol: what each verb does to a record. Memory and File run it as it
// stands, sqlstore as Transitions; redisstore/lua says the same in Redis. Package storetest
// holds all of them to it.
//
// A transition reports whether it changed the record. One that returns an error
// other than ErrConflict has changed nothing.

// acquire grants the key or leaves the record to its owner. over says that the
// owner of a running record is presumed dead.
func (r *Record) acquire(b Bid, now time.Time, over bool) (changed bool, err error) {
	switch {
	case r.State == Absent:
		r.grant(b, First, now)
		return true, nil
	case r.spent(b.Owner):
		return false, ErrSuperseded
	case r.State == Tombstone:
		r.noteReplaced(now)
		r.grant(b, First, now)
		return true, nil
	case r.State == Running && over && r.Owner != b.Owner:
		if r.Kept != nil {
			r.adopt(now)
		} else {
			r.doubt(now)
			r.Marked = true
		}
		r.extend(now, b.TTL)
		return true, nil
	}
	return r.touch(now, b.TTL), nil
}

func (r *Record) renew(b Bid, now time.Time) (changed bool, err error) {
	switch {
	case r.State == Absent:
		return false, ErrGone
	case !r.owns(b) || r.State != Running && !(r.State == InDoubt && r.Marked):
		return false, ErrSuperseded
	}
	r.State, r.Marked, r.Doubted = Running, false, time.Time{}
	r.Revision++
	if end := now.Add(b.Lease); end.After(r.LeaseEnd) {
		r.LeaseEnd = end
	}
	r.extend(now, b.TTL)
	return true, nil
}

func (r *Record) settle(b Bid, o Outcome, now time.Time) (changed bool, err error) {
	if done, err := r.settledBefore(b, o); done {
		return false, err
	}
	switch {
	case r.State == Absent:
		r.Key, r.Owner, r.Fence = b.Key, b.Owner, max(b.Fence, 1)
		r.Claimed, r.Origin, r.Info, r.Forgotten = now, First, b.Info, true
		if b.Deadline > 0 {
			r.Deadline = now.Add(b.Deadline)
		}
		r.expiresAnew(now, b.TTL)
		r.note(Turn{What: TurnForgotten, At: now, Owner: b.Owner, Fence: b.Fence})
		r.put(o, now)
	case r.owns(b):
		if err = r.settleOwn(b, o, now); errors.Is(err, ErrSuperseded) {
			return false, err
		}
	case o.State != Succeeded:
		return false, ErrSuperseded
	default:
		r.settleLate(b, o, now)
		err = ErrConflict
	}
	r.extend(now, b.TTL)
	return true, err
}

// settledBefore recognizes the repetition of a settle that was already heard.
func (r *Record) settledBefore(b Bid, o Outcome) (done bool, err error) {
	for _, e := range r.History {
		if e.Owner != b.Owner {
			continue
		}
		switch {
		case e.What == TurnConflict && o.State == Succeeded:
			return true, ErrConflict
		case e.heard(o.State):
			return true, nil
		}
	}
	if !r.owns(b) {
		return false, nil
	}
	switch r.State {
	case Succeeded, Failed:
		return saidBefore(r.State, r.By, o.State), nil
	case InDoubt:
		return (o.State == InDoubt || o.State == Pending) && !r.Marked, nil
	default:
		return r.State == o.State, nil
	}
}

// heard reports whether e overrode what the owner had settled to.
func (e Turn) heard(to State) bool {
	switch {
	case e.What != TurnResolved && e.What != TurnErased && e.What != TurnTakenOver:
		return false
	case e.From == Succeeded || e.From == Failed:
		return saidBefore(e.From, e.FromBy, to)
	default:
		return e.From == to
	}
}

// saidBefore reports whether an owner that settles to that state, and finds the
// record settled, says nothing new. What others wrote says nothing of the owner,
// unless it agrees with a reconciliation; an owner beside which a success was kept
// has not succeeded itself.
func saidBefore(settled State, by string, to State) bool {
	switch by {
	case "":
		return true
	case BySuperseded:
		return to != Succeeded
	default:
		return by == ByReconcile && settled == to
	}
}

// settleOwn hears the owner, or what used to be the owner before a Resolve.
func (r *Record) settleOwn(b Bid, o Outcome, now time.Time) error {
	switch r.State {
	case Running, InDoubt, Pending:
		if r.Kept != nil && (o.State == Failed || o.State == InDoubt) {
			r.adopt(now)
			return nil
		}
		r.put(o, now)
		return nil
	case Tombstone:
		if o.State != Succeeded {
			return ErrSuperseded
		}
		r.Info = b.Info // it may have been erased
		r.put(o, now)
		return nil
	default:
		if o.State != Succeeded {
			return ErrSuperseded
		}
		r.conflict(b, now)
		return ErrConflict
	}
}

// settleLate keeps the success of a claim that somebody has superseded.
func (r *Record) settleLate(b Bid, o Outcome, now time.Time) {
	r.conflict(b, now)
	switch r.State {
	case Tombstone, InDoubt:
		r.noteReplaced(now)
		r.Owner, r.Info = b.Owner, b.Info
		r.put(o, now)
	case Running, Pending:
		if r.Kept == nil {
			r.Kept = &o
		}
	}
}

// noteReplaced keeps the owner's nonce from being granted again, unless a
// resolution has done so.
func (r *Record) noteReplaced(now time.Time) {
	what := TurnTakenOver
	if r.State == Tombstone {
		what = TurnReleased
	}
	if r.By == "" {
		r.note(Turn{What: what, At: now, From: r.State, Owner: r.Owner, Fence: r.Fence})
	}
}

func (r *Record) release(b Bid, now time.Time) (changed bool, err error) {
	switch {
	case r.State == Absent:
		r.Key, r.Owner, r.Fence = b.Key, b.Owner, max(b.Fence, 1)
		r.Claimed, r.Origin, r.Info = now, First, b.Info
		if b.Deadline > 0 {
			r.Deadline = now.Add(b.Deadline)
		}
		r.expiresAnew(now, TombstoneTTL)
		r.bury(now)
		return true, nil
	case !r.owns(b):
		for _, e := range r.History {
			if e.What == TurnReleased && e.Owner == b.Owner {
				return false, nil
			}
		}
		return false, ErrSuperseded
	case r.State == Tombstone:
		return false, nil
	case r.State == Succeeded || r.State == Failed:
		if r.By == BySuperseded || slices.ContainsFunc(r.History, func(e Turn) bool {
			return e.Owner == b.Owner && e.What == TurnResolved && e.FromBy == BySuperseded
		}) {
			return false, nil
		}
		return false, ErrSuperseded
	case r.Kept != nil:
		r.adopt(now)
		r.extend(now, b.TTL)
		return true, nil
	case r.Origin == First || r.Origin == Clean && b.Began:
		if len(r.History) == 0 {
			r.expiresAnew(now, TombstoneTTL)
		} else {
			r.extend(now, TombstoneTTL)
		}
		r.bury(now)
		return true, nil
	case r.State == InDoubt && !r.Marked:
		return false, nil
	default:
		r.doubt(now)
		r.extend(now, b.TTL)
		return true, nil
	}
}

func (r *Record) takeover(b Bid, from Record, now time.Time) (changed bool, err error) {
	switch {
	case r.Owned(b.Owner):
		return false, nil
	case !r.isAsIn(from):
		return false, ErrMoved
	case r.spent(b.Owner) || r.Owner == b.Owner:
		return false, ErrSuperseded
	case r.State != InDoubt && r.State != Pending:
		return false, ErrMoved
	}
	r.noteReplaced(now)
	origin := Taken
	if b.Clean {
		origin = Clean
	}
	r.grant(b, origin, now)
	return true, nil
}

func (r *Record) resolve(res Resolution, from Record, now time.Time) (changed bool, err error) {
	for _, e := range r.History {
		if e.ID == res.ID && (e.What == TurnResolved || e.What == TurnErased) {
			return false, nil
		}
	}
	if !r.isAsIn(from) || !res.applies(r.State) {
		return false, ErrMoved
	}
	e := Turn{
		What: TurnResolved, At: now, From: r.State, FromBy: r.By, Owner: r.Owner, Fence: r.Fence,
		By: res.By, Who: res.Who, Why: res.Why, ID: res.ID,
	}
	if r.State == Succeeded && res.To == Tombstone {
		r.Generation++ // the effect took place, and is to take place once more
	}
	switch {
	case res.Erase:
		e.What = TurnErased
		r.erase(now)
		r.expiresAnew(now, TombstoneTTL)
	case res.To == Tombstone:
		r.bury(now)
		r.extend(now, res.TTL)
	default:
		o := res.Outcome
		o.State = res.To
		r.put(o, now)
		r.extend(now, res.TTL)
	}
	r.note(e)
	r.By = res.By
	return true, nil
}

// applies reports whether a record in that state is open to the resolution.
func (res Resolution) applies(to State) bool {
	switch to {
	case Succeeded, Failed:
		return true
	case InDoubt, Pending:
		return !res.Erase || res.Force
	case Running:
		return res.Force
	default:
		return to == Tombstone && res.Erase
	}
}

// erase leaves a tombstone, and what the protocol needs of the history. Earlier
// erasures keep what was said of them.
func (r *Record) erase(now time.Time) {
	r.bury(now)
	r.Deadline, r.Forgotten, r.Info = time.Time{}, false, Info{}
	for i := range r.History {
		if e := &r.History[i]; e.What != TurnErased {
			e.Who, e.Why = "", ""
		}
	}
}

// spent reports whether the claim of that nonce has come to its end, so that a
// delayed duplicate of its first call must not revive it.
func (r *Record) spent(nonce string) bool {
	if r.State == Tombstone && r.Owner == nonce {
		return true
	}
	for _, e := range r.History {
		if e.Owner == nonce {
			return true
		}
	}
	return false
}

func (r *Record) owns(b Bid) bool {
	return r.State != Absent && r.Owner == b.Owner && (b.Fence == 0 || b.Fence == r.Fence)
}

// isAsIn reports whether the record has not been written since it was read. A
// record that was forgotten and made anew has another fence.
func (r *Record) isAsIn(from Record) bool {
	return r.State == from.State && r.Revision == from.Revision && r.Fence == from.Fence
}

func (r *Record) grant(b Bid, origin Origin, now time.Time) {
	if r.State == Absent {
		r.expiresAnew(now, b.TTL)
	} else {
		r.extend(now, b.TTL)
	}
	r.Key, r.State, r.Owner = b.Key, Running, b.Owner
	// In microseconds of the store's clock, so that a fence also rises across
	// the expiry of a record.
	r.Fence = max(r.Fence+1, uint64(now.UnixMicro()))
	r.Revision++
	r.LeaseEnd, r.Claimed = now.Add(b.Lease), now
	r.Deadline, r.Doubted, r.Settled = time.Time{}, time.Time{}, time.Time{}
	if b.Deadline > 0 {
		r.Deadline = now.Add(b.Deadline)
	}
	r.Marked, r.Origin, r.Forgotten, r.By = false, origin, false, ""
	r.Info, r.Outcome = b.Info, Outcome{}
}

func (r *Record) put(o Outcome, now time.Time) {
	if o.State == InDoubt {
		r.doubt(now)
		if len(o.Data) > 0 {
			r.Outcome = Outcome{State: InDoubt, Data: o.Data, Context: o.Context}
		}
		return
	}
	r.State, r.Marked, r.By = o.State, false, ""
	r.Revision++
	r.LeaseEnd, r.Doubted, r.Settled = time.Time{}, time.Time{}, now
	if o.State != Pending {
		r.Outcome, r.Kept = o, nil
	}
}

// adopt makes the kept success of an earlier owner the outcome.
func (r *Record) adopt(now time.Time) {
	r.put(*r.Kept, now)
	r.By = BySuperseded
}

func (r *Record) doubt(now time.Time) {
	r.State, r.Marked = InDoubt, false
	r.Revision++
	r.LeaseEnd, r.Doubted, r.Settled = time.Time{}, now, time.Time{}
}

func (r *Record) bury(now time.Time) {
	r.State, r.Marked, r.By = Tombstone, false, ""
	r.Revision++
	r.LeaseEnd, r.Doubted, r.Settled = time.Time{}, time.Time{}, now
	r.Outcome, r.Kept = Outcome{}, nil
}

func (r *Record) conflict(b Bid, now time.Time) {
	r.note(Turn{What: TurnConflict, At: now, From: r.State, Owner: b.Owner, Fence: b.Fence})
	r.Revision++
}

func (r *Record) note(e Turn) {
	r.History = append(r.History, e)
	if len(r.History) <= maxHistory {
		return
	}
	drop := slices.IndexFunc(r.History, func(e Turn) bool { return e.What == TurnReleased })
	for i, old := range r.History {
		if slices.ContainsFunc(r.History[i+1:], old.isRepeatedBy) {
			drop = i
			break
		}
	}
	drop = max(drop, 0)
	r.History = append(r.History[:drop:drop], r.History[drop+1:]...)
}

// isRepeatedBy reports whether the protocol goes by the later event as well.
func (e Turn) isRepeatedBy(later Turn) bool {
	return e.What == later.What && e.Owner == later.Owner && e.From == later.From && e.FromBy == later.FromBy
}

// extend keeps the record at least ttl longer. A sixteenth is added so that
// touch need not write on every read.
func (r *Record) extend(now time.Time, ttl time.Duration) {
	if r.Expires.IsZero() {
		return
	}
	if ttl > LongestTTL {
		r.Expires = time.Time{}
		return
	}
	if e := now.Add(ttl + ttl/16); e.After(r.Expires) {
		r.Expires = e
	}
}

func (r *Record) expiresAnew(now time.Time, ttl time.Duration) {
	r.Expires = now
	r.extend(now, ttl)
}

// touch counts a duplicate as contact. It is no write of the record: the
// revision stays.
func (r *Record) touch(now time.Time, ttl time.Duration) bool {
	if r.Expires.IsZero() || ttl <= LongestTTL && r.Expires.Sub(now) >= ttl {
		return false
	}
	r.extend(now, ttl)
	return true
}

// expired reports whether the record is no longer remembered.
func (r *Record) expired(now time.Time) bool {
	return !r.Expires.IsZero() && !now.Before(r.Expires)
}
