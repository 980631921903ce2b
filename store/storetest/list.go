package storetest

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// listed returns the keys that a query yields, sorted.
func listed(k *kit, q store.Query) []string {
	k.Helper()
	keys := map[string]bool{}
	for r, err := range k.s.List(k.ctx, q) {
		r = k.ok(r, err)
		k.that(!r.Now.IsZero(), "List yields a record without the store's clock")
		k.that(r.State != store.Absent, "List yields an absent record")
		keys[r.Key] = true
	}
	return slices.Sorted(maps.Keys(keys))
}

var listCases = []testCase{
	{
		"records are selected by state",
		"List yields the records of a state, or all: tombstones are records too.",
		func(k *kit) {
			k.that(len(listed(k, store.Query{})) == 0, "an empty store lists records")
			for _, o := range outcomes {
				b := bid("a")
				b.Key = string(o.State)
				k.grant(k.s, &b)
				k.ok(k.s.Settle(k.ctx, b, o))
			}
			for _, state := range []store.State{store.Running, store.Tombstone} {
				b := bid("a")
				b.Key = string(state)
				k.grant(k.s, &b)
				if state == store.Tombstone {
					k.ok(k.s.Release(k.ctx, b))
				}
			}
			for _, state := range []store.State{store.Running, store.InDoubt, store.Pending, store.Succeeded, store.Failed, store.Tombstone} {
				keys := listed(k, store.Query{State: state})
				k.that(slices.Equal(keys, []string{string(state)}), "the records in state %q are %q", state, keys)
			}
			keys := listed(k, store.Query{})
			k.that(len(keys) == 6, "all records are %q", keys)
		},
	},
	{
		"records are selected by activity, workflow and digest",
		"The fields of a query must all agree; those that are zero select everything.",
		func(k *kit) {
			for key, info := range map[string]store.Info{
				"1": {Activity: "Charge", Holder: store.Holder{WorkflowID: "w1"}},
				"2": {Activity: "Charge", Holder: store.Holder{WorkflowID: "w2"}},
				"3": {Activity: "Ship", Holder: store.Holder{WorkflowID: "w1"}},
			} {
				b := bid("a")
				b.Key, b.Info = key, info
				k.grant(k.s, &b)
			}
			for _, c := range []struct {
				q    store.Query
				want []string
			}{
				{store.Query{Activity: "Charge"}, []string{"1", "2"}},
				{store.Query{WorkflowID: "w1"}, []string{"1", "3"}},
				{store.Query{Activity: "Charge", WorkflowID: "w1"}, []string{"1"}},
				{store.Query{Activity: "Charge", WorkflowID: "w1", State: store.Failed}, nil},
				{store.Query{Activity: "charge"}, nil},
				// The SHA-256 of "1" begins with 6b86b273, of "2" with d4735e3a, of "3" with 4e074085.
				{store.Query{Digest: "6b86b273"}, []string{"1"}},
				{store.Query{Digest: "4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce"}, []string{"3"}},
				{store.Query{Digest: "d4735e3a", Activity: "Ship"}, nil},
				{store.Query{Digest: "86b2"}, nil},
			} {
				keys := listed(k, c.q)
				k.that(slices.Equal(keys, c.want), "%+v yields %q, want %q", c.q, keys, c.want)
			}
		},
	},
	{
		"records are selected by age",
		"OlderThan counts from the claim, on the store's clock.",
		func(k *kit) {
			b := bid("a")
			b.Key = "old"
			k.grant(k.s, &b)
			k.pass(120 * time.Millisecond)
			keys := listed(k, store.Query{OlderThan: 100 * time.Millisecond})
			k.that(slices.Equal(keys, []string{"old"}), "older than 100ms are %q", keys)
			keys = listed(k, store.Query{OlderThan: time.Hour})
			k.that(len(keys) == 0, "older than an hour are %q", keys)
		},
	},
	{
		"a listing may be left early",
		"The caller may end the iteration at any record, and call the store while it iterates.",
		func(k *kit) {
			for _, key := range []string{"1", "2", "3"} {
				b := bid("a")
				b.Key = key
				k.grant(k.s, &b)
			}
			n := 0
			for r, err := range k.s.List(k.ctx, store.Query{}) {
				r = k.ok(r, err)
				k.unchanged(r, k.ok(k.s.Load(k.ctx, r.Key)))
				n++
				break
			}
			k.that(n == 1, "the listing yielded %d records", n)
			k.that(len(listed(k, store.Query{})) == 3, "a later listing is not whole")
		},
	},
	{
		"a cancelled listing says so",
		"A listing that was cut short must not look like a whole one.",
		func(k *kit) {
			b := bid("a")
			k.grant(k.s, &b)
			ctx, cancel := context.WithCancel(k.ctx)
			cancel()
			var last error
			for _, err := range k.s.List(ctx, store.Query{}) {
				last = err
			}
			k.that(last != nil, "a listing with a cancelled context ended without an error")
		},
	},
}
