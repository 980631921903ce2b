package storetest

import (
	"fmt"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

var acquireCases = []testCase{
	{
		"an absent key is granted",
		"Acquire of a key without a record makes the bid its owner, with a fence, for the length of its lease, and keeps what the bid says about itself.",
		func(k *kit) {
			k.that(k.load(theKey).State == store.Absent, "the store is not empty at first")
			b := bid("a")
			b.Deadline = time.Hour
			b.Info = fullInfo
			r := k.grant(k.s, &b)
			k.that(r.Key == theKey && r.Fence > 0 && r.Revision > 0 && r.Origin == store.First,
				"key %q, fence %d, revision %d, origin %q", r.Key, r.Fence, r.Revision, r.Origin)
			k.that(!r.Now.IsZero() && near(r.Claimed, r.Now), "claimed at %v, the clock says %v", r.Claimed, r.Now)
			k.that(near(r.LeaseEnd, r.Now.Add(longLease)), "the lease ends at %v, %v after now", r.LeaseEnd, r.LeaseEnd.Sub(r.Now))
			k.that(near(r.Deadline, r.Now.Add(time.Hour)), "the deadline is %v, %v after now", r.Deadline, r.Deadline.Sub(r.Now))
			k.that(!r.Expires.Before(r.Now.Add(longTTL).Add(-time.Millisecond)), "it expires %v after now", r.Expires.Sub(r.Now))
			d := differentInfo(fullInfo, r.Info)
			k.that(d == "", "%s", d)
			k.unchanged(r, k.ok(k.open().Load(k.ctx, theKey)))
		},
	},
	{
		"a claim without a deadline has none",
		"Deadline 0 means unlimited: the record's deadline is the zero time.",
		func(k *kit) {
			b := bid("a")
			r := k.grant(k.s, &b)
			k.that(r.Deadline.IsZero(), "the deadline is %v", r.Deadline)
		},
	},
	{
		"the same nonce gets the same grant",
		"A reply can be lost, and the call is then repeated: the second Acquire of one nonce answers the first's grant, on any handle, and writes nothing.",
		func(k *kit) {
			b := bid("a")
			r := k.grant(k.s, &b)
			b.Fence = 0
			k.unchanged(r, k.ok(k.s.Acquire(k.ctx, b)))
			k.unchanged(r, k.ok(k.open().Acquire(k.ctx, b)))
		},
	},
	{
		"a running record is left to its owner",
		"While its owner is presumed alive, Acquire by another nonce answers the record as it is, without an error and without raising the revision.",
		func(k *kit) {
			b := bid("a")
			r := k.grant(k.s, &b)
			k.pass(2 * time.Millisecond)
			k.unchanged(r, k.ok(k.s.Acquire(k.ctx, bid("b"))))
			k.unchanged(r, k.ok(k.open().Acquire(k.ctx, bid("b"))))
			k.ok(k.s.Settle(k.ctx, b, succeeded("1")))
		},
	},
	{
		"what is settled, in doubt or pending is left as it is",
		"Acquire grants nothing but an absent key and a tombstone. Everything else is answered as it stands.",
		func(k *kit) {
			for _, o := range []store.Outcome{succeeded("1"), failed("no"), inDoubt, pending} {
				b := bid("a")
				b.Key += string(o.State)
				k.grant(k.s, &b)
				r := k.ok(k.s.Settle(k.ctx, b, o))
				other := bid("b")
				other.Key = b.Key
				k.unchanged(r, k.ok(k.open().Acquire(k.ctx, other)))
			}
		},
	},
	{
		"a claim that has ended is not granted again",
		"A delayed duplicate of a claim's Acquire must not revive it after its owner has settled: nobody would ever end that claim.",
		func(k *kit) {
			for _, o := range []store.Outcome{succeeded("1"), failed("no"), inDoubt, pending} {
				b := bid("a")
				b.Key += string(o.State)
				k.grant(k.s, &b)
				r := k.ok(k.s.Settle(k.ctx, b, o))
				b.Fence = 0
				again, _ := k.s.Acquire(k.ctx, b)
				k.unchanged(r, again)
			}
		},
	},
	{
		"a tombstone is granted",
		"A released key is free. The new grant is a first run with a higher fence, and the history names the claim that gave the key back.",
		func(k *kit) {
			a := k.granted("a")
			tomb := k.ok(k.s.Release(k.ctx, a))
			b := bid("b")
			r := k.grant(k.s, &b)
			k.that(r.Fence > a.Fence, "the fence went from %d to %d", a.Fence, r.Fence)
			k.that(r.Revision > tomb.Revision, "the revision went from %d to %d", tomb.Revision, r.Revision)
			k.that(r.Origin == store.First && r.Settled.IsZero(), "origin %q, settled %v", r.Origin, r.Settled)
			e := k.event(r, store.TurnReleased, "a")
			k.that(e.Fence == a.Fence, "the event's fence is %d, want %d", e.Fence, a.Fence)
			k.that(r.Info.Holder.WorkflowID == "order-b", "the record describes %q", r.Info.Holder.WorkflowID)
		},
	},
	{
		"a released nonce is refused",
		"A delayed duplicate of an Acquire may arrive after its Release. Granting it would leave a claim that nobody knows of, and a doubt about nothing.",
		func(k *kit) {
			a := k.granted("a")
			tomb := k.ok(k.s.Release(k.ctx, a))
			a.Fence = 0
			k.unchanged(tomb, k.answer(store.ErrSuperseded)(k.s.Acquire(k.ctx, a)))

			b := k.granted("b")
			running := k.load(theKey)
			k.unchanged(running, k.answer(store.ErrSuperseded)(k.s.Acquire(k.ctx, a)))
			tomb = k.ok(k.s.Release(k.ctx, b))
			k.unchanged(tomb, k.answer(store.ErrSuperseded)(k.open().Acquire(k.ctx, a)))
		},
	},
	{
		"a superseded nonce is refused",
		"A claim that was taken over from, or resolved by an operator, has come to its end: its delayed Acquire is refused.",
		func(k *kit) {
			a, b := k.superseded(true)
			a.Fence = 0
			r := k.load(theKey)
			k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Acquire(k.ctx, a)))
			tomb := k.ok(k.s.Release(k.ctx, b))
			k.unchanged(tomb, k.answer(store.ErrSuperseded)(k.s.Acquire(k.ctx, a)))

			c := k.granted("c")
			r = k.ok(k.s.Settle(k.ctx, c, succeeded("1")))
			tomb = k.ok(k.s.Resolve(k.ctx, theKey, r, decide("1", store.Tombstone)))
			c.Fence = 0
			k.unchanged(tomb, k.answer(store.ErrSuperseded)(k.s.Acquire(k.ctx, c)))
		},
	},
	{
		"fences and revisions rise with every claim",
		"The fence orders the grants of a key, so each is higher than all before. Each write raises the revision, so that a compare-and-set sees it. The history stays bounded, and forgets releases first.",
		func(k *kit) {
			a, r := k.doubted("a")
			b := k.took("b", r, true)
			last := k.ok(k.s.Release(k.ctx, b))
			k.that(b.Fence > a.Fence, "the fence went from %d to %d", a.Fence, b.Fence)
			for i := range 80 {
				c := bid(fmt.Sprint("c", i))
				r := k.grant(k.s, &c)
				k.that(r.Fence > last.Fence, "the fence went from %d to %d", last.Fence, r.Fence)
				k.that(r.Revision > last.Revision, "the revision went from %d to %d", last.Revision, r.Revision)
				tomb := k.ok(k.s.Release(k.ctx, c))
				k.that(tomb.Revision > r.Revision, "the revision went from %d to %d", r.Revision, tomb.Revision)
				last = tomb
			}
			k.event(last, store.TurnTakenOver, "a")
			k.that(len(last.History) < 80, "the history of 80 releases has %d events", len(last.History))
		},
	},
	{
		"reads and refusals raise no revision",
		"Only a write raises the revision. If a duplicate's question raised it, a takeover that compares revisions would never get through.",
		func(k *kit) {
			b := k.granted("a")
			r := k.load(theKey)
			for range 3 {
				k.ok(k.s.Load(k.ctx, theKey))
				k.ok(k.s.Acquire(k.ctx, bid("b")))
				for _, err := range k.s.List(k.ctx, store.Query{}) {
					k.that(err == nil, "List: %v", err)
				}
				k.answer(store.ErrSuperseded)(k.s.Renew(k.ctx, bid("b")))
				k.answer(store.ErrSuperseded)(k.s.Release(k.ctx, bid("b")))
				k.answer(store.ErrMoved)(k.s.Takeover(k.ctx, bid("b"), r))
			}
			k.unchanged(r, k.ok(k.s.Acquire(k.ctx, b)))
		},
	},
	{
		"other keys are unaffected",
		"A record is of one key only: what happens to one key is not seen at another.",
		func(k *kit) {
			other := bid("other")
			other.Key += "0"
			k.grant(k.s, &other)
			r := k.load(other.Key)
			a, doubt := k.doubted("a")
			k.took("b", doubt, false)
			k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, succeeded("1")))
			k.unchanged(r, k.ok(k.s.Acquire(k.ctx, other)))
		},
	},
}

// fullInfo has every field set.
var fullInfo = store.Info{
	Activity: "ChargeCard",
	Input:    "sha256:00ff",
	Match:    "sha256:ff00",
	Trace:    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	Holder: store.Holder{
		Namespace: "default", WorkflowID: "order/7 \"ü\"\n", RunID: "run", ActivityID: "5", ActivityRunID: "arun",
		Local: true, Scheduled: time.Date(2026, 2, 28, 23, 59, 59, 123456789, time.UTC), Attempt: 3, Worker: "4711@host@",
		OriginalRunID: "orun", Occurrence: 2,
	},
}

// tick is the least precise clock that a store may have.
const tick = 2 * time.Millisecond

// near allows for the store's precision.
func near(a, b time.Time) bool {
	return a.Sub(b).Abs() <= tick
}
