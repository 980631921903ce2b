package storetest

import (
	"fmt"

	"github.com/atmostonce/atmostonce/store"
)

// telling returns a claim whose bid says a lot.
func telling(owner string) store.Bid {
	b := bid(owner)
	b.Deadline = longLease
	b.Info = store.Info{
		Activity: "ChargeCard", Input: "digest", Match: "4711", Trace: "00-1-2-01", Ledger: "txn-1",
		Holder: store.Holder{Namespace: "shop", WorkflowID: "order-ann", RunID: "run", ActivityID: "1", ActivityRunID: "2",
			Local: true, Attempt: 3, Worker: "1@host", OriginalRunID: "run", Occurrence: 2},
	}
	return b
}

// erased checks what an erasure has left of from.
func erased(k *kit, r store.Record, from store.Record, res store.Resolution) {
	k.Helper()
	k.is(r, store.Tombstone, from.Owner)
	k.that(r.Key == from.Key && r.Fence == from.Fence && r.Revision > from.Revision && r.By == res.By,
		"key %q, fence %d, was %d, revision %d after %d, by %q", r.Key, r.Fence, from.Fence, r.Revision, from.Revision, r.By)
	k.generation(r, from.Generation+reopens(from, res))
	k.that(r.Info == store.Info{}, "info is left: %+v", r.Info)
	k.that(r.Outcome.IsZero() && r.Kept == nil && !r.Marked && !r.Forgotten, "there is left: outcome %s, kept %v, marked %v, forgotten %v",
		show(r.Outcome), r.Kept, r.Marked, r.Forgotten)
	k.that(r.LeaseEnd.IsZero() && r.Deadline.IsZero() && r.Doubted.IsZero(), "times are left: %v, %v, %v", r.LeaseEnd, r.Deadline, r.Doubted)
	life := r.Expires.Sub(r.Now)
	k.that(life > store.TombstoneTTL-tick && life < 2*store.TombstoneTTL, "it is remembered for %v", life)
	k.that(len(r.History) == len(from.History)+1, "of %d events %d are left", len(from.History), len(r.History)-1)
	for i, e := range from.History {
		left := r.History[i]
		k.that(e.What == store.TurnErased || left.Who == "" && left.Why == "", "an event still says who and why: %+v", left)
		k.that(left.What == e.What && left.From == e.From && left.FromBy == e.FromBy && left.Owner == e.Owner && left.Fence == e.Fence && left.ID == e.ID,
			"an event is %+v, was %+v", left, e)
	}
	e := k.event(r, store.TurnErased, from.Owner)
	k.that(e.From == from.State && e.FromBy == from.By && e.Fence == from.Fence && e.By == res.By && e.Who == res.Who && e.Why == res.Why && e.ID == res.ID,
		"the event is %+v", e)
}

