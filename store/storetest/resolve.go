package storetest

import "github.com/atmostonce/atmostonce/store"

var decisions = []store.State{store.Succeeded, store.Failed, store.Tombstone}

// reopens is 1 if res reopens a success.
func reopens(from store.Record, res store.Resolution) uint64 {
	if from.State == store.Succeeded && res.To == store.Tombstone {
		return 1
	}
	return 0
}

// resolved checks what a resolution wrote.
func resolved(k *kit, r store.Record, from store.Record, res store.Resolution) {
	k.Helper()
	k.is(r, res.To, from.Owner)
	k.that(r.By == res.By && r.Revision > from.Revision && r.Fence == from.Fence,
		"by %q, revision %d after %d, fence %d, was %d", r.By, r.Revision, from.Revision, r.Fence, from.Fence)
	k.generation(r, from.Generation+reopens(from, res))
	e := k.event(r, store.TurnResolved, from.Owner)
	k.that(e.From == from.State && e.FromBy == from.By && e.By == res.By && e.Fence == from.Fence, "the event is %+v", e)
	k.that(e.Who == res.Who && e.Why == res.Why && e.ID == res.ID, "the event is %+v", e)
	k.extends(r.History, from.History)
	if res.To == store.Tombstone {
		k.that(r.Outcome.IsZero() && r.Kept == nil, "a tombstone has an outcome: %s", show(r.Outcome))
		return
	}
	want := res.Outcome
	want.State = res.To
	k.holds(r, want)
}

