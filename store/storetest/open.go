package storetest

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

var openStates = []store.State{store.Running, store.InDoubt, store.Pending}

// inOrder returns what a query yields, as it comes.
func inOrder(k *kit, q store.Query) []store.Record {
	k.Helper()
	var records []store.Record
	for r, err := range k.s.List(k.ctx, q) {
		records = append(records, k.ok(r, err))
	}
	return records
}

func oldestFirst(a, b store.Record) int {
	return cmp.Or(a.Since().Compare(b.Since()), strings.Compare(a.Key, b.Key))
}

func keysOf(records []store.Record) string {
	var keys []string
	for _, r := range records {
		keys = append(keys, fmt.Sprintf("%s (%s, revision %d)", r.Key, r.State, r.Revision))
	}
	return fmt.Sprint(keys)
}

// agrees checks that the listings of open states yield what is open among all
// records, oldest first. after says what was done.
func agrees(k *kit, after string) {
	k.Helper()
	all := inOrder(k, store.Query{})
	slices.SortFunc(all, oldestFirst)
	for _, state := range openStates {
		want := slices.DeleteFunc(slices.Clone(all), func(r store.Record) bool { return r.State != state })
		got := inOrder(k, store.Query{State: state})
		k.that(keysOf(got) == keysOf(want), "after %s the records in state %q are listed as\n%s, want\n%s", after, state, keysOf(got), keysOf(want))
	}
}

// at returns a claim to another key than the usual one.
func at(key, owner string) store.Bid {
	b := bid(owner)
	b.Key = key
	return b
}