var eraseCases = []testCase{
	{
		"an erasure leaves the key and an event",
		"Of a customer's record nothing is left but the key, the fence, the nonces that are spent, and who erased it and why; and these not for long, whatever TTL was promised.",
		func(k *kit) {
			for _, ttl := range []int{1, 0} {
				for _, o := range outcomes[:2] {
					a := telling("a")
					a.Key += fmt.Sprint(ttl, o.State)
					if ttl == 0 {
						a.TTL = store.Forever
					}
					k.grant(k.s, &a)
					r := k.ok(k.s.Settle(k.ctx, a, doubtful("the card of Ann")))
					r = k.ok(k.s.Resolve(k.ctx, a.Key, r, decide("1", o.State)))
					from := correct(k, "2", r)
					r = k.ok(k.open().Resolve(k.ctx, a.Key, from, erase("3")))
					erased(k, r, from, erase("3"))
					k.unchanged(r, k.load(a.Key))
					found := listed(k, store.Query{WorkflowID: a.Info.Holder.WorkflowID})
					k.that(len(found) == 0, "List finds by workflow what was erased: %v", found)
				}
			}
		},
	},
	{
		"an erasure of what is open is forced",
		"Evidence is not erased by mistake while the act may be happening, or nobody knows whether it happened. With Force it is.",
		func(k *kit) {
			for name, open := range map[string]func(a *store.Bid) store.Record{
				"running": func(a *store.Bid) store.Record { return k.load(a.Key) },
				"doubt":   func(a *store.Bid) store.Record { return k.ok(k.s.Settle(k.ctx, *a, inDoubt)) },
				"pending": func(a *store.Bid) store.Record { return k.ok(k.s.Settle(k.ctx, *a, pending)) },
				"kept": func(a *store.Bid) store.Record {
					b := bid("b")
					b.Key = a.Key
					k.ok(k.s.Takeover(k.ctx, b, k.ok(k.s.Settle(k.ctx, *a, inDoubt))))
					return k.answer(store.ErrConflict)(k.s.Settle(k.ctx, *a, succeeded("late")))
				},
			} {
				a := telling("a")
				a.Key += name
				k.grant(k.s, &a)
				from := open(&a)
				k.unchanged(from, k.answer(store.ErrMoved)(k.s.Resolve(k.ctx, a.Key, from, erase("1"))))
				res := erase("1")
				res.Force = true
				r := k.ok(k.s.Resolve(k.ctx, a.Key, from, res))
				erased(k, r, from, res)
				a.Owner = from.Owner
				k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Renew(k.ctx, a)))
			}
		},
	},
	{
		"an erasure of a free key",
		"A tombstone tells about a customer, too. Where there is no record there is nothing to erase.",
		func(k *kit) {
			res := erase("1")
			res.Force = true
			k.answer(store.ErrMoved)(k.s.Resolve(k.ctx, theKey, k.load(theKey), res))
			k.that(k.load(theKey).State == store.Absent, "an erasure created a record")
			a := telling("a")
			k.grant(k.s, &a)
			tomb := k.ok(k.s.Release(k.ctx, a))
			r := k.ok(k.s.Resolve(k.ctx, theKey, tomb, erase("1")))
			erased(k, r, tomb, erase("1"))
		},
	},
	{
		"an erasure compares the revision and may be repeated",
		"It is about the record that was looked at. One whose reply was lost is sent again with the same ID, and answers the record, also after another claim has used the key.",
		func(k *kit) {
			a := k.granted("a")
			before := k.load(theKey)
			from := k.ok(k.s.Settle(k.ctx, a, succeeded("1")))
			stale := from
			stale.Revision = before.Revision
			k.unchanged(from, k.answer(store.ErrMoved)(k.s.Resolve(k.ctx, theKey, stale, erase("1"))))
			r := k.ok(k.s.Resolve(k.ctx, theKey, from, erase("1")))
			k.unchanged(r, k.ok(k.s.Resolve(k.ctx, theKey, from, erase("1"))))
			k.unchanged(r, k.answer(store.ErrMoved)(k.s.Resolve(k.ctx, theKey, from, erase("2"))))
			b := bid("b")
			r = k.grant(k.s, &b)
			k.unchanged(r, k.ok(k.s.Resolve(k.ctx, theKey, from, erase("1"))))
		},
	},
	{
		"an erased record forgets no nonce",
		"Delayed duplicates of calls that are over find a tombstone: their nonces are refused, a settle that was heard changes nothing, and the next claim has a higher fence.",
		func(k *kit) {
			a, b := k.superseded(false)
			settled := k.ok(k.s.Settle(k.ctx, b, succeeded("1")))
			r := k.ok(k.s.Resolve(k.ctx, theKey, settled, erase("1")))
			check := func() {
				k.Helper()
				k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Acquire(k.ctx, bid("a"))))
				k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Acquire(k.ctx, bid("b"))))
				k.unchanged(r, k.ok(k.s.Settle(k.ctx, b, succeeded("1"))))
				k.unchanged(r, k.ok(k.s.Settle(k.ctx, a, inDoubt)))
			}
			check()
			c := bid("c")
			r = k.grant(k.open(), &c)
			k.that(r.Origin == store.First && c.Fence > b.Fence && r.By == "", "origin %q, fence %d after %d, by %q", r.Origin, c.Fence, b.Fence, r.By)
			k.that(r.Info == c.Info, "the record describes %+v", r.Info)
			remembered(k, r, longTTL)
			k.unchanged(r, k.ok(k.s.Settle(k.ctx, b, succeeded("1"))))
			r = k.ok(k.s.Release(k.ctx, c))
			check()
		},
	},
	{
		"a success that comes after an erasure settles it",
		"The owner, or one before it, was not heard when its record was erased. Its success is the only evidence of the effect: it settles the tombstone, and brings its description along. Anything less changes nothing.",
		func(k *kit) {
			for _, superseded := range []bool{false, true} {
				a, b := telling("a"), telling("b")
				a.Key += fmt.Sprint(superseded)
				b.Key = a.Key
				k.grant(k.s, &a)
				from, want := k.load(a.Key), error(nil)
				if superseded {
					from = k.ok(k.s.Takeover(k.ctx, b, k.ok(k.s.Settle(k.ctx, a, inDoubt))))
					want = store.ErrConflict
				}
				res := erase("1")
				res.Force = true
				tomb := k.ok(k.s.Resolve(k.ctx, a.Key, from, res))
				k.unchanged(tomb, k.answer(store.ErrSuperseded)(k.s.Settle(k.ctx, a, failed("no"))))
				k.unchanged(tomb, k.answer(store.ErrSuperseded)(k.s.Settle(k.ctx, a, pending)))
				r := k.answer(want)(k.s.Settle(k.ctx, a, succeeded("late")))
				k.is(r, store.Succeeded, "a")
				k.holds(r, succeeded("late"))
				k.that(differentInfo(a.Info, r.Info) == "", "the record describes %+v", r.Info)
				k.event(r, store.TurnErased, from.Owner)
				remembered(k, r, longTTL)
				k.unchanged(r, k.answer(want)(k.s.Settle(k.ctx, a, succeeded("late"))))
			}
		},
	},
	{
		"a release after an erasure changes nothing",
		"The owner of an erased run did nothing: the key is free already, and the erasure as short-lived as before.",
		func(k *kit) {
			a := k.granted("a")
			res := erase("1")
			res.Force = true
			tomb := k.ok(k.s.Resolve(k.ctx, theKey, k.load(theKey), res))
			k.unchanged(tomb, k.ok(k.s.Release(k.ctx, a)))
			k.that(k.load(theKey).Expires.Equal(tomb.Expires), "the erasure is remembered longer")
		},
	},
	{
		"what was said of an earlier erasure stays",
		"The events of erasures are what is left to show that they were asked for: a further one removes what other decisions said, and nothing of these.",
		func(k *kit) {
			a := k.granted("a")
			k.ok(k.s.Resolve(k.ctx, theKey, k.ok(k.s.Settle(k.ctx, a, succeeded("1"))), erase("1")))
			b := k.granted("b")
			r := correct(k, "2", k.ok(k.s.Settle(k.ctx, b, succeeded("2"))))
			r = k.ok(k.s.Resolve(k.ctx, theKey, r, erase("3")))
			e := k.event(r, store.TurnErased, "a")
			k.that(e.Who == "ann" && e.Why == "asked the bank" && e.ID == "1", "the event is %+v", e)
			e = k.event(r, store.TurnResolved, "b")
			k.that(e.Who == "" && e.Why == "" && e.ID == "2", "the event is %+v", e)
		},
	},
}
