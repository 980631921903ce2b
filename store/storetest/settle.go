package storetest

import "github.com/atmostonce/atmostonce/store"

var outcomes = []store.Outcome{succeeded("1"), failed("no"), inDoubt, pending}

var settleCases = []testCase{
	{
		"the owner settles",
		"Settle writes what came of the act: the state, the outcome's bytes as they are, and when.",
		func(k *kit) {
			for _, o := range outcomes {
				b := bid("a")
				b.Key += string(o.State)
				granted := k.grant(k.s, &b)
				r := k.ok(k.s.Settle(k.ctx, b, o))
				k.is(r, o.State, "a")
				k.that(r.Fence == b.Fence && r.Revision > granted.Revision, "fence %d, want %d; revision %d after %d", r.Fence, b.Fence, r.Revision, granted.Revision)
				switch o.State {
				case store.Succeeded, store.Failed:
					k.holds(r, o)
					k.that(near(r.Settled, r.Now), "settled at %v, the clock says %v", r.Settled, r.Now)
				case store.InDoubt:
					k.that(near(r.Doubted, r.Now) && !r.Marked, "doubted at %v, marked %v", r.Doubted, r.Marked)
				}
				k.that(r.By == "", "the owner's own outcome is by %q", r.By)
				k.unchanged(r, k.ok(k.open().Load(k.ctx, b.Key)))
			}
		},
	},
	{
		"a settle may be repeated",
		"A settle whose reply was lost is sent again. It answers as it did the first time, and changes nothing, the revision included.",
		func(k *kit) {
			for _, o := range outcomes {
				b := bid("a")
				b.Key += string(o.State)
				k.grant(k.s, &b)
				r := k.ok(k.s.Settle(k.ctx, b, o))
				k.unchanged(r, k.ok(k.s.Settle(k.ctx, b, o)))
				k.unchanged(r, k.ok(k.open().Settle(k.ctx, b, o)))
			}
		},
	},
	{
		"the first settlement stands",
		"Once a claim's success or failure is accepted, another settle of the same claim does not replace it.",
		func(k *kit) {
			for _, first := range outcomes[:2] {
				b := bid("a")
				b.Key += string(first.State)
				k.grant(k.s, &b)
				r := k.ok(k.s.Settle(k.ctx, b, first))
				for _, o := range []store.Outcome{succeeded("2"), failed("2"), inDoubt, pending} {
					k.unchanged(r, k.ok(k.s.Settle(k.ctx, b, o)))
				}
			}
		},
	},
	{
		"an owner that comes late is heard",
		"Settle asks for nonce and fence, never for the time: an owner whose lease is over, and that nobody superseded, knows what nobody else does.",
		func(k *kit) {
			for _, o := range outcomes {
				b, s := bid("a"), k.open()
				b.Key, b.Lease = b.Key+string(o.State), shortLease
				k.grant(s, &b)
				k.h.Die(k.TB, s, shortLease)
				k.is(k.ok(k.s.Settle(k.ctx, b, o)), o.State, "a")
			}
		},
	},
	{
		"the owner heals what is in doubt",
		"A late but unsuperseded owner settles a record in doubt, whether the store marked the doubt or the owner declared it.",
		func(k *kit) {
			for _, o := range outcomes[:2] {
				b := bid("a")
				b.Key += string(o.State)
				k.grant(k.s, &b)
				k.ok(k.s.Settle(k.ctx, b, inDoubt))
				r := k.ok(k.s.Settle(k.ctx, b, o))
				k.holds(r, o)
				k.that(r.Doubted.IsZero(), "a settled record is doubted since %v", r.Doubted)
			}
			b, _ := k.marked("a")
			r := k.ok(k.s.Settle(k.ctx, b, succeeded("1")))
			k.holds(r, succeeded("1"))
			k.that(!r.Marked, "a settled record is Marked")
			k.unchanged(r, k.ok(k.s.Acquire(k.ctx, bid("b"))))
		},
	},
	{
		"what is pending is settled by its owner",
		"The end of an asynchronous activity is reported later, with the nonce of the claim that started it: success, failure, or doubt.",
		func(k *kit) {
			for _, o := range outcomes[:3] {
				b := bid("a")
				b.Key += string(o.State)
				k.grant(k.s, &b)
				k.ok(k.s.Settle(k.ctx, b, pending))
				r := k.ok(k.open().Settle(k.ctx, b, o))
				k.is(r, o.State, "a")
				k.unchanged(r, k.ok(k.s.Settle(k.ctx, b, o)))
			}
		},
	},
	{
		"only the owner settles",
		"A settle by another nonce, or with the fence of another grant, is answered ErrSuperseded and changes nothing. (A success of another is evidence: see the cases of late owners.)",
		func(k *kit) {
			b := k.granted("a")
			r := k.load(theKey)
			wrong := b
			wrong.Fence--
			for _, o := range []store.Outcome{failed("no"), inDoubt, pending} {
				k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Settle(k.ctx, bid("b"), o)))
				k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Settle(k.ctx, wrong, o)))
			}
			b.Fence = 0
			k.holds(k.ok(k.s.Settle(k.ctx, b, succeeded("1"))), succeeded("1"))
		},
	},
	{
		"a forgotten record is created whole",
		"If the store lost the claim, what the owner knows is the only truth there is. Settle creates the record from the bid, sets Forgotten and says so in the history; repeated, it changes nothing.",
		func(k *kit) {
			for _, o := range outcomes {
				b := bid("a")
				b.Key, b.Fence, b.Info = b.Key+string(o.State), 77, fullInfo
				r := k.ok(k.s.Settle(k.ctx, b, o))
				k.is(r, o.State, "a")
				k.that(r.Key == b.Key && r.Fence == 77 && r.Revision > 0, "key %q, fence %d, revision %d", r.Key, r.Fence, r.Revision)
				k.that(r.Forgotten, "Forgotten is not set")
				k.that(r.Expires.After(r.Now.Add(longTTL-tick)), "it expires %v after now", r.Expires.Sub(r.Now))
				k.event(r, store.TurnForgotten, "a")
				d := differentInfo(fullInfo, r.Info)
				k.that(d == "", "%s", d)
				if o.State == store.Succeeded || o.State == store.Failed {
					k.holds(r, o)
				}
				k.unchanged(r, k.ok(k.open().Settle(k.ctx, b, o)))
				other := bid("b")
				other.Key = b.Key
				k.unchanged(r, k.ok(k.s.Acquire(k.ctx, other)))
			}
		},
	},
	{
		"a forgotten record keeps the fences rising",
		"A record that a settle re-created has the fence of its claim: the next grant's is higher, even if the store's clock went back.",
		func(k *kit) {
			b := bid("a")
			b.Fence = 1 << 52
			r := k.ok(k.s.Settle(k.ctx, b, inDoubt))
			k.that(r.Fence == b.Fence, "the fence is %d, want %d", r.Fence, b.Fence)
			c := k.took("c", r, false)
			k.that(c.Fence > b.Fence, "the fence went from %d to %d", b.Fence, c.Fence)
		},
	},
	{
		"a settle without a fence creates a record with one",
		"A claim whose grant was never answered has no fence to give; the record has one all the same.",
		func(k *kit) {
			r := k.ok(k.s.Settle(k.ctx, bid("a"), inDoubt))
			k.that(r.Fence > 0, "the fence is 0")
		},
	},
	{
		"a success heals the claim's own tombstone",
		"An owner that gave the key back and then finds that the act did happen must be heard, or it would happen again. Anything less than a success does not undo a release.",
		func(k *kit) {
			b := k.granted("a")
			tomb := k.ok(k.s.Release(k.ctx, b))
			for _, o := range []store.Outcome{failed("no"), inDoubt, pending} {
				k.unchanged(tomb, k.answer(store.ErrSuperseded)(k.s.Settle(k.ctx, b, o)))
			}
			r := k.ok(k.s.Settle(k.ctx, b, succeeded("1")))
			k.holds(r, succeeded("1"))
			k.that(!r.Expires.Before(r.Now.Add(longTTL-tick)), "it expires %v after now", r.Expires.Sub(r.Now))
			k.unchanged(r, k.ok(k.s.Settle(k.ctx, b, succeeded("1"))))
			k.unchanged(r, k.ok(k.s.Acquire(k.ctx, bid("b"))))
		},
	},
	{
		"a doubt keeps why",
		"An owner that does not know may say after which error. Whoever meets the record is told, byte for byte, for as long as the doubt lasts; the first answer stands.",
		func(k *kit) {
			for name, data := range map[string][]byte{"text": []byte("reset by peer"), "binary": binary(1 << 12)} {
				for _, before := range []store.Outcome{{}, pending} {
					b := bid("a")
					b.Key += name + string(before.State)
					k.grant(k.s, &b)
					if before.State != "" {
						k.ok(k.s.Settle(k.ctx, b, before))
					}
					r := k.ok(k.s.Settle(k.ctx, b, doubtful(string(data))))
					k.holds(r, doubtful(string(data)))
					k.unchanged(r, k.ok(k.s.Settle(k.ctx, b, doubtful("another"))))
					k.unchanged(r, k.ok(k.s.Settle(k.ctx, b, inDoubt)))
					other := bid("b")
					other.Key = b.Key
					k.unchanged(r, k.ok(k.open().Acquire(k.ctx, other)))
				}
			}
			forgotten := bid("a")
			forgotten.Fence = 77
			k.holds(k.ok(k.s.Settle(k.ctx, forgotten, doubtful("why"))), doubtful("why"))
			for r, err := range k.s.List(k.ctx, store.Query{State: store.InDoubt}) {
				k.that(k.ok(r, err).Outcome.State == store.InDoubt, "listed with the outcome %s", show(r.Outcome))
			}
		},
	},
	{
		"why there was a doubt ends with it",
		"What an owner did not know is nothing to go by once somebody has taken over, or knows.",
		func(k *kit) {
			ends := map[string]func(b store.Bid, r store.Record) store.Record{
				"takeover": func(b store.Bid, r store.Record) store.Record {
					next := bid("b")
					next.Key = b.Key
					return k.ok(k.s.Takeover(k.ctx, next, r))
				},
				"release": func(b store.Bid, _ store.Record) store.Record { return k.ok(k.s.Release(k.ctx, b)) },
				"resolution": func(b store.Bid, r store.Record) store.Record {
					return k.ok(k.s.Resolve(k.ctx, b.Key, r, decide("1", store.Tombstone)))
				},
			}
			for name, end := range ends {
				b := bid("a")
				b.Key += name
				k.grant(k.s, &b)
				end(b, k.ok(k.s.Settle(k.ctx, b, doubtful("why"))))
				r := k.load(b.Key)
				k.that(r.Outcome.IsZero(), "after a %s the outcome is %s", name, show(r.Outcome))
			}
			for _, o := range outcomes[:2] {
				b := bid("a")
				b.Key += string(o.State)
				k.grant(k.s, &b)
				k.ok(k.s.Settle(k.ctx, b, doubtful("why")))
				k.holds(k.ok(k.s.Settle(k.ctx, b, o)), o)

				b.Key += "missing"
				b.Fence = 0
				k.grant(k.s, &b)
				r := k.ok(k.s.Settle(k.ctx, b, doubtful("why")))
				res := decide("1", o.State)
				res.Outcome = store.Outcome{Missing: "nobody knows it"}
				resolved(k, k.ok(k.s.Resolve(k.ctx, b.Key, r, res)), r, res)
			}
			a, b := k.superseded(false)
			r := k.ok(k.s.Settle(k.ctx, b, doubtful("why")))
			k.holds(r, doubtful("why"))
			k.holds(k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, succeeded("late"))), succeeded("late"))
		},
	},
}
