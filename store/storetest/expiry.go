package storetest

import (
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// A record of shortTTL is gone once pastTTL has passed: a store may remember it
// a sixteenth longer.
const (
	shortTTL = 80 * time.Millisecond
	pastTTL  = 100 * time.Millisecond
)

// remembered checks that r is kept at least ttl from now.
func remembered(k *kit, r store.Record, ttl time.Duration) {
	k.Helper()
	k.that(r.Expires.IsZero() || !r.Expires.Before(r.Now.Add(ttl-tick)), "the record is kept %v from now, want %v", r.Expires.Sub(r.Now), ttl)
}

var expiryCases = []testCase{
	{
		"what is settled is forgotten after its TTL",
		"A record past its TTL is absent for everyone: Load, List and Acquire. The fence of the next grant is higher all the same.",
		func(k *kit) {
			a := bid("a")
			a.TTL = shortTTL
			k.grant(k.s, &a)
			remembered(k, k.ok(k.s.Settle(k.ctx, a, succeeded("1"))), shortTTL)
			k.pass(pastTTL)
			k.that(k.load(theKey).State == store.Absent, "the record is still there")
			for r, err := range k.s.List(k.ctx, store.Query{}) {
				k.fail("List yields %q, %v", r.State, err)
			}
			b := bid("b")
			r := k.grant(k.open(), &b)
			k.that(r.Fence > a.Fence && len(r.History) == 0, "fence %d after %d, history %+v", r.Fence, a.Fence, r.History)
			remembered(k, r, longTTL)
		},
	},
	{
		"a running record past its TTL is judged as the store judges",
		"A store that goes by its clock forgets the record. One that goes by a lock (LeaseByLock) knows that the owner lives: another claim would be a second run beside it.",
		func(k *kit) {
			a := bid("a")
			a.TTL = time.Millisecond
			r := k.grant(k.s, &a)
			k.pass(5 * time.Millisecond)
			other := k.open()
			loaded := k.ok(other.Load(k.ctx, theKey))
			if !k.h.LeaseByLock {
				k.that(loaded.State == store.Absent, "the record is still there")
				k.answer(store.ErrGone)(k.s.Renew(k.ctx, a))
				return
			}
			k.is(loaded, store.Running, "a")
			listed := 0
			for l, err := range other.List(k.ctx, store.Query{State: store.Running}) {
				k.is(k.ok(l, err), store.Running, "a")
				listed++
			}
			k.that(listed == 1, "List yields %d records", listed)
			asked := k.ok(other.Acquire(k.ctx, bid("b")))
			k.is(asked, store.Running, "a")
			k.that(asked.Fence == r.Fence, "the fence went from %d to %d", r.Fence, asked.Fence)
			remembered(k, asked, longTTL)
			k.ok(k.s.Settle(k.ctx, a, succeeded("1")))
			k.holds(k.load(theKey), succeeded("1"))
		},
	},
	{
		"a lease's end is not a record's end",
		"The record of a dead owner is the only evidence that its act may have happened. It stays for its whole TTL, whatever became of the lease.",
		func(k *kit) {
			b := bid("a")
			b.Lease = time.Millisecond
			s := k.open()
			k.grant(s, &b)
			k.h.Die(k.TB, s, time.Millisecond)
			k.pass(60 * time.Millisecond)
			k.is(k.load(theKey), store.Running, "a")
			k.is(k.ok(k.s.Acquire(k.ctx, bid("b"))), store.InDoubt, "a")
			k.pass(60 * time.Millisecond)
			r := k.load(theKey)
			k.is(r, store.InDoubt, "a")
			remembered(k, r, longTTL/2)
		},
	},
	{
		"a write never shortens what was promised",
		"Each write keeps the record at least its bid's TTL longer; a bid with a shorter one takes nothing back.",
		func(k *kit) {
			a := k.granted("a")
			a.TTL = time.Millisecond
			check := func(r store.Record) store.Record {
				k.Helper()
				remembered(k, r, longTTL-time.Minute)
				return r
			}
			check(k.ok(k.s.Renew(k.ctx, a)))
			doubt := check(k.ok(k.s.Settle(k.ctx, a, inDoubt)))
			b := bid("b")
			b.TTL = time.Millisecond
			check(k.ok(k.s.Acquire(k.ctx, b)))
			b.Fence = check(k.ok(k.s.Takeover(k.ctx, b, doubt))).Fence
			settled := check(k.ok(k.s.Settle(k.ctx, b, succeeded("1"))))
			res := decide("1", store.Tombstone)
			res.TTL = time.Millisecond
			check(k.ok(k.s.Resolve(k.ctx, theKey, settled, res)))
			k.pass(5 * time.Millisecond)
			k.is(check(k.load(theKey)), store.Tombstone, "b")
			c := bid("c")
			c.TTL = time.Millisecond
			check(k.grant(k.s, &c))
			check(k.ok(k.s.Release(k.ctx, c)))
		},
	},
	{
		"every write keeps the record its TTL longer",
		"A renewal, a settle, a takeover and a resolution each count as contact: from then on the record is kept for at least the TTL they say.",
		func(k *kit) {
			a := bid("a")
			a.TTL = time.Hour
			remembered(k, k.grant(k.s, &a), a.TTL)
			a.TTL = 2 * time.Hour
			remembered(k, k.ok(k.s.Renew(k.ctx, a)), a.TTL)
			a.TTL = 3 * time.Hour
			doubt := k.ok(k.s.Settle(k.ctx, a, inDoubt))
			remembered(k, doubt, a.TTL)
			b := bid("b")
			b.TTL = 4 * time.Hour
			r := k.ok(k.s.Takeover(k.ctx, b, doubt))
			remembered(k, r, b.TTL)
			b.Fence, b.TTL = r.Fence, 5*time.Hour
			r = k.ok(k.s.Release(k.ctx, b))
			k.is(r, store.InDoubt, "b")
			remembered(k, r, b.TTL)
			res := decide("1", store.Tombstone)
			res.TTL = 6 * time.Hour
			remembered(k, k.ok(k.s.Resolve(k.ctx, theKey, r, res)), res.TTL)
		},
	},
	{
		"a mark keeps the record its TTL longer",
		"An Acquire that marks a doubt is contact too: the record is kept for at least the TTL of its bid.",
		func(k *kit) {
			a, s := bid("a"), k.open()
			a.TTL, a.Lease = time.Hour, shortLease
			k.grant(s, &a)
			k.h.Die(k.TB, s, shortLease)
			r := k.ok(k.s.Acquire(k.ctx, bid("b")))
			k.is(r, store.InDoubt, "a")
			remembered(k, r, longTTL)
			remembered(k, k.load(theKey), longTTL)
		},
	},
	{
		"a duplicate's question extends the memory",
		"A record is remembered for the TTL after the last contact. A duplicate that asks for the key is contact: it extends the expiry, and is no write.",
		func(k *kit) {
			a := bid("a")
			a.TTL = 300 * time.Millisecond
			k.grant(k.s, &a)
			r := k.ok(k.s.Settle(k.ctx, a, succeeded("1")))
			asked := k.ok(k.s.Acquire(k.ctx, bid("b")))
			k.unchanged(r, asked)
			remembered(k, asked, longTTL)
			remembered(k, k.load(theKey), longTTL)
			k.pass(350 * time.Millisecond)
			k.holds(k.load(theKey), succeeded("1"))
		},
	},
	{
		"Forever has no end",
		"A record with the TTL Forever has no expiry, and no later write gives it one.",
		func(k *kit) {
			a := bid("a")
			a.TTL = store.Forever
			r := k.grant(k.s, &a)
			k.that(r.Expires.IsZero(), "a record kept forever expires at %v", r.Expires)
			a.TTL = time.Millisecond
			r = k.ok(k.s.Settle(k.ctx, a, succeeded("1")))
			k.that(r.Expires.IsZero(), "a record kept forever expires at %v", r.Expires)
			b := bid("b")
			b.TTL = time.Millisecond
			k.ok(k.s.Acquire(k.ctx, b))
			k.pass(5 * time.Millisecond)
			r = k.load(theKey)
			k.holds(r, succeeded("1"))
			k.that(r.Expires.IsZero(), "a record kept forever expires at %v", r.Expires)
		},
	},
	{
		"Forever can be said later",
		"A duplicate, or a settle, whose TTL is Forever takes the expiry away.",
		func(k *kit) {
			a := bid("a")
			a.TTL = 300 * time.Millisecond
			k.grant(k.s, &a)
			k.ok(k.s.Settle(k.ctx, a, succeeded("1")))
			b := bid("b")
			b.TTL = store.Forever
			r := k.ok(k.s.Acquire(k.ctx, b))
			k.that(r.Expires.IsZero(), "it expires at %v", r.Expires)
			k.pass(350 * time.Millisecond)
			k.holds(k.load(theKey), succeeded("1"))
		},
	},
	{
		"an owner can say Forever later",
		"A renewal and a settle whose TTL is Forever take the expiry away, as any other write does.",
		func(k *kit) {
			for _, verb := range []string{"renew", "settle"} {
				b := bid("a")
				b.Key, b.TTL = b.Key+verb, time.Hour
				k.grant(k.s, &b)
				b.TTL = store.Forever
				if verb == "renew" && !k.h.LeaseByLock {
					r := k.ok(k.s.Renew(k.ctx, b))
					k.that(r.Expires.IsZero(), "after a renewal it expires at %v", r.Expires)
					r = k.load(b.Key)
					k.that(r.Expires.IsZero(), "after a renewal it expires at %v", r.Expires)
					b.TTL = time.Hour
				} else {
					verb = "settle"
				}
				r := k.ok(k.s.Settle(k.ctx, b, succeeded("1")))
				k.that(r.Expires.IsZero(), "after a %s it expires at %v", verb, r.Expires)
				r = k.load(b.Key)
				k.that(r.Expires.IsZero(), "after a %s it expires at %v", verb, r.Expires)
			}
		},
	},
	{
		"an owner that settles past its TTL says that it was forgotten",
		"The record of a claim past its TTL is absent for its owner too, although nobody has asked since: others may have been granted the key.",
		func(k *kit) {
			if k.h.LeaseByLock {
				return // its owner lives
			}
			a := bid("a")
			a.TTL = time.Millisecond
			k.grant(k.s, &a)
			k.pass(5 * time.Millisecond)
			a.TTL = longTTL
			r := k.ok(k.s.Settle(k.ctx, a, succeeded("1")))
			k.that(r.Forgotten, "the record is not marked as forgotten")
			k.holds(k.load(theKey), succeeded("1"))
		},
	},
	{
		"a tombstone outlives a short TTL",
		"A tombstone recognizes delayed duplicates for TombstoneTTL, however short the bid's TTL is; so does one that a release of an absent key left.",
		func(k *kit) {
			a := bid("a")
			a.TTL = shortTTL
			k.grant(k.s, &a)
			remembered(k, k.ok(k.s.Release(k.ctx, a)), store.TombstoneTTL)
			k.pass(pastTTL)
			k.answer(store.ErrSuperseded)(k.s.Acquire(k.ctx, a))
			b := bid("b")
			b.Key, b.TTL = b.Key+"b", time.Millisecond
			remembered(k, k.ok(k.s.Release(k.ctx, b)), store.TombstoneTTL)
		},
	},
}