var openCases = []testCase{
	{
		"open records come oldest first",
		"What has been running, in doubt or pending for the longest time is what an operator asks about.",
		func(k *kit) {
			for i, key := range []string{"5", "1", "4", "2", "3", "0"} {
				b := at(key, "a")
				k.grant(k.s, &b)
				k.pass(2 * time.Millisecond)
				if i%3 != 0 {
					k.ok(k.s.Settle(k.ctx, b, []store.Outcome{{}, inDoubt, pending}[i%3]))
				}
				k.pass(2 * time.Millisecond)
			}
			agrees(k, "six claims")
			for i, want := range []string{"5 2", "1 3", "4 0"} {
				var keys []string
				for _, r := range inOrder(k, store.Query{State: openStates[i]}) {
					keys = append(keys, r.Key)
				}
				k.that(strings.Join(keys, " ") == want, "%q yields %q, want %q", openStates[i], keys, want)
			}
		},
	},
	{
		"a record is listed where its last write left it",
		"Every turn that a record takes is seen by the next listing: into a state, out of it, and back.",
		turns,
	},
	{
		"a dead owner's record is listed as marked",
		"A doubt that an Acquire marks is listed, until the owner's renewal takes it back.",
		func(k *kit) {
			a := k.dead("a")
			agrees(k, "an owner's death")
			k.is(k.ok(k.s.Acquire(k.ctx, bid("b"))), store.InDoubt, "a")
			agrees(k, "a mark")
			k.that(len(inOrder(k, store.Query{State: store.InDoubt})) == 1, "a marked doubt is not listed")
			k.is(k.ok(k.s.Renew(k.ctx, a)), store.Running, "a")
			agrees(k, "a renewal that takes a doubt back")
			k.that(len(inOrder(k, store.Query{State: store.Running})) == 1, "a doubt that was taken back is not listed as running")
		},
	},
	{
		"what has expired is not listed",
		"A record in doubt or pending past its TTL is absent for everyone; what follows it under its key is listed for itself.",
		func(k *kit) {
			for key, o := range map[string]store.Outcome{"doubt": inDoubt, "pending": pending} {
				b := at(key, "a")
				b.TTL = shortTTL
				k.grant(k.s, &b)
				k.ok(k.s.Settle(k.ctx, b, o))
			}
			k.pass(pastTTL)
			agrees(k, "their expiry")
			for _, state := range openStates {
				k.that(len(inOrder(k, store.Query{State: state})) == 0, "a record that has expired is listed as %q", state)
			}
			k.ok(k.s.Settle(k.ctx, at("pending", "b"), succeeded("1")))
			b := at("doubt", "b")
			k.grant(k.s, &b)
			agrees(k, "what followed")
		},
	},
	{
		"a page goes on after its last record",
		"Query.After selects what comes later, also among records of one moment. Pages of any size make up the whole listing.",
		func(k *kit) {
			for i := range 23 {
				b := at(fmt.Sprint(i), "a")
				k.grant(k.s, &b)
				if i%4 != 0 {
					k.ok(k.s.Settle(k.ctx, b, inDoubt))
				}
				if i%8 == 7 {
					k.pass(2 * time.Millisecond)
				}
			}
			for _, state := range openStates[:2] {
				want := keysOf(inOrder(k, store.Query{State: state}))
				for size := 1; size < 20; size += 3 {
					q, got := store.Query{State: state}, []store.Record(nil)
					for full := true; full; {
						n := len(got)
						for r, err := range k.s.List(k.ctx, q) {
							got = append(got, k.ok(r, err))
							if len(got) == n+size {
								break
							}
						}
						if full = len(got) == n+size; full {
							q.After = got[len(got)-1]
						}
					}
					k.that(keysOf(got) == want, "pages of %d yield\n%s, want\n%s", size, keysOf(got), want)
				}
			}
		},
	},
	{
		"open records are selected by all fields",
		"Namespace, activity, workflow, digest and age select among open records as among all.",
		selects,
	},
	{
		"open records are counted",
		"Stats counts what is open by namespace, activity and state, and says how old the oldest is.",
		func(k *kit) {
			for i, activity := range []string{"Ship", "Charge", "Charge", "Charge"} {
				b := at(fmt.Sprint(i), "a")
				b.Info.Activity, b.Info.Holder.Namespace = activity, "shop"
				k.grant(k.s, &b)
				k.ok(k.s.Settle(k.ctx, b, inDoubt))
				k.pass(2 * time.Millisecond)
			}
			b := at("done", "a")
			k.grant(k.s, &b)
			k.ok(k.s.Settle(k.ctx, b, succeeded("1")))
			oldest := k.load("1")
			stats, err := store.Stats(k.ctx, k.s)
			k.that(err == nil && len(stats) == 2, "Stats: %+v, %v", stats, err)
			s := stats[0]
			k.that(s.Namespace == "shop" && s.Activity == "Charge" && s.State == store.InDoubt && s.Count == 3, "Stats: %+v", s)
			k.that(s.Oldest.Equal(oldest.Doubted) && s.Age >= 6*time.Millisecond, "the oldest is of %v, %v old: want %v", s.Oldest, s.Age, oldest.Doubted)
		},
	},
	{
		"listings agree after whatever has happened",
		"However a record came into its state: a listing of that state has it, and no other has.",
		wander,
	},
	{
		"a cancelled listing of open records says so",
		"A listing that was cut short must not look like a whole one.",
		func(k *kit) {
			k.granted("a")
			ctx, cancel := context.WithCancel(k.ctx)
			cancel()
			var last error
			for _, err := range k.s.List(ctx, store.Query{State: store.Running}) {
				last = err
			}
			k.that(last != nil, "a listing with a cancelled context ended without an error")
		},
	},
}

