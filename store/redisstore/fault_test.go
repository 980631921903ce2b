package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

// With appendfsync always, what was acknowledged is there after a kill -9; a call
// that it interrupted is repeated and gets one answer.
func TestRedis_KilledServerKeepsWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	const writers, rounds, records = 16, 2, 1000
	ctx, server := t.Context(), startServer(t, "--appendonly", "yes", "--appendfsync", "always")
	s := newRedis(t, dialRedis(t, server.addr, func(o *redis.Options) { o.MaxRetries = -1 }))
	claims, settles, interrupted := 0, 0, 0
	for round := range rounds {
		var acked atomic.Int64
		all := make([]*writer, writers)
		var done sync.WaitGroup
		for i := range all {
			all[i] = &writer{s: s, name: fmt.Sprintf("%d/%d", round, i), acked: &acked}
			done.Go(func() { all[i].writeUntilError(ctx) })
		}
		require.Eventually(t, func() bool { return acked.Load() >= records }, time.Minute, time.Millisecond)
		server.kill()
		done.Wait()
		server.restart()
		for _, w := range all {
			w.requireKept(t)
			claims, settles = claims+len(w.fences), settles+w.settled
			var dial *net.OpError
			if !errors.As(w.err, &dial) || dial.Op != "dial" {
				interrupted++
			}
		}
	}
	require.Positive(t, interrupted, "the kill met no call on its way")
	t.Logf("%d claims and %d settles were acknowledged, %d calls interrupted", claims, settles, interrupted)
}

// writer claims and settles a key after the other, and remembers the answers.
type writer struct {
	s       *redisstore.Store
	name    string
	acked   *atomic.Int64
	fences  []uint64 // of the claims
	settled int      // the first so many of them are
	err     error    // what ended it
}

func (w *writer) bid(i int) store.Bid { return redisBid(fmt.Sprintf("%s/%d", w.name, i), w.name) }

func (w *writer) writeUntilError(ctx context.Context) {
	for i := 0; ; i++ {
		r, err := w.s.Acquire(ctx, w.bid(i))
		if err != nil {
			w.err = err
			return
		}
		w.fences = append(w.fences, r.Fence)
		w.acked.Add(1)
		if _, err := w.s.Settle(ctx, w.bid(i), redisDone); err != nil {
			w.err = err
			return
		}
		w.settled++
	}
}

func (w *writer) requireKept(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i, fence := range w.fences {
		// A connection from before the kill may still be in the pool.
		r, err := untilAnswered(ctx, func() (store.Record, error) { return w.s.Load(ctx, w.bid(i).Key) })
		require.NoError(t, err)
		require.Equal(t, w.name, r.Owner, "an acknowledged claim is lost")
		require.Equal(t, fence, r.Fence)
		if i < w.settled {
			require.Equal(t, redisDone, r.Outcome, "an acknowledged settle is lost")
		}
	}
	last := w.bid(w.settled)
	r, err := w.s.Acquire(ctx, last)
	require.NoError(t, err)
	require.Equal(t, w.name, r.Owner)
	r, err = w.s.Settle(ctx, last, redisDone)
	require.NoError(t, err)
	require.EqualValues(t, 2, r.Revision, "the interrupted call and its repetition are one")
}

