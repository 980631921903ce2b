package ops_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// put leaves a record of that state, a second after the one before.
func put(t *testing.T, s store.Store, key string, to store.State) store.Record {
	t.Helper()
	time.Sleep(time.Second) //nolint:forbidigo // in a bubble, whose clock it moves
	b := store.Bid{Key: key, Owner: "nonce " + key, Lease: time.Hour, TTL: 24 * time.Hour, Deadline: time.Minute, Began: true, Info: store.Info{
		Activity: "ChargeCard", Trace: "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
		Holder: store.Holder{Namespace: "shop", WorkflowID: "order-" + key, RunID: "run", Attempt: 1, Worker: "19@vm"},
	}}
	r, err := s.Acquire(t.Context(), b)
	require.NoError(t, err)
	b.Fence = r.Fence
	switch to {
	case store.Running:
	case store.Tombstone:
		r, err = s.Release(t.Context(), b)
	default:
		r, err = s.Settle(t.Context(), b, store.Outcome{State: to})
	}
	require.NoError(t, err)
	return r
}

func listed(t *testing.T, c ops.Console, f ops.Filter) (all []string) {
	t.Helper()
	for r, err := range c.List(t.Context(), f) {
		require.NoError(t, err)
		all = append(all, r.Key)
	}
	return all
}

func TestConsole_ListsWhatIsInDoubtFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := ops.Console{Store: store.NewMemory(store.MemoryOptions{})}
		for i, s := range []store.State{store.Running, store.Succeeded, store.InDoubt, store.Failed, store.Pending, store.Tombstone, store.InDoubt} {
			put(t, c.Store, fmt.Sprint(i), s)
		}
		require.Equal(t, []string{"2", "6", "4", "0"}, listed(t, c, ops.Filter{}))
		all := listed(t, c, ops.Filter{States: ops.Every})
		require.Equal(t, []string{"2", "6", "4", "0"}, all[:4])
		require.ElementsMatch(t, []string{"1", "3", "5"}, all[4:])
		require.Equal(t, []string{"1"}, listed(t, c, ops.Filter{States: []store.State{store.Succeeded}}))
		require.Equal(t, []string{"2"}, listed(t, c, ops.Filter{States: []store.State{store.InDoubt}, Older: 2 * time.Second}))
		require.Equal(t, []string{"4"}, listed(t, c, ops.Filter{WorkflowID: "order-4"}))
		list := c.List(t.Context(), ops.Filter{States: ops.Every}) // it can be run again
		for range 2 {
			n := 0
			for _, err := range list {
				require.NoError(t, err)
				n++
			}
			require.Equal(t, 7, n)
		}
		stats, err := c.Stats(t.Context())
		require.NoError(t, err)
		require.Equal(t, store.InDoubt, stats[0].State)
		require.Equal(t, 2, stats[0].Count)
	})
}

func TestConsole_FindsByDigestKeyAndWorkflow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := ops.Console{Store: store.NewMemory(store.MemoryOptions{})}
		put(t, c.Store, "v1/a", store.InDoubt)
		put(t, c.Store, "v1/b", store.Succeeded)
		for _, what := range []string{"v1/a", keys.Downstream("v1/a"), keys.Downstream("v1/a")[:8], keys.Downstream("v1/a")[:9]} {
			r, err := c.Find(t.Context(), what)
			require.NoError(t, err, what)
			require.Equal(t, "v1/a", r.Key)
		}
		for what, want := range map[string]error{"v1/c": resolve.ErrNotFound, "0123456789": resolve.ErrNotFound, "0123": resolve.ErrDigest} {
			_, err := c.Find(t.Context(), what)
			require.ErrorIs(t, err, want, what)
		}
		all, err := c.OfWorkflow(t.Context(), "order-v1/a")
		require.NoError(t, err)
		require.Len(t, all, 1)
	})
}

func TestView_SaysWhatIsKnownAndWhatComesNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory(store.MemoryOptions{})
		r := put(t, s, "k", store.InDoubt)
		v := ops.NewView(r, 0, once.Policy{})
		require.Equal(t, keys.Downstream("k")[:16], v.Digest)
		require.Equal(t, "0123456789abcdef0123456789abcdef", v.Trace)
		require.Equal(t, "order-k", v.Subject())
		require.Equal(t, r.Doubted.Add(30*time.Second), v.MayActUntil)
		require.Contains(t, v.Next[0], "in 30s")
		require.Contains(t, v.Command, "temporal atmostonce resolve "+v.Digest)
		require.Equal(t, "claimed", v.History[0].What)
		require.Equal(t, "in_doubt", v.History[1].What)

		d := store.Resolution{ID: "1", To: store.Succeeded, By: store.ByOperator, Who: "ann", Why: "INC-812", TTL: time.Hour, Outcome: store.Outcome{State: store.Succeeded}}
		now, err := s.Resolve(context.Background(), r.Key, r, d)
		require.NoError(t, err)
		v = ops.NewView(now, 0, once.Policy{})
		require.Equal(t, "by the operator ann", v.Author)
		require.Equal(t, "decided, when it was in doubt, by ann: INC-812", v.History[len(v.History)-1].Text)
		require.Zero(t, v.MayActUntil)
		e := ops.NewEntry("resolve", r, now, "ann", "INC-812")
		require.Equal(t, store.InDoubt, e.From)
		require.Equal(t, store.Succeeded, e.To)
	})
}

// Every policy has a sentence of its own about what the next attempt does.
func TestView_SaysWhatThePolicyWillDo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := put(t, store.NewMemory(store.MemoryOptions{}), "k", store.InDoubt)
		find := func(context.Context, string) (string, error) { return "", nil }
		said := map[string]bool{}
		for _, p := range []once.DoubtPolicy{{}, once.Hold, once.HoldFor(time.Hour), once.Fail, once.Rerun, once.Resume, once.Reconcile(find)} {
			said[ops.NewView(r, 0, once.Policy{InDoubt: p}).Next[1]] = true
		}
		require.Len(t, said, 7)
	})
}

func TestRisk_DistinguishesTheDecisions(t *testing.T) {
	t.Parallel()
	said := map[string]bool{}
	for _, to := range []store.State{store.Succeeded, store.Failed, store.Tombstone, store.Absent} {
		for _, from := range []store.State{store.InDoubt, store.Running} {
			said[ops.Risk(store.Record{State: from}, to)] = true
		}
	}
	require.Len(t, said, 8)
}