// turns takes records through every turn.
func turns(k *kit) {
	k.Helper()
	a, doubt := k.doubted("a")
	agrees(k, "a doubt")
	b := k.took("b", doubt, false)
	agrees(k, "a takeover")
	k.is(k.ok(k.s.Release(k.ctx, b)), store.InDoubt, "b")
	agrees(k, "a release that returns to doubt")
	c := k.took("c", k.load(theKey), true)
	k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, succeeded("late")))
	agrees(k, "a success that is kept")
	k.is(k.ok(k.s.Release(k.ctx, c)), store.Succeeded, "c")
	agrees(k, "a release that leaves it to the kept success")
	k.ok(k.s.Resolve(k.ctx, theKey, k.load(theKey), decide("r1", store.Tombstone)))
	agrees(k, "a reopening")
	d := k.granted("d")
	agrees(k, "a grant of a tombstone")
	k.ok(k.s.Settle(k.ctx, d, pending))
	agrees(k, "a pending end")
	e := k.took("e", k.load(theKey), false)
	agrees(k, "a takeover of what was pending")
	force := decide("r2", store.Failed)
	force.Force = true
	k.ok(k.s.Resolve(k.ctx, theKey, k.load(theKey), force))
	agrees(k, "a forced resolution")
	k.answer(store.ErrConflict)(k.s.Settle(k.ctx, e, succeeded("1")))
	agrees(k, "a conflict with a settled record")

	for i, o := range outcomes {
		k.ok(k.s.Settle(k.ctx, at(fmt.Sprint("forgotten", i), "a"), o))
	}
	agrees(k, "settles without a record")
	k.ok(k.s.Release(k.ctx, at("released", "a")))
	agrees(k, "a release without a record")
	for i, to := range []store.State{store.Succeeded, store.Failed, store.Tombstone} {
		b := at(fmt.Sprint("resolved", i), "a")
		k.grant(k.s, &b)
		k.ok(k.s.Resolve(k.ctx, b.Key, k.ok(k.s.Settle(k.ctx, b, inDoubt)), decide("r", to)))
		agrees(k, "a resolution")
		k.s.Settle(k.ctx, b, succeeded("2")) //nolint:errcheck // a conflict with some
		agrees(k, "an owner's late success")
	}
	f := at("released after doubt", "a")
	k.grant(k.s, &f)
	k.ok(k.s.Settle(k.ctx, f, inDoubt))
	k.is(k.ok(k.s.Release(k.ctx, f)), store.Tombstone, "a")
	agrees(k, "a release of what was in doubt")
}

func selects(k *kit) {
	k.Helper()
	for i, info := range []store.Info{
		{Activity: "Charge", Holder: store.Holder{Namespace: "shop", WorkflowID: "w1"}},
		{Activity: "Charge", Holder: store.Holder{Namespace: "bank", WorkflowID: "w1"}},
		{Activity: "Ship", Holder: store.Holder{Namespace: "shop", WorkflowID: "w2"}},
		{Activity: "Ship", Holder: store.Holder{Namespace: "shop", WorkflowID: "w1"}},
	} {
		if i == 3 {
			k.pass(1100 * time.Millisecond)
		}
		b := at(fmt.Sprint(i), "a")
		b.Info = info
		k.grant(k.s, &b)
		k.ok(k.s.Settle(k.ctx, b, inDoubt))
	}
	b := at("running", "a")
	b.Info.Holder.Namespace = "shop"
	k.grant(k.s, &b)
	k.pass(time.Millisecond)
	const long = -time.Second // stands for a second more than the age of "3"
	for _, c := range []struct {
		q    store.Query
		want string
	}{
		{store.Query{State: store.InDoubt, Namespace: "shop"}, "[0 2 3]"},
		{store.Query{Namespace: "shop"}, "[0 2 3 running]"},
		{store.Query{State: store.InDoubt, Namespace: "sho"}, "[]"},
		{store.Query{State: store.InDoubt, Activity: "Charge"}, "[0 1]"},
		{store.Query{State: store.InDoubt, WorkflowID: "w1", Namespace: "shop"}, "[0 3]"},
		{store.Query{State: store.Running, Activity: "Ship"}, "[]"},
		{store.Query{State: store.InDoubt, DoubtedFor: long}, "[0 1 2]"},
		{store.Query{DoubtedFor: long}, "[0 1 2]"},
		{store.Query{DoubtedFor: time.Nanosecond}, "[0 1 2 3]"},
		{store.Query{DoubtedFor: time.Hour}, "[]"},
		{store.Query{State: store.Running, DoubtedFor: time.Nanosecond}, "[]"},
		{store.Query{State: store.InDoubt, OlderThan: long, Activity: "Ship"}, "[2]"},
		// The SHA-256 of "1" begins with 6b86b273.
		{store.Query{State: store.InDoubt, Digest: "6b8"}, "[1]"},
		{store.Query{State: store.InDoubt, Digest: "6B8"}, "[]"},
		{store.Query{State: store.Running, Digest: "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"}, "[]"},
		{store.Query{State: store.InDoubt, Digest: "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"}, "[1]"},
		{store.Query{Digest: "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b0"}, "[]"},
		{store.Query{Digest: "6"}, "[1]"},
		{store.Query{Digest: "6b"}, "[1]"},
		{store.Query{Digest: "x"}, "[]"},
	} {
		keys := selected(k, c.q)
		k.that(keys == c.want, "%+v yields %s, want %s", c.q, keys, c.want)
	}
}

