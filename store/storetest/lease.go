package storetest

import (
	"time"

	"github.com/atmostonce/atmostonce/store"
)

var leaseCases = []testCase{
	{
		"a dead owner's record is marked in doubt",
		"When the lease is over nobody knows whether the act happened. Acquire marks the doubt, once, and never takes the key over: that is a decision of its caller.",
		func(k *kit) {
			b := k.dead("a")
			before := k.load(theKey)
			k.is(before, store.Running, "a")
			r := k.ok(k.s.Acquire(k.ctx, bid("b")))
			k.is(r, store.InDoubt, "a")
			k.that(r.Marked && r.Fence == b.Fence, "marked %v, fence %d, want true, %d", r.Marked, r.Fence, b.Fence)
			k.that(r.Revision > before.Revision, "the revision went from %d to %d", before.Revision, r.Revision)
			k.that(near(r.Doubted, r.Now), "the doubt began at %v, the clock says %v", r.Doubted, r.Now)
			k.pass(5 * time.Millisecond)
			k.unchanged(r, k.ok(k.s.Acquire(k.ctx, bid("b"))))
			k.unchanged(r, k.ok(k.open().Acquire(k.ctx, bid("c"))))
		},
	},
	{
		"reading marks nothing",
		"The settle delay starts when a write marks the doubt. Load and List show the record as it is, even if its lease is long over.",
		func(k *kit) {
			k.dead("a")
			r := k.load(theKey)
			k.is(r, store.Running, "a")
			for listed, err := range k.s.List(k.ctx, store.Query{State: store.Running}) {
				k.unchanged(r, k.ok(listed, err))
			}
			k.unchanged(r, k.load(theKey))
		},
	},
	{
		"a lease that runs out is judged as the store judges",
		"A store that goes by its clock marks the doubt. One that goes by a lock (LeaseByLock) knows that the owner lives, and leaves the record alone.",
		func(k *kit) {
			b := bid("a")
			b.Lease = shortLease
			r := k.grant(k.s, &b)
			k.pass(shortLease + time.Millisecond)
			if k.h.LeaseByLock {
				k.unchanged(r, k.ok(k.open().Acquire(k.ctx, bid("b"))))
				return
			}
			k.is(k.ok(k.open().Acquire(k.ctx, bid("b"))), store.InDoubt, "a")
		},
	},
	{
		"a death is seen as the store says",
		"An OwnerWatcher that sees the death of an owner (SeesDeath) marks the doubt at once: its guard does not wait for the lease. Die must then end the owner, not wait for its lease.",
		func(k *kit) {
			w, ok := k.s.(store.OwnerWatcher)
			if !ok || !w.SeesDeath() {
				return
			}
			a, s := bid("a"), k.open()
			granted := k.grant(s, &a)
			k.h.Die(k.TB, s, a.Lease)
			r := k.ok(k.s.Acquire(k.ctx, bid("b")))
			k.is(r, store.InDoubt, "a")
			k.that(r.Doubted.Before(granted.LeaseEnd), "the doubt was marked at %v, after the end of the lease at %v", r.Doubted, granted.LeaseEnd)
		},
	},
	{
		"a renewal extends the lease",
		"Renew moves the end of the lease to now + Lease by the store's clock, so a living owner is not taken for dead.",
		func(k *kit) {
			b := bid("a")
			b.Lease = 200 * time.Millisecond
			granted := k.grant(k.s, &b)
			b.Lease = longLease
			r := k.ok(k.s.Renew(k.ctx, b))
			k.is(r, store.Running, "a")
			k.that(r.Fence == b.Fence, "the fence went from %d to %d", b.Fence, r.Fence)
			if !k.h.LeaseByLock {
				k.that(near(r.LeaseEnd, r.Now.Add(longLease)), "the lease ends %v after now", r.LeaseEnd.Sub(r.Now))
				k.that(r.Revision > granted.Revision, "the revision stayed at %d", r.Revision)
			}
			k.pass(220 * time.Millisecond)
			k.is(k.ok(k.s.Acquire(k.ctx, bid("b"))), store.Running, "a")
			k.ok(k.s.Settle(k.ctx, b, succeeded("1")))
		},
	},
	{
		"a renewal never shortens the lease",
		"A delayed renewal with a shorter lease must not make a living owner look dead.",
		func(k *kit) {
			b := k.granted("a")
			b.Lease = time.Millisecond
			k.ok(k.s.Renew(k.ctx, b))
			k.pass(5 * time.Millisecond)
			k.is(k.ok(k.s.Acquire(k.ctx, bid("b"))), store.Running, "a")
		},
	},
	{
		"a renewal before anybody looked keeps the claim",
		"An owner whose lease is over but whose record nobody has marked is still the owner: Renew goes by nonce and fence, never by time.",
		func(k *kit) {
			b := k.dead("a")
			k.is(k.ok(k.s.Renew(k.ctx, b)), store.Running, "a")
			k.is(k.ok(k.open().Acquire(k.ctx, bid("b"))), store.Running, "a")
		},
	},
	{
		"a renewal takes back a marked doubt",
		"A doubt that the store marked was a presumption. The owner that renews was only slow: the record runs again, for that owner, and the doubt is gone.",
		func(k *kit) {
			b, doubt := k.marked("a")
			r := k.ok(k.s.Renew(k.ctx, b))
			k.is(r, store.Running, "a")
			k.that(!r.Marked && r.Doubted.IsZero(), "marked %v, doubted %v", r.Marked, r.Doubted)
			k.that(r.Revision > doubt.Revision && r.Fence == b.Fence, "revision %d after %d, fence %d, want %d", r.Revision, doubt.Revision, r.Fence, b.Fence)
			k.that(r.LeaseEnd.After(r.Now), "the lease is over already")
			k.is(k.ok(k.open().Acquire(k.ctx, bid("b"))), store.Running, "a")
			k.answer(store.ErrMoved)(k.s.Takeover(k.ctx, bid("b"), doubt))
		},
	},
	{
		"a renewal does not take back a declared doubt",
		"An owner that said itself that it does not know has ended its run. A renewal that was still under way must not bring it back.",
		func(k *kit) {
			b, r := k.doubted("a")
			k.that(!r.Marked, "a doubt that the owner declared is Marked")
			k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Renew(k.ctx, b)))
		},
	},
	{
		"a doubt that was marked can be declared",
		"The owner's word counts more than the store's presumption: after it, a renewal is refused.",
		func(k *kit) {
			b, marked := k.marked("a")
			r := k.ok(k.s.Settle(k.ctx, b, inDoubt))
			k.is(r, store.InDoubt, "a")
			k.that(!r.Marked && r.Revision > marked.Revision, "marked %v, revision %d after %d", r.Marked, r.Revision, marked.Revision)
			k.unchanged(r, k.ok(k.s.Settle(k.ctx, b, inDoubt)))
			k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Renew(k.ctx, b)))
		},
	},
	{
		"a renewal without a record creates none",
		"Renew on an absent key answers ErrGone. A renewal that re-created the record would race the release of its own claim.",
		func(k *kit) {
			k.answer(store.ErrGone)(k.s.Renew(k.ctx, bid("a")))
			k.that(k.load(theKey).State == store.Absent, "Renew created a record")
			b := bid("b")
			k.grant(k.s, &b)
		},
	},
	{
		"only the owner renews",
		"A renewal by another nonce, or with the fence of another grant, is answered ErrSuperseded and extends nothing. Without a fence the nonce decides.",
		func(k *kit) {
			b := k.granted("a")
			r := k.load(theKey)
			k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Renew(k.ctx, bid("b"))))
			wrong := b
			wrong.Fence--
			k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Renew(k.ctx, wrong)))
			b.Fence = 0
			k.is(k.ok(k.s.Renew(k.ctx, b)), store.Running, "a")
		},
	},
	{
		"what has ended is not renewed",
		"After a settle, a release or a takeover the owner's renewals are answered ErrSuperseded and change nothing.",
		func(k *kit) {
			for _, o := range []store.Outcome{succeeded("1"), failed("no"), pending} {
				b := bid("a")
				b.Key += string(o.State)
				k.grant(k.s, &b)
				r := k.ok(k.s.Settle(k.ctx, b, o))
				k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Renew(k.ctx, b)))
			}
			a, b := k.superseded(true)
			r := k.load(theKey)
			k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Renew(k.ctx, a)))
			r = k.ok(k.s.Release(k.ctx, b))
			k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Renew(k.ctx, b)))
		},
	},
	{
		"the owner of an over lease is still granted its own claim",
		"A repeated Acquire of the owner is answered with its grant, whatever the clock says, as long as nobody has marked the doubt.",
		func(k *kit) {
			b := k.dead("a")
			r := k.load(theKey)
			k.unchanged(r, k.ok(k.s.Acquire(k.ctx, b)))
		},
	},
}
