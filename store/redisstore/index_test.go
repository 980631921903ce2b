package redisstore_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

// listOpen returns the keys of the records in a state, as they come.
func listOpen(tb testing.TB, s store.Store, state store.State) []string {
	tb.Helper()
	keys := []string{}
	for r, err := range s.List(tb.Context(), store.Query{State: state}) {
		require.NoError(tb, err)
		require.Equal(tb, state, r.State)
		keys = append(keys, r.Key)
	}
	return keys
}

// putOld writes a record without an entry in the index, as a backup may that was
// restored in part. since is in microseconds.
func putOld(tb testing.TB, client redis.UniversalClient, key string, state store.State, since int64) {
	tb.Helper()
	require.NoError(tb, client.Set(tb.Context(), redisName(key), packedRecord(key, state, since), 0).Err())
}

// packedRecord is a record as the server keeps it.
func packedRecord(key string, state store.State, since int64) string {
	r, at := redisRecord(key, "old", state), time.UnixMicro(since).UTC()
	r.Claimed, r.Fence = at, uint64(since)
	switch state {
	case store.Running:
		r.LeaseEnd = at.Add(100 * 365 * 24 * time.Hour)
	case store.InDoubt:
		r.Doubted = at
	default:
		r.Settled = at
	}
	if state == store.Succeeded || state == store.Failed {
		r.Outcome = redisDone
		r.Outcome.State = state
	}
	return redisstore.PackRecord(r)
}

// redisRecord is a record without its times.
func redisRecord(key, owner string, state store.State) store.Record {
	return store.Record{Key: key, State: state, Owner: owner, Revision: 1, Origin: store.First, Info: redisBid(key, owner).Info}
}

// putAllOld writes twelve old records of each open state, of four moments, and
// others, and returns the keys of each state in the order of their listing.
func putAllOld(tb testing.TB, client redis.UniversalClient) map[store.State][]string {
	tb.Helper()
	want := map[store.State][]string{}
	for i := range 12 {
		for _, state := range []store.State{store.Running, store.InDoubt, store.Pending, store.Succeeded, store.Failed, store.Tombstone} {
			key := fmt.Sprintf("%s/%02d", state, i)
			putOld(tb, client, key, state, 1_760_000_000_000_000+int64(i/3))
			want[state] = append(want[state], key)
		}
	}
	return want
}

func requireListed(tb testing.TB, s store.Store, want map[store.State][]string) {
	tb.Helper()
	for _, state := range []store.State{store.Running, store.InDoubt, store.Pending} {
		require.Equal(tb, want[state], listOpen(tb, s, state))
	}
}

func TestRedis_ListsWhatWasOpenBeforeTheIndex(t *testing.T) {
	t.Parallel()
	client := dialRedis(t, startRedis(t))
	want := putAllOld(t, client)
	requireListed(t, newRedis(t, client), want)

	// From now on nothing is scanned; only Reindex finds what an old program writes.
	putOld(t, client, "unseen", store.InDoubt, 1_770_000_000_000_000)
	scans := calls(t, client, "scan")
	s := newRedis(t, client)
	requireListed(t, s, want)
	require.Equal(t, scans, calls(t, client, "scan"))
	require.NoError(t, s.Reindex(t.Context()))
	want[store.InDoubt] = append(want[store.InDoubt], "unseen")
	requireListed(t, s, want)
}

// calls returns how often a server has run a command.
func calls(tb testing.TB, client *redis.Client, command string) (n int) {
	tb.Helper()
	stats, err := client.InfoMap(tb.Context(), "commandstats").Result()
	require.NoError(tb, err)
	first, _, _ := strings.Cut(stats["Commandstats"]["cmdstat_"+command], ",")
	n, _ = strconv.Atoi(strings.TrimPrefix(first, "calls="))
	return n
}

// A duplicate that meets a record of an old program brings it into the index.
func TestRedis_ContactIndexesARecord(t *testing.T) {
	t.Parallel()
	ctx, client := t.Context(), dialRedis(t, startRedis(t))
	s := newRedis(t, client)
	requireListed(t, s, map[store.State][]string{store.Running: {}, store.InDoubt: {}, store.Pending: {}})
	want := putAllOld(t, client)
	for _, keys := range want {
		for _, key := range keys {
			_, err := s.Acquire(ctx, redisBid(key, "new"))
			require.NoError(t, err)
		}
	}
	for _, state := range []store.State{store.InDoubt, store.Pending} {
		require.Equal(t, want[state], listOpen(t, s, state))
	}
	running := listOpen(t, s, store.Running)
	require.Equal(t, want[store.Running], running[:12])
	require.Len(t, running, 12+12, "the tombstones were granted")
}

