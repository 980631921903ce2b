package storetest

import (
	"time"

	"github.com/atmostonce/atmostonce/store"
)

var releaseCases = []testCase{
	{
		"a first run leaves a tombstone",
		"Release says that this claim did nothing. After a first run nothing happened at all: the key is free, and a tombstone remembers nonce and fence for TombstoneTTL.",
		func(k *kit) {
			b := k.granted("a")
			granted := k.load(theKey)
			r := k.ok(k.s.Release(k.ctx, b))
			k.is(r, store.Tombstone, "a")
			k.that(r.Fence == b.Fence && r.Revision > granted.Revision, "fence %d, want %d; revision %d after %d", r.Fence, b.Fence, r.Revision, granted.Revision)
			k.that(r.By == "" && r.Outcome.IsZero() && near(r.Settled, r.Now), "by %q, outcome %s, settled %v", r.By, show(r.Outcome), r.Settled)
			left := r.Expires.Sub(r.Now)
			k.that(left > store.TombstoneTTL-tick, "the tombstone expires after %v", left)
			k.that(left < 2*store.TombstoneTTL, "the tombstone of a first run is kept for %v, as if it were an outcome", left)
			k.unchanged(r, k.ok(k.open().Load(k.ctx, theKey)))
		},
	},
	{
		"a release may be repeated",
		"A release whose reply was lost is sent again: the answer is the same, and nothing changes, also after another claim has used the key.",
		func(k *kit) {
			a := k.granted("a")
			r := k.ok(k.s.Release(k.ctx, a))
			k.unchanged(r, k.ok(k.s.Release(k.ctx, a)))
			k.unchanged(r, k.ok(k.open().Release(k.ctx, a)))
			b := k.granted("b")
			r = k.load(theKey)
			k.unchanged(r, k.ok(k.s.Release(k.ctx, a)))
			r = k.ok(k.s.Settle(k.ctx, b, succeeded("1")))
			k.unchanged(r, k.ok(k.s.Release(k.ctx, a)))
		},
	},
	{
		"a release without a fence goes by its nonce",
		"A claim whose grant was never answered does not know its fence, and must be able to give the key back.",
		func(k *kit) {
			b := k.granted("a")
			b.Fence = 0
			k.is(k.ok(k.s.Release(k.ctx, b)), store.Tombstone, "a")
		},
	},
	{
		"only the owner releases",
		"A release by another nonce, or with the fence of another grant, is answered ErrSuperseded and changes nothing.",
		func(k *kit) {
			b := k.granted("a")
			r := k.load(theKey)
			k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Release(k.ctx, bid("b"))))
			b.Fence--
			k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Release(k.ctx, b)))
		},
	},
	{
		"a release of an absent key refuses its delayed claim",
		"The Acquire that this release is about may still be under way. A tombstone is left that refuses its nonce, and nobody else's.",
		func(k *kit) {
			a := bid("a")
			r := k.ok(k.s.Release(k.ctx, a))
			k.is(r, store.Tombstone, "a")
			k.that(r.Expires.Sub(r.Now) > store.TombstoneTTL-tick, "the tombstone expires after %v", r.Expires.Sub(r.Now))
			k.unchanged(r, k.ok(k.s.Release(k.ctx, a)))
			k.unchanged(r, k.answer(store.ErrSuperseded)(k.open().Acquire(k.ctx, a)))
			b := bid("b")
			r = k.grant(k.s, &b)
			k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Acquire(k.ctx, a)))
		},
	},
	{
		"a release of a key whose claim was lost keeps its fence",
		"The claim that the store forgot had a fence; its tombstone has it too, so that the next grant's is higher.",
		func(k *kit) {
			a := bid("a")
			a.Fence = 1 << 52
			k.ok(k.s.Release(k.ctx, a))
			b := bid("b")
			r := k.grant(k.s, &b)
			k.that(r.Fence > a.Fence, "the fence went from %d to %d", a.Fence, r.Fence)
		},
	},
	{
		"what is settled is not released",
		"After an accepted success or failure a release is answered ErrSuperseded: a key is never given back once its act has happened.",
		func(k *kit) {
			for _, o := range outcomes[:2] {
				b := bid("a")
				b.Key += string(o.State)
				k.grant(k.s, &b)
				r := k.ok(k.s.Settle(k.ctx, b, o))
				k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Release(k.ctx, b)))
			}
		},
	},
	{
		"a late release clears the doubt",
		"A first run's owner that nobody superseded, and that finds out that nothing happened, releases what is in doubt or pending.",
		func(k *kit) {
			for _, o := range []store.Outcome{inDoubt, pending} {
				b := bid("a")
				b.Key += string(o.State)
				k.grant(k.s, &b)
				k.ok(k.s.Settle(k.ctx, b, o))
				r := k.ok(k.s.Release(k.ctx, b))
				k.is(r, store.Tombstone, "a")
				k.that(r.Doubted.IsZero(), "a tombstone is doubted since %v", r.Doubted)
			}
			b, _ := k.marked("a")
			r := k.ok(k.s.Release(k.ctx, b))
			k.is(r, store.Tombstone, "a")
			k.that(!r.Marked, "a tombstone is Marked")
		},
	},
	{
		"a release after a takeover returns to doubt",
		"Release speaks for its own claim only. The run that was taken over from is still in doubt, so the record goes back there, and never to a tombstone.",
		func(k *kit) {
			_, b := k.superseded(false)
			before := k.load(theKey)
			r := k.ok(k.s.Release(k.ctx, b))
			k.is(r, store.InDoubt, "b")
			k.that(!r.Marked && near(r.Doubted, r.Now) && r.Revision > before.Revision, "marked %v, doubted %v, revision %d after %d", r.Marked, r.Doubted, r.Revision, before.Revision)
			k.that(r.Expires.After(r.Now.Add(2*store.TombstoneTTL)), "a doubt expires after %v", r.Expires.Sub(r.Now))
			k.pass(5 * time.Millisecond)
			k.unchanged(r, k.ok(k.s.Release(k.ctx, b)))
			k.unchanged(r, k.ok(k.open().Acquire(k.ctx, bid("c"))))
			k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Renew(k.ctx, b)))
		},
	},
	{
		"a release of a marked takeover declares the doubt",
		"The owner has said that it is done. Its record stays in doubt, for its predecessor, and a renewal no longer takes that back.",
		func(k *kit) {
			_, r := k.doubted("a")
			b, s := bid("b"), k.open()
			b.Lease = shortLease
			b.Fence = k.ok(s.Takeover(k.ctx, b, r)).Fence
			k.h.Die(k.TB, s, shortLease)
			k.that(k.ok(k.s.Acquire(k.ctx, bid("c"))).Marked, "the doubt is not Marked")
			r = k.ok(k.s.Release(k.ctx, b))
			k.is(r, store.InDoubt, "b")
			k.that(!r.Marked, "the doubt is still Marked")
			k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Renew(k.ctx, b)))
		},
	},
	{
		"a release after a clean takeover leaves a tombstone",
		"If the predecessors are known not to have happened, and this run did nothing, then nothing happened. The history of the key makes its tombstone live as long as before.",
		func(k *kit) {
			a, b := k.superseded(true)
			before := k.load(theKey)
			r := k.ok(k.s.Release(k.ctx, b))
			k.is(r, store.Tombstone, "b")
			k.that(!r.Expires.Before(before.Expires), "the expiry went from %v to %v", before.Expires, r.Expires)
			k.event(r, store.TurnTakenOver, "a")
			k.unchanged(r, k.ok(k.s.Release(k.ctx, b)))
			c := bid("c")
			granted := k.grant(k.s, &c)
			k.that(granted.Origin == store.First && c.Fence > b.Fence && b.Fence > a.Fence, "origin %q, fences %d, %d, %d", granted.Origin, a.Fence, b.Fence, c.Fence)
		},
	},
	{
		"a clean takeover that never began returns to doubt",
		"Whether the predecessors happened was asked before a run that did not begin; the answer is stale by the next one. The record goes back in doubt.",
		func(k *kit) {
			_, b := k.superseded(true)
			b.Began = false
			r := k.ok(k.s.Release(k.ctx, b))
			k.is(r, store.InDoubt, "b")
			k.unchanged(r, k.ok(k.s.Release(k.ctx, b)))
		},
	},
}