// A server that loads its data answers no call, and is not taken for an empty one.
func TestRedis_LoadingServer(t *testing.T) {
	t.Parallel()
	const records = 300
	// 20 ms for each record, until that is changed.
	ctx, server := t.Context(), startServer(t, "--loading-process-events-interval-bytes", "1024", "--key-load-delay", "20000")
	client := dialRedis(t, server.addr, func(o *redis.Options) { o.MaxRetries = -1 })
	s := newRedis(t, client)
	for i := range records {
		_, err := s.Acquire(ctx, redisBid(fmt.Sprint(i), "a"))
		require.NoError(t, err)
	}
	from, err := s.Load(ctx, "0")
	require.NoError(t, err)
	require.NoError(t, client.Save(ctx).Err())
	server.kill()
	server.relaunch()
	// A connection from before the kill may still be in the pool.
	require.Eventually(t, func() bool { return redis.IsLoadingError(client.Ping(ctx).Err()) }, time.Minute, time.Millisecond)

	for name, call := range redisVerbs(s, redisBid("0", "b"), from) {
		_, err := call(ctx)
		require.True(t, redis.HasErrorPrefix(err, "LOADING"), "%s: %v", name, err)
	}
	for _, err := range s.List(ctx, store.Query{}) {
		require.True(t, redis.HasErrorPrefix(err, "LOADING"), "%v", err)
	}
	require.True(t, redis.HasErrorPrefix(s.Check(ctx), "LOADING"))

	patient := newRedis(t, dialRedis(t, server.addr, func(o *redis.Options) { o.MaxRetries = 1000 }))
	answered := make(chan answer)
	go func() {
		r, err := patient.Acquire(ctx, redisBid("0", "b"))
		answered <- answer{r, err}
	}()
	require.NoError(t, client.ConfigSet(ctx, "key-load-delay", "0").Err())
	server.waitLoaded()
	a := <-answered
	require.NoError(t, a.err, "go-redis repeats a call that met a loading server")
	require.True(t, a.r.Owned("a"))
	require.Equal(t, from.Revision, a.r.Revision)
	n := 0
	for r, err := range s.List(ctx, store.Query{}) {
		require.NoError(t, err)
		require.True(t, r.Owned("a"))
		require.EqualValues(t, 1, r.Revision)
		n++
	}
	require.Equal(t, records, n)
}

// A master that was demoted writes nothing, and grants nothing.
func TestRedis_DemotedMaster(t *testing.T) {
	t.Parallel()
	ctx, old := t.Context(), startServer(t)
	next := startReplica(t, old)
	oldClient := dialRedis(t, old.addr, func(o *redis.Options) { o.MaxRetries = -1 })
	s := newRedis(t, oldClient)
	doubt, err := s.Settle(ctx, redisBid("doubt", "a"), store.Outcome{State: store.InDoubt})
	require.NoError(t, err)
	_, err = s.Acquire(ctx, redisBid("running", "a"))
	require.NoError(t, err)
	_, err = s.Settle(ctx, redisBid("settled", "a"), redisDone)
	require.NoError(t, err)
	_, err = s.Release(ctx, redisBid("given back", "a"))
	require.NoError(t, err)
	states := map[string]store.State{
		"new": store.Absent, "running": store.Running, "doubt": store.InDoubt,
		"settled": store.Succeeded, "given back": store.Tombstone,
	}
	requireReplicated(t, old)

	nextClient := dialRedis(t, next.addr)
	require.NoError(t, nextClient.ReplicaOf(ctx, "no", "one").Err())
	host, port, err := net.SplitHostPort(next.addr)
	require.NoError(t, err)
	require.NoError(t, oldClient.ReplicaOf(ctx, host, port).Err())
	old.waitInfo("replication", "master_link_status", "up")

	for name, keys := range map[string][]string{
		"Acquire": {"new", "given back"}, "Takeover": {"doubt"}, "Resolve": {"doubt", "running"},
		"Renew": {"new", "running"}, "Settle": {"new", "running"}, "Release": {"new", "running"},
	} {
		for _, key := range keys {
			_, err := redisVerbs(s, redisBid(key, "b"), doubt)[name](ctx)
			require.True(t, redis.HasErrorPrefix(err, "READONLY"), "%s of %s: %v", name, key, err)
		}
	}
	for key, want := range states { // what writes nothing may be answered
		calls := redisVerbs(s, redisBid(key, "b"), store.Record{})
		for _, name := range []string{"Load", "Acquire"} {
			r, err := calls[name](ctx)
			if !redis.HasErrorPrefix(err, "READONLY") {
				require.NoError(t, err)
				require.Equal(t, want, r.State, "%s of %s", name, key)
			}
		}
	}

	promoted := newRedis(t, nextClient)
	for key, want := range states {
		r, err := promoted.Load(ctx, key)
		require.NoError(t, err)
		require.Equal(t, want, r.State, key)
		require.LessOrEqual(t, r.Revision, uint64(1), "written by a call to the old master")
	}
}