// An entry without its record, or with one in another state, is put right by the
// listing that meets it.
func TestRedis_ListPutsTheIndexRight(t *testing.T) {
	t.Parallel()
	ctx, client := t.Context(), dialRedis(t, startRedis(t))
	s := newRedis(t, client)
	want := putAllOld(t, client)
	requireListed(t, s, want)
	const moment = 1_760_000_000_000_000
	require.NoError(t, client.Del(ctx, redisName("in_doubt/00")).Err())
	putOld(t, client, "in_doubt/01", store.Pending, moment)
	putOld(t, client, "in_doubt/02", store.Succeeded, moment)
	putOld(t, client, "in_doubt/03", store.InDoubt, moment+100) // and again in doubt, later
	require.NoError(t, client.ZAdd(ctx, "atmostonce:open", redis.Z{Score: -9e15 + moment, Member: "what is this"}).Err())

	doubts := append(slices.Clone(want[store.InDoubt][4:]), "in_doubt/03")
	require.Equal(t, doubts, listOpen(t, s, store.InDoubt))
	require.Equal(t, append([]string{"in_doubt/01"}, want[store.Pending]...), listOpen(t, s, store.Pending))
	require.Equal(t, want[store.Running], listOpen(t, s, store.Running))
	require.EqualValues(t, 12+13+9+1, client.ZCard(ctx, "atmostonce:open").Val())
	require.Equal(t, doubts, listOpen(t, s, store.InDoubt))
}

// More entries than are read at a time, many of one moment.
func TestRedis_ListReadsOnInTheIndex(t *testing.T) {
	t.Parallel()
	client := dialRedis(t, startRedis(t))
	var want []string
	for i := range 1700 {
		moment := i / 7
		if i >= 300 && i < 1500 {
			moment = 300 / 7
		}
		want = append(want, fmt.Sprintf("%04d", i))
		putOld(t, client, want[i], store.InDoubt, 1_760_000_000_000_000+int64(moment))
	}
	s := newRedis(t, client)
	require.Equal(t, want, listOpen(t, s, store.InDoubt))
	var got []string
	q := store.Query{State: store.InDoubt}
	for {
		n := len(got)
		for r, err := range s.List(t.Context(), q) {
			require.NoError(t, err)
			got, q.After = append(got, r.Key), r
			if len(got) == n+111 {
				break
			}
		}
		if len(got) < n+111 {
			break
		}
	}
	require.Equal(t, want, got)
}

// What empties a server takes the index with it; what removes the index alone, or
// only part of a rebuild, is noticed.
func TestRedis_IndexIsRebuilt(t *testing.T) {
	t.Parallel()
	ctx, client := t.Context(), dialRedis(t, startRedis(t))
	s := newRedis(t, client)
	want := putAllOld(t, client)
	requireListed(t, s, want)
	require.NoError(t, client.Del(ctx, "atmostonce:open").Err())
	requireListed(t, s, want)
	require.NoError(t, client.FlushAll(ctx).Err())
	require.Empty(t, listOpen(t, s, store.InDoubt))
	require.NoError(t, client.FlushAll(ctx).Err())
	want = putAllOld(t, client)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	require.Error(t, s.Reindex(cancelled))
	requireListed(t, s, want)
	require.NoError(t, s.Clear(ctx))
	require.Empty(t, listOpen(t, s, store.InDoubt))
}

func TestRedis_FindsADigestWithoutLoadingAll(t *testing.T) {
	t.Parallel()
	client := dialRedis(t, startRedis(t))
	s := newRedis(t, client)
	putAllOld(t, client)
	putOld(t, client, "1", store.Succeeded, 1_760_000_000_000_000)
	const digest = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
	for n := 5; n <= len(digest); n++ {
		loads := calls(t, client, "get")
		found := 0
		for r, err := range s.List(t.Context(), store.Query{Digest: digest[:n]}) {
			require.NoError(t, err)
			require.Equal(t, "1", r.Key)
			found++
		}
		require.Equal(t, 1, found, digest[:n])
		require.Equal(t, loads+1, calls(t, client, "get"), digest[:n])
	}
}

// A claim whose record could not be indexed was not written.
func TestRedis_RefusesWhatItCannotIndex(t *testing.T) {
	t.Parallel()
	ctx, client := t.Context(), dialRedis(t, startRedis(t))
	s := newRedis(t, client)
	running := redisBid("running", "a")
	_, err := s.Acquire(ctx, running)
	require.NoError(t, err)
	require.NoError(t, client.Set(ctx, "atmostonce:open", "somebody else's", 0).Err())
	_, err = s.Acquire(ctx, redisBid("k", "a"))
	require.ErrorIs(t, err, store.ErrCorrupt)
	require.Zero(t, client.Exists(ctx, redisName("k")).Val())
	_, err = s.Settle(ctx, running, store.Outcome{State: store.InDoubt})
	require.ErrorIs(t, err, store.ErrCorrupt)
	r, err := s.Settle(ctx, running, redisDone)
	require.NoError(t, err, "what has happened is written down all the same")
	require.Equal(t, store.Succeeded, r.State)
}

