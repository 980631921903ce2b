package storetest

import (
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// kept returns a and b as superseded does, a's success being kept beside b's
// run.
func kept(k *kit) (a, b store.Bid) {
	k.Helper()
	a, b = k.superseded(false)
	r := k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, succeeded("late")))
	k.is(r, store.Running, "b")
	return a, b
}

// late checks that the success of a, which somebody superseded, was recorded,
// and that its repetition changes nothing.
func late(k *kit, r store.Record, a store.Bid) {
	k.Helper()
	k.event(r, store.TurnConflict, a.Owner)
	k.unchanged(r, k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, succeeded("late"))))
}

var lateCases = []testCase{
	{
		"a superseded success settles a tombstone",
		"The successor did nothing and gave the key back. The success that comes too late is then the truth: it settles the record, and is reported as a conflict.",
		func(k *kit) {
			a, b := k.superseded(true)
			tomb := k.ok(k.s.Release(k.ctx, b))
			r := k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, succeeded("late")))
			k.is(r, store.Succeeded, "a")
			k.holds(r, succeeded("late"))
			k.that(r.Revision > tomb.Revision && r.Fence >= b.Fence, "revision %d after %d, fence %d after %d", r.Revision, tomb.Revision, r.Fence, b.Fence)
			k.that(r.Info == a.Info, "the record describes %+v", r.Info)
			late(k, r, a)
			k.unchanged(r, k.ok(k.s.Acquire(k.ctx, bid("c"))))
		},
	},
	{
		"a superseded success settles a doubt",
		"The successor does not know either. The success that comes too late is the only thing known: it settles the record, and is reported as a conflict.",
		func(k *kit) {
			a, b := k.superseded(false)
			k.ok(k.s.Settle(k.ctx, b, inDoubt))
			r := k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, succeeded("late")))
			k.is(r, store.Succeeded, "a")
			k.holds(r, succeeded("late"))
			late(k, r, a)
		},
	},
	{
		"a superseded success waits beside a running record",
		"The successor is not disturbed: it keeps key, fence and lease. The success is kept, so that it is not lost if the successor does not succeed.",
		func(k *kit) {
			a, b := k.superseded(false)
			running := k.load(theKey)
			r := k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, succeeded("late")))
			k.is(r, store.Running, "b")
			k.that(r.Fence == b.Fence && r.Revision > running.Revision, "fence %d, want %d; revision %d after %d", r.Fence, b.Fence, r.Revision, running.Revision)
			k.that(r.Kept != nil && sameOutcome(*r.Kept, succeeded("late")), "kept %+v", r.Kept)
			k.that(r.Outcome.IsZero(), "a running record has the outcome %s", show(r.Outcome))
			late(k, r, a)
			r = k.ok(k.s.Renew(k.ctx, b))
			k.that(r.Kept != nil && sameOutcome(*r.Kept, succeeded("late")), "a renewal lost what was kept: %+v", r.Kept)
		},
	},
	{
		"a kept success is adopted",
		"If the successor releases, fails or does not know, the success that was kept is the truth. The successor's call is heard, answers without an error, and may be repeated.",
		func(k *kit) {
			ends := map[string]func(b store.Bid) (store.Record, error){
				"release": func(b store.Bid) (store.Record, error) { return k.s.Release(k.ctx, b) },
				"fail":    func(b store.Bid) (store.Record, error) { return k.s.Settle(k.ctx, b, failed("no")) },
				"doubt":   func(b store.Bid) (store.Record, error) { return k.s.Settle(k.ctx, b, inDoubt) },
			}
			for name, end := range ends {
				a, b := bid("a"), bid("b")
				a.Key += name
				b.Key = a.Key
				k.grant(k.s, &a)
				b.Fence = k.ok(k.s.Takeover(k.ctx, b, k.ok(k.s.Settle(k.ctx, a, inDoubt)))).Fence
				k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, succeeded("late")))
				r := k.ok(end(b))
				k.holds(r, succeeded("late"))
				k.that(r.By == store.BySuperseded && r.Kept == nil, "%s: by %q, kept %v", name, r.By, r.Kept)
				late(k, r, a)
				k.unchanged(r, k.ok(end(b)))
			}
		},
	},
	{
		"the successor's own success stands",
		"Both executions succeeded. The record has the outcome of the run that owns it; the history has the evidence.",
		func(k *kit) {
			a, b := kept(k)
			r := k.ok(k.s.Settle(k.ctx, b, succeeded("2")))
			k.is(r, store.Succeeded, "b")
			k.holds(r, succeeded("2"))
			k.that(r.Kept == nil && r.By == "", "kept %v, by %q", r.Kept, r.By)
			late(k, r, a)
		},
	},
	{
		"a kept success survives a pending successor",
		"A successor that is pending has not succeeded yet. If its end is a failure, the kept success is the truth.",
		func(k *kit) {
			a, b := kept(k)
			r := k.ok(k.s.Settle(k.ctx, b, pending))
			k.is(r, store.Pending, "b")
			k.that(r.Kept != nil, "what was kept is gone")
			r = k.ok(k.s.Settle(k.ctx, b, failed("no")))
			k.holds(r, succeeded("late"))
			late(k, r, a)
		},
	},
	{
		"a superseded success waits beside a pending record",
		"What is pending is a run too: the success is kept beside it.",
		func(k *kit) {
			a, b := k.superseded(false)
			k.ok(k.s.Settle(k.ctx, b, pending))
			r := k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, succeeded("late")))
			k.is(r, store.Pending, "b")
			k.that(r.Kept != nil && sameOutcome(*r.Kept, succeeded("late")), "kept %+v", r.Kept)
			late(k, r, a)
		},
	},
	{
		"a superseded success is noted beside a settled record",
		"What is settled stays: its outcome has been served. The history keeps the evidence of two executions.",
		func(k *kit) {
			for _, o := range outcomes[:2] {
				a, b := bid("a"), bid("b")
				a.Key += string(o.State)
				b.Key = a.Key
				k.grant(k.s, &a)
				b.Fence = k.ok(k.s.Takeover(k.ctx, b, k.ok(k.s.Settle(k.ctx, a, inDoubt)))).Fence
				settled := k.ok(k.s.Settle(k.ctx, b, o))
				r := k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, succeeded("late")))
				k.is(r, o.State, "b")
				k.holds(r, o)
				k.that(r.Revision > settled.Revision && r.Kept == nil, "revision %d after %d, kept %v", r.Revision, settled.Revision, r.Kept)
				late(k, r, a)
			}
		},
	},
	{
		"a second superseded success is noted too",
		"The first success that is kept stays the kept one; every further execution is in the history.",
		func(k *kit) {
			a, b := k.superseded(false)
			c := k.took("c", k.ok(k.s.Settle(k.ctx, b, inDoubt)), false)
			k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, succeeded("late")))
			r := k.answer(store.ErrConflict)(k.s.Settle(k.ctx, b, succeeded("later")))
			k.is(r, store.Running, "c")
			k.event(r, store.TurnConflict, "a")
			k.event(r, store.TurnConflict, "b")
			r = k.ok(k.s.Release(k.ctx, c))
			k.holds(r, succeeded("late"))
		},
	},
	{
		"nothing else is heard from a superseded owner",
		"A superseded claim's failure or end says nothing about the run that followed: it is answered ErrSuperseded and changes nothing, whatever state the record is in.",
		func(k *kit) {
			_, doubt := k.marked("a")
			a := bid("a")
			a.Fence = doubt.Fence
			b := k.took("b", doubt, true)
			refused := func(r store.Record) {
				k.Helper()
				k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Settle(k.ctx, a, failed("no"))))
				k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Settle(k.ctx, a, pending)))
				k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Renew(k.ctx, a)))
				k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Release(k.ctx, a)))
			}
			refused(k.load(theKey))
			refused(k.ok(k.s.Settle(k.ctx, b, pending)))
			refused(k.ok(k.s.Settle(k.ctx, b, inDoubt)))
			refused(k.ok(k.s.Settle(k.ctx, b, failed("no"))))
		},
	},
	{
		"a repeated doubt of a superseded owner was heard",
		"The owner declared its doubt and was then taken over from. The repetition of that settle answers without an error, and changes nothing.",
		func(k *kit) {
			a, _ := k.superseded(false)
			r := k.load(theKey)
			k.unchanged(r, k.ok(k.s.Settle(k.ctx, a, inDoubt)))
		},
	},
	{
		"a success that the store had forgotten about is not lost",
		"The store lost a claim, another one ran and gave the key back. The first claim's success is then the only truth: it settles the tombstone.",
		func(k *kit) {
			a, s := bid("a"), k.open()
			a.TTL, a.Lease = 20*time.Millisecond, time.Millisecond
			k.grant(s, &a)
			k.h.Die(k.TB, s, a.Lease)
			k.pass(30 * time.Millisecond)
			b := k.granted("b")
			k.that(b.Fence > a.Fence, "the fence went from %d to %d", a.Fence, b.Fence)
			k.ok(k.s.Release(k.ctx, b))
			a.TTL = longTTL
			r := k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, succeeded("late")))
			k.is(r, store.Succeeded, "a")
			k.holds(r, succeeded("late"))
			k.that(!r.Expires.Before(r.Now.Add(longTTL-tick)), "it expires after %v", r.Expires.Sub(r.Now))
			late(k, r, a)
		},
	},
}