var resolveCases = []testCase{
	{
		"what is in doubt or pending is resolved",
		"An operator, or a reconciliation, writes what is known to have happened. The record says who decided, why, and about which claim.",
		func(k *kit) {
			for _, o := range []store.Outcome{inDoubt, pending} {
				for _, to := range decisions {
					a := bid("a")
					a.Key += string(o.State + to)
					k.grant(k.s, &a)
					from := k.ok(k.s.Settle(k.ctx, a, o))
					r := k.ok(k.open().Resolve(k.ctx, a.Key, from, decide("1", to)))
					resolved(k, r, from, decide("1", to))
					k.unchanged(r, k.ok(k.s.Load(k.ctx, a.Key)))
				}
			}
		},
	},
	{
		"a marked doubt is resolved",
		"A doubt that the store marked is resolved like a declared one, and the owner's renewal does not take that back.",
		func(k *kit) {
			a, from := k.marked("a")
			r := k.ok(k.s.Resolve(k.ctx, theKey, from, decide("1", store.Failed)))
			resolved(k, r, from, decide("1", store.Failed))
			k.that(!r.Marked, "a resolved record is Marked")
			k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Renew(k.ctx, a)))
		},
	},
	{
		"a resolved tombstone is granted again",
		"\"Not done\" frees the key: the next claim is a first run, with a higher fence, and the resolution stays in the history.",
		func(k *kit) {
			a, from := k.doubted("a")
			k.ok(k.s.Resolve(k.ctx, theKey, from, decide("1", store.Tombstone)))
			b := bid("b")
			r := k.grant(k.s, &b)
			k.that(r.Origin == store.First && r.By == "" && b.Fence > a.Fence, "origin %q, by %q, fence %d after %d", r.Origin, r.By, b.Fence, a.Fence)
			k.event(r, store.TurnResolved, "a")
		},
	},
	{
		"a running record is resolved only by force",
		"An owner that is presumed alive is not overruled by mistake. With Force it is, and its renewals are then refused.",
		func(k *kit) {
			for _, to := range decisions {
				a := bid("a")
				a.Key += string(to)
				from := k.grant(k.s, &a)
				res := decide("1", to)
				k.unchanged(from, k.answer(store.ErrMoved)(k.s.Resolve(k.ctx, a.Key, from, res)))
				res.Force = true
				r := k.ok(k.s.Resolve(k.ctx, a.Key, from, res))
				resolved(k, r, from, res)
				k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Renew(k.ctx, a)))
			}
		},
	},
	{
		"a decision ends what was kept",
		"An operator sees the success that is kept beside a run, and decides. Nothing of it is left to be adopted later; the history has it.",
		func(k *kit) {
			for _, to := range decisions {
				a, b := bid("a"), bid("b")
				a.Key += string(to)
				b.Key = a.Key
				k.grant(k.s, &a)
				k.ok(k.s.Takeover(k.ctx, b, k.ok(k.s.Settle(k.ctx, a, inDoubt))))
				from := k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, succeeded("late")))
				res := decide("1", to)
				res.Force = true
				r := k.ok(k.s.Resolve(k.ctx, a.Key, from, res))
				resolved(k, r, from, res)
				k.that(r.Kept == nil, "a success is still kept")
				k.event(r, store.TurnConflict, "a")
				k.unchanged(r, k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, succeeded("late"))))
			}
		},
	},
	{
		"a free key is not resolved",
		"There is nothing to decide about a key without a record, or with a tombstone.",
		func(k *kit) {
			for _, to := range decisions {
				res := decide("1", to)
				res.Force = true
				k.answer(store.ErrMoved)(k.s.Resolve(k.ctx, theKey+string(to), k.load(theKey+string(to)), res))
				k.that(k.load(theKey+string(to)).State == store.Absent, "Resolve created a record")
				a := bid("a")
				a.Key += string(to)
				k.grant(k.s, &a)
				tomb := k.ok(k.s.Release(k.ctx, a))
				k.unchanged(tomb, k.answer(store.ErrMoved)(k.s.Resolve(k.ctx, a.Key, tomb, res)))
			}
		},
	},
	{
		"a resolution compares the revision",
		"A decision is about the record that was looked at. If it has moved meanwhile, also if it moved and came back, the answer is ErrMoved.",
		func(k *kit) {
			a, from := k.marked("a")
			r := k.ok(k.s.Settle(k.ctx, a, inDoubt))
			for _, to := range decisions {
				k.unchanged(r, k.answer(store.ErrMoved)(k.s.Resolve(k.ctx, theKey, from, decide("1", to))))
			}
			stale := r
			stale.State = store.Running
			k.unchanged(r, k.answer(store.ErrMoved)(k.s.Resolve(k.ctx, theKey, stale, decide("1", store.Failed))))
			healed := k.ok(k.s.Settle(k.ctx, a, succeeded("1")))
			k.unchanged(healed, k.answer(store.ErrMoved)(k.s.Resolve(k.ctx, theKey, r, decide("1", store.Tombstone))))
		},
	},
	{
		"a resolution may be repeated",
		"A resolution whose reply was lost is sent again with the same ID: it answers the record, without an error, and decides nothing twice, also after another claim has used the key.",
		func(k *kit) {
			_, from := k.doubted("a")
			res := decide("1", store.Tombstone)
			r := k.ok(k.s.Resolve(k.ctx, theKey, from, res))
			k.unchanged(r, k.ok(k.s.Resolve(k.ctx, theKey, from, res)))
			k.unchanged(r, k.ok(k.open().Resolve(k.ctx, theKey, from, res)))
			k.unchanged(r, k.answer(store.ErrMoved)(k.s.Resolve(k.ctx, theKey, from, decide("2", store.Tombstone))))
			b := bid("b")
			r = k.grant(k.s, &b)
			k.unchanged(r, k.ok(k.s.Resolve(k.ctx, theKey, from, res)))
			r = k.ok(k.s.Settle(k.ctx, b, succeeded("1")))
			k.unchanged(r, k.ok(k.s.Resolve(k.ctx, theKey, from, res)))
		},
	},
	{
		"a repeated settle does not undo a reopening",
		"A settle whose reply was lost may be repeated long after: an operator has reopened the key meanwhile. The settle was heard, so it answers without an error and changes nothing.",
		func(k *kit) {
			for _, o := range outcomes[:2] {
				a := bid("a")
				a.Key += string(o.State)
				k.grant(k.s, &a)
				k.ok(k.s.Settle(k.ctx, a, pending))
				from := k.ok(k.s.Settle(k.ctx, a, o))
				tomb := k.ok(k.s.Resolve(k.ctx, a.Key, from, decide("1", store.Tombstone)))
				k.unchanged(tomb, k.ok(k.s.Settle(k.ctx, a, o)))
				k.unchanged(tomb, k.ok(k.s.Settle(k.ctx, a, pending)))
				k.unchanged(tomb, k.ok(k.s.Release(k.ctx, a)))
				b := bid("b")
				b.Key = a.Key
				r := k.grant(k.s, &b)
				k.unchanged(r, k.ok(k.s.Settle(k.ctx, a, o)))
				r = k.ok(k.s.Settle(k.ctx, b, succeeded("2")))
				k.unchanged(r, k.ok(k.s.Settle(k.ctx, a, o)))
			}
		},
	},
	{
		"a repeated doubt does not undo a decision",
		"The owner declared a doubt, an operator decided. The repetition of that settle was heard already: no error, no change.",
		func(k *kit) {
			for _, to := range decisions {
				a := bid("a")
				a.Key += string(to)
				k.grant(k.s, &a)
				from := k.ok(k.s.Settle(k.ctx, a, inDoubt))
				r := k.ok(k.s.Resolve(k.ctx, a.Key, from, decide("1", to)))
				k.unchanged(r, k.ok(k.s.Settle(k.ctx, a, inDoubt)))
			}
		},
	},
	{
		"an owner still heals \"not done\"",
		"An operator who said \"not done\" was wrong if the owner then reports its success, which nobody had heard. Anything less does not undo the decision.",
		func(k *kit) {
			a, from := k.doubted("a")
			tomb := k.ok(k.s.Resolve(k.ctx, theKey, from, decide("1", store.Tombstone)))
			k.unchanged(tomb, k.answer(store.ErrSuperseded)(k.s.Settle(k.ctx, a, failed("no"))))
			r := k.ok(k.s.Settle(k.ctx, a, succeeded("1")))
			k.holds(r, succeeded("1"))
			k.is(r, store.Succeeded, "a")
			k.that(r.By == "", "the owner's success is by %q", r.By)
			k.unchanged(r, k.ok(k.s.Settle(k.ctx, a, succeeded("1"))))
		},
	},
	{
		"an owner's success against an operator's word is a conflict",
		"The operator's \"succeeded\" or \"failed\" stands. The owner's success is kept in the history, once, and answered ErrConflict; anything less is ErrSuperseded.",
		func(k *kit) {
			for _, to := range decisions[:2] {
				a := bid("a")
				a.Key += string(to)
				k.grant(k.s, &a)
				from := k.ok(k.s.Settle(k.ctx, a, inDoubt))
				r := k.ok(k.s.Resolve(k.ctx, a.Key, from, decide("1", to)))
				k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Settle(k.ctx, a, failed("no"))))
				k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Release(k.ctx, a)))
				late := k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, succeeded("1")))
				k.holds(late, r.Outcome)
				k.that(late.Revision > r.Revision && late.By == store.ByOperator, "revision %d after %d, by %q", late.Revision, r.Revision, late.By)
				k.event(late, store.TurnConflict, "a")
				k.unchanged(late, k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, succeeded("1"))))
			}
		},
	},
	{
		"an owner agrees with a reconciliation",
		"If a reconciliation found what the owner then reports, there was one execution and no conflict.",
		func(k *kit) {
			for _, o := range outcomes[:2] {
				a := bid("a")
				a.Key += string(o.State)
				k.grant(k.s, &a)
				from := k.ok(k.s.Settle(k.ctx, a, inDoubt))
				res := decide("1", o.State)
				res.By = store.ByReconcile
				r := k.ok(k.s.Resolve(k.ctx, a.Key, from, res))
				resolved(k, r, from, res)
				k.unchanged(r, k.ok(k.s.Settle(k.ctx, a, o)))
			}
		},
	},
}