func requireIndexPerSlot(t *testing.T, c *redisCluster) {
	t.Helper()
	ctx, s := t.Context(), newRedis(t, c.dial(t))
	require.NoError(t, s.Clear(ctx))
	want := putAllOld(t, c.dial(t))
	requireListed(t, s, want)
	requireListed(t, newRedis(t, c.dial(t)), want)

	// A client that is none of a Cluster, of a node with the record's slot.
	for i := range 300 {
		key := fmt.Sprint("plain/", i)
		slot := c.clients[c.masters[0]].ClusterKeySlot(ctx, redisName(key)).Val()
		if slot >= slotsEach {
			continue
		}
		plain := newRedis(t, c.clients[c.masters[0]])
		_, err := plain.Acquire(ctx, redisBid(key, "a"))
		require.NoError(t, err)
		want[store.Running] = append(want[store.Running], key)
		if i%2 == 0 {
			_, err = plain.Settle(ctx, redisBid(key, "a"), store.Outcome{State: store.InDoubt})
			require.NoError(t, err)
			want[store.Running] = want[store.Running][:len(want[store.Running])-1]
			want[store.InDoubt] = append(want[store.InDoubt], key)
		}
	}
	requireListed(t, s, want)
	require.NoError(t, s.Clear(ctx))
	require.Empty(t, listOpen(t, s, store.InDoubt))
}

// While slots move, a listing lacks nothing.
func requireListWhileSlotsMove(t *testing.T, c *redisCluster) {
	t.Helper()
	ctx, s := t.Context(), newRedis(t, c.dial(t))
	require.NoError(t, s.Clear(ctx))
	want := putAllOld(t, c.dial(t))
	requireListed(t, s, want)
	var stop atomic.Bool
	var done sync.WaitGroup
	listings := 0
	done.Go(func() {
		for !stop.Load() {
			requireListed(t, s, want)
			listings++
		}
	})
	for _, key := range want[store.InDoubt][:6] {
		slot := c.clients[c.masters[0]].ClusterKeySlot(ctx, redisName(key)).Val()
		c.migrate(t, slot, c.masters[slot/slotsEach], c.masters[(slot/slotsEach+1)%3], false)
	}
	stop.Store(true)
	done.Wait()
	requireListed(t, s, want)
	for _, key := range want[store.InDoubt][:6] {
		slot := c.clients[c.masters[0]].ClusterKeySlot(ctx, redisName(key)).Val()
		c.migrate(t, slot, c.masters[(slot/slotsEach+1)%3], c.masters[slot/slotsEach], false)
	}
	require.Positive(t, listings)
	require.NoError(t, s.Clear(ctx))
}

// A listing whose context ends says so once, however many records it was to look at.
func TestRedis_ListEndsWithItsContext(t *testing.T) {
	t.Parallel()
	client := dialRedis(t, startRedis(t))
	want := make([]string, 40)
	for i := range want {
		want[i] = fmt.Sprint(i)
		putOld(t, client, want[i], store.InDoubt, 1_760_000_000_000_000)
	}
	s := newRedis(t, client)
	require.Len(t, listOpen(t, s, store.InDoubt), len(want))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client.AddHook(afterPage{cancel})
	failures := 0
	for _, err := range s.List(ctx, store.Query{State: store.InDoubt}) {
		require.ErrorIs(t, err, context.Canceled)
		failures++
	}
	require.Equal(t, 1, failures)
}

// afterPage cancels a context once a page of an index was read: before its records.
type afterPage struct{ cancel func() }

func (afterPage) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (afterPage) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (a afterPage) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		a.cancel()
		return err
	}
}

// A caller whose context ends between two records does not take those for all.
func TestRedis_ListSaysThatItsContextHasEnded(t *testing.T) {
	t.Parallel()
	client := dialRedis(t, startRedis(t))
	putAllOld(t, client)
	s := newRedis(t, client)
	for _, q := range []store.Query{{}, {State: store.Succeeded}, {State: store.InDoubt}} {
		whole := 0
		for _, err := range s.List(t.Context(), q) {
			require.NoError(t, err)
			whole++
		}
		ctx, cancel := context.WithCancel(t.Context())
		records, failures := 0, 0
		for _, err := range s.List(ctx, q) {
			cancel()
			if err == nil {
				records++
				continue
			}
			require.ErrorIs(t, err, context.Canceled)
			failures++
		}
		cancel()
		require.LessOrEqual(t, failures, 1)
		require.True(t, records == whole || failures == 1, "%+v: %d of %d", q, records, whole)
	}
}