// selected returns the keys that q yields. An age below zero stands for so much more
// than that of the record "3". A listing that takes too long to judge ages by is
// made again.
func selected(k *kit, q store.Query) (keys string) {
	k.Helper()
	for range 10 {
		asked, last := q, k.load("3")
		if q.DoubtedFor < 0 {
			asked.DoubtedFor = last.Now.Sub(last.Doubted) - q.DoubtedFor
		}
		if q.OlderThan < 0 {
			asked.OlderThan = last.Now.Sub(last.Claimed) - q.OlderThan
		}
		keys = fmt.Sprint(listed(k, asked))
		if q.DoubtedFor >= 0 && q.OlderThan >= 0 || k.load("3").Now.Sub(last.Now) < time.Second {
			break
		}
	}
	return keys
}

// wander makes random calls.
func wander(k *kit) {
	k.Helper()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // no secret
	one := func(from ...string) string { return from[r.IntN(len(from))] }
	fences := map[string]uint64{}
	for i := range 160 {
		b := at(one("1", "2", "3", "4", "5"), one("a", "b", "c")+fmt.Sprint(i/80))
		b.Fence, b.Clean, b.Began = fences[b.Key+b.Owner], r.IntN(2) == 0, r.IntN(2) == 0
		if r.IntN(4) == 0 {
			b.Lease = time.Millisecond
			k.pass(2 * time.Millisecond)
		}
		from, err := k.s.Load(k.ctx, b.Key)
		if err != nil {
			k.fail("Load: %v", err)
		}
		verb := one("Acquire", "Acquire", "Renew", "Settle", "Settle", "Settle", "Release", "Takeover", "Takeover", "Resolve")
		var got store.Record
		switch verb {
		case "Acquire":
			got, _ = k.s.Acquire(k.ctx, b)
		case "Renew":
			got, _ = k.s.Renew(k.ctx, b)
		case "Settle":
			got, _ = k.s.Settle(k.ctx, b, outcomes[r.IntN(len(outcomes))])
		case "Release":
			got, _ = k.s.Release(k.ctx, b)
		case "Takeover":
			got, _ = k.s.Takeover(k.ctx, b, from)
		case "Resolve":
			res := decide(fmt.Sprint(i), store.State(one("succeeded", "failed", "tombstone")))
			res.Force = r.IntN(3) == 0
			got, _ = k.s.Resolve(k.ctx, b.Key, from, res)
		}
		if got.Owned(b.Owner) {
			fences[b.Key+b.Owner] = got.Fence
		}
		if i%16 == 15 {
			agrees(k, fmt.Sprintf("%d calls of seed %d, the last a %s of %s by %s,", i+1, seed, verb, b.Key, b.Owner))
		}
	}
}
