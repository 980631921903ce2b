package storetest

import (
	"fmt"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

var takeoverCases = []testCase{
	{
		"what is in doubt or pending is taken over",
		"Takeover gives the key to the bid under a new and higher fence, and notes in the history from whom and from which state.",
		func(k *kit) {
			for _, o := range []store.Outcome{inDoubt, pending} {
				a := bid("a")
				a.Key += string(o.State)
				a.Deadline = time.Hour
				k.grant(k.s, &a)
				from := k.ok(k.s.Settle(k.ctx, a, o))
				b := bid("b")
				b.Key, b.Info = a.Key, fullInfo
				r := k.ok(k.open().Takeover(k.ctx, b, from))
				k.is(r, store.Running, "b")
				k.that(r.Origin == store.Taken, "the origin is %q", r.Origin)
				k.that(r.Fence > a.Fence && r.Revision > from.Revision, "fence %d after %d, revision %d after %d", r.Fence, a.Fence, r.Revision, from.Revision)
				k.that(r.Doubted.IsZero() && !r.Marked && r.LeaseEnd.After(r.Now), "doubted %v, marked %v, lease end %v", r.Doubted, r.Marked, r.LeaseEnd)
				k.that(r.Deadline.IsZero(), "the deadline is still that of another claim: %v", r.Deadline)
				e := k.event(r, store.TurnTakenOver, "a")
				k.that(e.From == o.State && e.Fence == a.Fence && near(e.At, r.Now), "the event is %+v", e)
				d := differentInfo(fullInfo, r.Info)
				k.that(d == "", "%s", d)
				k.unchanged(r, k.ok(k.s.Load(k.ctx, a.Key)))
			}
		},
	},
	{
		"a marked doubt is taken over",
		"A doubt that the store marked is taken over like a declared one, and the owner's renewal is then refused.",
		func(k *kit) {
			a, doubt := k.marked("a")
			b := k.took("b", doubt, false)
			r := k.load(theKey)
			k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Renew(k.ctx, a)))
			k.is(k.ok(k.s.Renew(k.ctx, b)), store.Running, "b")
		},
	},
	{
		"a clean takeover says so",
		"Clean says that the predecessors are known not to have taken effect; the record keeps that as its origin, for the release.",
		func(k *kit) {
			_, b := k.superseded(true)
			r := k.load(theKey)
			k.that(r.Origin == store.Clean, "the origin is %q", r.Origin)
			k.holds(k.ok(k.s.Settle(k.ctx, b, succeeded("1"))), succeeded("1"))
		},
	},
	{
		"a takeover may be repeated",
		"A takeover whose reply was lost is sent again, from the same reading: it answers the same grant and writes nothing.",
		func(k *kit) {
			_, from := k.doubted("a")
			b := k.took("b", from, false)
			r := k.load(theKey)
			b.Fence = 0
			k.unchanged(r, k.ok(k.s.Takeover(k.ctx, b, from)))
			k.unchanged(r, k.ok(k.open().Takeover(k.ctx, b, from)))
		},
	},
	{
		"a delayed takeover is refused",
		"When the claim that took over has ended, a duplicate of its takeover must not grant the key again.",
		func(k *kit) {
			_, from := k.doubted("a")
			b := k.took("b", from, false)
			doubt := k.ok(k.s.Settle(k.ctx, b, inDoubt))
			k.unchanged(doubt, k.answer(store.ErrMoved)(k.s.Takeover(k.ctx, b, from)))
			k.took("c", doubt, false)
			r := k.load(theKey)
			k.unchanged(r, k.answer(store.ErrMoved)(k.s.Takeover(k.ctx, b, from)))
			k.unchanged(r, k.answer(store.ErrMoved)(k.s.Takeover(k.ctx, b, doubt)))
		},
	},
	{
		"a spent nonce takes nothing over",
		"A nonce that owned the record before, or owns what is in doubt, is refused with ErrSuperseded: one nonce is one run.",
		func(k *kit) {
			a, from := k.doubted("a")
			k.unchanged(from, k.answer(store.ErrSuperseded)(k.s.Takeover(k.ctx, a, from)))
			b := k.took("b", from, false)
			from = k.ok(k.s.Settle(k.ctx, b, inDoubt))
			k.unchanged(from, k.answer(store.ErrSuperseded)(k.s.Takeover(k.ctx, a, from)))
		},
	},
	{
		"a takeover compares the revision",
		"Between the reading and the takeover the owner may have been heard: state and fence are as they were, and only the revision tells. The answer is ErrMoved.",
		func(k *kit) {
			a, from := k.marked("a")
			b := bid("b")
			stale := from
			stale.Revision--
			k.unchanged(from, k.answer(store.ErrMoved)(k.s.Takeover(k.ctx, b, stale)))
			again := k.ok(k.s.Settle(k.ctx, a, inDoubt))
			k.that(again.State == from.State && again.Fence == from.Fence, "the record is not as it was: %+v", again)
			k.unchanged(again, k.answer(store.ErrMoved)(k.s.Takeover(k.ctx, b, from)))
			stale = again
			stale.State = store.Pending
			k.unchanged(again, k.answer(store.ErrMoved)(k.s.Takeover(k.ctx, b, stale)))
		},
	},
	{
		"an owner that healed first is not taken over",
		"Takeover is a compare-and-set: whoever reads a doubt, asks, and then takes over, finds the owner's settlement and not its own grant.",
		func(k *kit) {
			for _, o := range outcomes[:2] {
				a := bid("a")
				a.Key += string(o.State)
				k.grant(k.s, &a)
				from := k.ok(k.s.Settle(k.ctx, a, inDoubt))
				r := k.ok(k.s.Settle(k.ctx, a, o))
				b := bid("b")
				b.Key = a.Key
				k.unchanged(r, k.answer(store.ErrMoved)(k.s.Takeover(k.ctx, b, from)))
			}
		},
	},
	{
		"nothing else is taken over",
		"Only what is in doubt or pending is taken over, however recent the reading: not a running record, not a settled one, not a free key.",
		func(k *kit) {
			b := bid("b")
			k.answer(store.ErrMoved)(k.s.Takeover(k.ctx, b, k.load(theKey)))
			k.that(k.load(theKey).State == store.Absent, "Takeover created a record")
			a := k.granted("a")
			r := k.load(theKey)
			k.unchanged(r, k.answer(store.ErrMoved)(k.s.Takeover(k.ctx, b, r)))
			r = k.ok(k.s.Release(k.ctx, a))
			k.unchanged(r, k.answer(store.ErrMoved)(k.s.Takeover(k.ctx, b, r)))
			for _, o := range outcomes[:2] {
				a := bid("a")
				a.Key += string(o.State)
				k.grant(k.s, &a)
				r := k.ok(k.s.Settle(k.ctx, a, o))
				b.Key = a.Key
				k.unchanged(r, k.answer(store.ErrMoved)(k.s.Takeover(k.ctx, b, r)))
			}
		},
	},
	{
		"the history forgets the oldest",
		"The history is bounded. What it forgets first are releases, then what is the longest ago: the last turns are what an operator, and a repeated call, must find.",
		func(k *kit) {
			_, r := k.doubted("0")
			n := 0
			for len(r.History) == n && n < 200 {
				n++
				r = k.ok(k.s.Settle(k.ctx, k.took(fmt.Sprint(n), r, true), inDoubt))
			}
			limit := len(r.History)
			k.that(limit >= 16 && limit < n, "%d takeovers leave a history of %d events", n, limit)
			for i, e := range r.History {
				want := fmt.Sprint(n - limit + i)
				k.that(e.What == store.TurnTakenOver && e.Owner == want, "event %d of %d is %q about %q, want a takeover of %q", i, limit, e.What, e.Owner, want)
			}
			k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Acquire(k.ctx, bid(fmt.Sprint(n-1)))))

			b := k.took("released", r, true)
			oldest := fmt.Sprint(n - limit + 1)
			k.event(k.load(theKey), store.TurnTakenOver, oldest)
			k.ok(k.s.Release(k.ctx, b))
			k.granted("next")
			k.event(k.load(theKey), store.TurnTakenOver, oldest)
		},
	},
}
