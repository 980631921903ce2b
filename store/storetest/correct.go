package storetest

import (
	"fmt"

	"github.com/atmostonce/atmostonce/store"
)

// corrections are many more than a history has room for.
const corrections = 100

// settledBy returns a claim to a key of its own, and its record, which the owner
// has settled, or another one in its place.
func settledBy(k *kit, by string, o store.Outcome) (store.Bid, store.Record) {
	k.Helper()
	a := bid("a")
	a.Key += by + string(o.State)
	k.grant(k.s, &a)
	if by == "" {
		return a, k.ok(k.s.Settle(k.ctx, a, o))
	}
	res := decide("0", o.State)
	res.By, res.Outcome = by, o
	return a, k.ok(k.s.Resolve(k.ctx, a.Key, k.ok(k.s.Settle(k.ctx, a, inDoubt)), res))
}

// correct decides about r what it does not say.
func correct(k *kit, id string, r store.Record) store.Record {
	k.Helper()
	to := store.Succeeded
	if r.State == to {
		to = store.Failed
	}
	now := k.ok(k.s.Resolve(k.ctx, r.Key, r, decide(id, to)))
	resolved(k, now, r, decide(id, to))
	return now
}

var authors = []string{"", store.ByOperator, store.ByReconcile}

var correctCases = []testCase{
	{
		"a generation counts the successes that were reopened",
		"An effect that took place and is to take place again is another one: the next generation. Nothing else raises it, a reopening of what failed included, and nothing takes it back while the record is remembered: not a claim, a takeover, a late success or an erasure.",
		func(k *kit) {
			a := k.granted("a")
			k.generation(k.load(theKey), 0)
			r := k.generation(k.ok(k.s.Settle(k.ctx, a, succeeded("1"))), 0)
			r = k.generation(k.ok(k.s.Resolve(k.ctx, theKey, r, decide("1", store.Tombstone))), 1)
			k.generation(k.ok(k.s.Resolve(k.ctx, theKey, k.load(theKey), decide("1", store.Tombstone))), 1) // repeated
			k.unchanged(r, k.ok(k.s.Settle(k.ctx, a, succeeded("1"))))

			b := bid("b")
			k.generation(k.grant(k.open(), &b), 1)
			k.generation(k.ok(k.s.Renew(k.ctx, b)), 1)
			r = k.generation(k.ok(k.s.Settle(k.ctx, b, inDoubt)), 1)
			c := k.took("c", r, false)
			k.generation(k.load(theKey), 1)
			k.generation(k.ok(k.s.Renew(k.ctx, c)), 1)
			k.generation(k.answer(store.ErrConflict)(k.s.Settle(k.ctx, b, succeeded("late"))), 1)
			r = k.generation(k.ok(k.s.Release(k.ctx, c)), 1) // which adopts it
			r = k.generation(k.ok(k.s.Resolve(k.ctx, theKey, r, decide("2", store.Failed))), 1)
			k.generation(k.ok(k.s.Resolve(k.ctx, theKey, r, decide("3", store.Tombstone))), 1)

			d := k.granted("d")
			k.generation(k.ok(k.s.Release(k.ctx, d)), 1)
			e := k.granted("e")
			r = k.generation(k.ok(k.s.Settle(k.ctx, e, succeeded("2"))), 1)
			k.generation(k.ok(k.s.Resolve(k.ctx, theKey, r, erase("4"))), 2)
			f := k.granted("f")
			r = k.generation(k.ok(k.s.Settle(k.ctx, f, failed("no"))), 2)
			k.generation(k.ok(k.s.Resolve(k.ctx, theKey, r, erase("5"))), 2)
			k.generation(k.ok(k.open().Load(k.ctx, theKey)), 2)
		},
	},
	{
		"a generation ends with its record",
		"What is forgotten is forgotten: the key begins anew.",
		func(k *kit) {
			a := bid("a")
			a.TTL = shortTTL
			k.grant(k.s, &a)
			r := k.ok(k.s.Settle(k.ctx, a, succeeded("1")))
			res := decide("1", store.Tombstone)
			res.TTL = shortTTL
			k.generation(k.ok(k.s.Resolve(k.ctx, theKey, r, res)), 1)
			k.pass(pastTTL)
			b := bid("b")
			k.generation(k.grant(k.s, &b), 0)
		},
	},
	{
		"what is settled is corrected or reopened",
		"A success or failure that turns out to be wrong is turned into the other, or into another of its kind, and one that was compensated is opened again, whoever had written it. All that was known before stays in the history.",
		func(k *kit) {
			for _, by := range authors {
				for _, o := range outcomes[:2] {
					a, r := settledBy(k, by, o)
					for i := range 3 {
						r = correct(k, fmt.Sprint("1", i), r)
					}
					again := decide("2", r.State)
					again.Outcome.Data = []byte("otherwise")
					now := k.ok(k.s.Resolve(k.ctx, a.Key, r, again))
					resolved(k, now, r, again)
					k.unchanged(now, k.ok(k.s.Acquire(k.ctx, store.Bid{Key: a.Key, Owner: "b", Lease: longLease, TTL: longTTL})))
					tomb := k.ok(k.s.Resolve(k.ctx, a.Key, now, decide("3", store.Tombstone)))
					resolved(k, tomb, now, decide("3", store.Tombstone))
				}
			}
		},
	},
	{
		"a correction compares the revision",
		"It is about the outcome that was looked at: a second correction of the same reading is answered ErrMoved.",
		func(k *kit) {
			a, from := settledBy(k, "", succeeded("1"))
			r := correct(k, "1", from)
			for _, to := range decisions {
				k.unchanged(r, k.answer(store.ErrMoved)(k.s.Resolve(k.ctx, a.Key, from, decide("2", to))))
			}
			k.unchanged(r, k.ok(k.s.Resolve(k.ctx, a.Key, from, decide("1", store.Failed))))
		},
	},
	{
		"a repeated settle does not undo a correction",
		"The owner's settle was heard, before it was corrected. Its repetition answers without an error and changes nothing, also after further decisions and in the hands of another claim.",
		func(k *kit) {
			for _, o := range outcomes[:2] {
				a, r := settledBy(k, "", o)
				heard := func() {
					k.Helper()
					k.unchanged(r, k.ok(k.s.Settle(k.ctx, a, o)))
				}
				for i := range 3 {
					r = correct(k, fmt.Sprint(i), r)
					heard()
				}
				r = k.ok(k.s.Resolve(k.ctx, a.Key, r, decide("3", store.Tombstone)))
				heard()
				b := bid("b")
				b.Key = a.Key
				r = k.grant(k.s, &b)
				heard()
				r = k.ok(k.s.Settle(k.ctx, b, succeeded("2")))
				heard()
			}
		},
	},
	{
		"a correction does not swallow a first success",
		"An operator settled what its owner had left in doubt, and then corrected that, or reopened it. The owner has still not been heard: its first success is evidence. It settles a tombstone; beside a settled record it is noted, and answered ErrConflict.",
		func(k *kit) {
			for _, o := range outcomes[:2] {
				for _, to := range decisions {
					a, b := bid("a"), bid("b")
					a.Key += string(o.State + to)
					b.Key = a.Key
					k.grant(k.s, &a)
					doubt := k.ok(k.s.Settle(k.ctx, a, inDoubt))
					settled := k.ok(k.s.Resolve(k.ctx, a.Key, doubt, decide("1", o.State)))
					r := k.ok(k.s.Resolve(k.ctx, a.Key, settled, decide("2", to)))
					k.unchanged(r, k.ok(k.s.Settle(k.ctx, a, inDoubt)))
					k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Settle(k.ctx, a, failed("no"))))
					if to == store.Tombstone {
						r = k.ok(k.s.Settle(k.ctx, a, succeeded("late")))
						k.holds(r, succeeded("late"))
						continue
					}
					late := k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, succeeded("late")))
					k.holds(late, r.Outcome)
					k.event(late, store.TurnConflict, "a")
					late = correct(k, "3", late)
					k.unchanged(late, k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, succeeded("late"))))
				}
			}
		},
	},
	{
		"an owner that agreed with a reconciliation still does",
		"There was one execution, which the reconciliation had found before its owner reported it. A correction makes no conflict of that.",
		func(k *kit) {
			for _, o := range outcomes[:2] {
				a, r := settledBy(k, store.ByReconcile, o)
				k.unchanged(r, k.ok(k.s.Settle(k.ctx, a, o)))
				r = correct(k, "1", r)
				k.unchanged(r, k.ok(k.s.Settle(k.ctx, a, o)))
			}
		},
	},
	{
		"a correction of an adopted success changes nobody's answer",
		"The successor's end was heard when the kept success was adopted. Its repetition answers without an error. A success of its own is another execution.",
		func(k *kit) {
			for name, end := range map[string]func(b store.Bid) (store.Record, error){
				"release": func(b store.Bid) (store.Record, error) { return k.s.Release(k.ctx, b) },
				"fail":    func(b store.Bid) (store.Record, error) { return k.s.Settle(k.ctx, b, failed("no")) },
				"doubt":   func(b store.Bid) (store.Record, error) { return k.s.Settle(k.ctx, b, inDoubt) },
			} {
				a, b := bid("a"), bid("b")
				a.Key += name
				b.Key = a.Key
				k.grant(k.s, &a)
				b.Fence = k.ok(k.s.Takeover(k.ctx, b, k.ok(k.s.Settle(k.ctx, a, inDoubt)))).Fence
				k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, succeeded("late")))
				r := correct(k, "1", k.ok(end(b)))
				k.unchanged(r, k.ok(end(b)))
				late(k, r, a)
				late(k, k.answer(store.ErrConflict)(k.s.Settle(k.ctx, b, succeeded("late"))), b)
			}
		},
	},
	{
		"many corrections forget no nonce",
		"A history is bounded. What makes room for a further correction is one that says nothing that the others do not say: a claim that was released, superseded or overruled is still refused, a repeated settle still heard, and the first and the last decisions are still there.",
		func(k *kit) {
			released := k.granted("released")
			k.ok(k.s.Release(k.ctx, released))
			overruled := k.granted("overruled")
			doubt := k.ok(k.s.Settle(k.ctx, overruled, inDoubt))
			k.ok(k.s.Resolve(k.ctx, theKey, doubt, decide("first", store.Tombstone)))
			superseded := k.granted("superseded")
			b := k.took("b", k.ok(k.s.Settle(k.ctx, superseded, inDoubt)), false)
			k.ok(k.s.Settle(k.ctx, b, succeeded("1")))
			r := k.answer(store.ErrConflict)(k.s.Settle(k.ctx, superseded, succeeded("late")))
			for i := range corrections {
				to := decisions[i%2]
				r = k.ok(k.s.Resolve(k.ctx, theKey, r, decide(fmt.Sprint(i), to)))
				k.that(r.State == to && len(r.History) <= 64, "the record is %q after correction %d, with %d events", r.State, i, len(r.History))
			}
			k.unchanged(r, k.ok(k.s.Settle(k.ctx, b, succeeded("1"))))
			k.unchanged(r, k.answer(store.ErrConflict)(k.s.Settle(k.ctx, superseded, succeeded("late"))))
			ids := map[string]bool{}
			for _, e := range r.History {
				ids[e.ID] = true
			}
			for _, id := range []string{"first", "0", fmt.Sprint(corrections - 1), fmt.Sprint(corrections - 40)} {
				k.that(ids[id], "decision %s is not in the history: %v", id, ids)
			}
			tomb := k.ok(k.s.Resolve(k.ctx, theKey, r, decide("reopened", store.Tombstone)))
			for _, nonce := range []string{"released", "overruled", "superseded", "b"} {
				k.unchanged(tomb, k.answer(store.ErrSuperseded)(k.s.Acquire(k.ctx, bid(nonce))))
			}
		},
	},
}
