package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

func TestRedis_Cluster(t *testing.T) { //nolint:tparallel // its steps share one cluster
	t.Parallel()
	c := startCluster(t)
	t.Run("contract", func(t *testing.T) { runContract(t, c.dial(t)) })
	t.Run("list, clear and check ask every master", func(t *testing.T) { requireAllMasters(t, c) })
	t.Run("each master grants the rights", func(t *testing.T) { requireRightsOnEachMaster(t, c) })
	t.Run("an index for each slot", func(t *testing.T) { requireIndexPerSlot(t, c) })
	t.Run("listings while slots move", func(t *testing.T) { requireListWhileSlotsMove(t, c) })
	t.Run("replicas confirm", func(t *testing.T) { requireReplicasConfirm(t, c) })
	t.Run("slots move", func(t *testing.T) { requireSlotsMove(t, c) })
	t.Run("a slot moves away from who waits", func(t *testing.T) { requireNotifyMoves(t, c) })
	t.Run("a witness moves", func(t *testing.T) { requireWitnessMoves(t, c) })
	t.Run("a master dies", func(t *testing.T) { requireMasterDies(t, c) })
}

func requireAllMasters(t *testing.T, c *redisCluster) {
	t.Helper()
	const records = 60
	ctx, s := t.Context(), newRedis(t, c.dial(t))
	require.NoError(t, s.Check(ctx))
	for i := range records {
		b := redisBid(fmt.Sprint(i), "a")
		_, err := s.Acquire(ctx, b)
		require.NoError(t, err)
		_, err = s.Settle(ctx, b, redisDone)
		require.NoError(t, err)
	}
	for _, m := range c.masters {
		node := c.clients[m]
		require.NotEmpty(t, node.Keys(ctx, "atmostonce:{*").Val())
		require.NoError(t, node.ScriptFlush(ctx).Err())
	}
	require.Equal(t, records, countRecords(ctx, t, s))
	for _, m := range c.masters {
		node := c.clients[m]
		require.NoError(t, node.ConfigSet(ctx, "maxmemory-policy", "allkeys-lru").Err())
		require.ErrorIs(t, s.Check(ctx), store.ErrUnsafe)
		require.NoError(t, node.ConfigSet(ctx, "maxmemory-policy", "noeviction").Err())
	}
	require.NoError(t, s.Check(ctx))
	require.NoError(t, s.Clear(ctx))
	require.Zero(t, countRecords(ctx, t, s))
}

// Each claim is confirmed by a replica of the master that has its key.
func requireReplicasConfirm(t *testing.T, c *redisCluster) {
	t.Helper()
	ctx, client := t.Context(), c.dial(t)
	s := replicated(t, client)
	for i := range 30 {
		r, err := s.Acquire(ctx, redisBid(fmt.Sprint(i), "a"))
		require.NoError(t, err)
		require.True(t, r.Owned("a"))
	}
	require.NoError(t, s.Clear(ctx))
	two, err := redisstore.New(client, redisstore.Options{Replicas: 2})
	require.NoError(t, err)
	_, err = two.Acquire(ctx, redisBid("0", "a"))
	require.ErrorIs(t, err, store.ErrUnreplicated)
	require.ErrorContains(t, err, "1 of 2")
	require.NoError(t, s.Clear(ctx))
}

// While every record moves to another master, each is handed over again and
// again: no grant and no doubt is lost, or written twice.
func requireSlotsMove(t *testing.T, c *redisCluster) {
	t.Helper()
	const keys = 9
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s := newRedis(t, c.dial(t))
	var stop atomic.Bool
	var done sync.WaitGroup
	handed, errs := make([]uint64, keys), make([]error, keys)
	for i := range keys {
		done.Go(func() { handed[i], errs[i] = handOver(ctx, s, fmt.Sprint(i), &stop) })
	}
	moved := c.told(t, "MOVED", c.masters...)
	for i := range keys {
		slot := c.clients[c.masters[0]].ClusterKeySlot(ctx, redisName(fmt.Sprint(i))).Val()
		from := slot / slotsEach
		c.migrate(t, slot, c.masters[from], c.masters[(from+1)%3], true)
	}
	stop.Store(true)
	done.Wait()
	var sum uint64
	for i := range keys {
		require.NoError(t, errs[i])
		r, err := s.Load(ctx, fmt.Sprint(i))
		require.NoError(t, err)
		require.Equal(t, store.Running, r.State)
		require.Equal(t, 1+2*handed[i], r.Revision)
		sum += handed[i]
	}
	require.Greater(t, c.told(t, "MOVED", c.masters...), moved)
	t.Logf("%d slots moved during %d takeovers: ASK %d, MOVED %d", keys, sum, c.told(t, "ASK", c.masters...), c.told(t, "MOVED", c.masters...)-moved)
	require.NoError(t, s.Clear(ctx))
}

// A witness that moves to another master has lost nothing.
func requireWitnessMoves(t *testing.T, c *redisCluster) {
	t.Helper()
	ctx, s := t.Context(), newRedis(t, c.dial(t))
	require.NoError(t, s.Check(ctx))
	slot := c.clients[c.masters[0]].ClusterKeySlot(ctx, "atmostonce:witness{0}").Val()
	from := slot / slotsEach
	c.migrate(t, slot, c.masters[from], c.masters[(from+1)%3], false)
	require.Eventually(t, func() bool {
		err := s.Check(ctx)
		require.NotErrorIs(t, err, store.ErrReplaced)
		require.NotErrorIs(t, err, store.ErrForgot)
		return err == nil
	}, 30*time.Second, 10*time.Millisecond)
	c.migrate(t, slot, c.masters[(from+1)%3], c.masters[from], false)
}

// handOver claims a key, and passes it on to one of two that contend for it until
// stop is set. It returns how often.
func handOver(ctx context.Context, s *redisstore.Store, key string, stop *atomic.Bool) (times uint64, err error) {
	holder := redisBid(key, "first")
	if _, err := s.Acquire(ctx, holder); err != nil {
		return 0, err
	}
	for ; !stop.Load(); times++ {
		from, err := untilAnswered(ctx, func() (store.Record, error) {
			return s.Settle(ctx, holder, store.Outcome{State: store.InDoubt})
		})
		if err != nil {
			return times, err
		}
		var answers [2]answer
		var bids [2]store.Bid
		var done sync.WaitGroup
		for i := range bids {
			bids[i] = redisBid(key, fmt.Sprint(times, i))
			done.Go(func() {
				answers[i].r, answers[i].err = untilAnswered(ctx, func() (store.Record, error) {
					return s.Takeover(ctx, bids[i], from)
				})
			})
		}
		done.Wait()
		won := 0
		if answers[0].err != nil {
			won = 1
		}
		if answers[won].err != nil || !errors.Is(answers[1-won].err, store.ErrMoved) {
			return times, fmt.Errorf("of two takeovers, one has to be granted: %w, %w", answers[0].err, answers[1].err)
		}
		holder = bids[won]
	}
	return times, nil
}

func requireMasterDies(t *testing.T, c *redisCluster) {
	t.Helper()
	ctx, s := t.Context(), newRedis(t, c.dial(t))
	require.NoError(t, s.Clear(ctx))
	require.NoError(t, s.Check(ctx))
	replica := c.clients[c.replicas[0]]
	c.configure(t, "cluster-replica-no-failover", "yes")
	requireGoesOn(t, s, func() {
		for _, m := range c.masters {
			requireReplicated(t, m)
		}
	}, func() {
		requireNotifyFailsOver(t, c.dial(t), c.keyOf(t, 0), func() {
			c.configure(t, "cluster-node-timeout", "1000")
			c.masters[0].kill()
			c.wait(t, "cluster_state:fail")
			requireAllFail(t, s)
			require.NoError(t, replica.ConfigSet(ctx, "cluster-replica-no-failover", "no").Err())
		})
	})
	c.wait(t, "cluster_state:ok")
	for name := range redisVerbs(s, redisBid("", ""), store.Record{}) {
		for i := range 10 {
			r, err := s.Load(ctx, fmt.Sprint(name, i))
			require.NoError(t, err)
			require.Equal(t, store.Absent, r.State, "a call that failed was applied")
		}
	}
	requireNoticed(t, s)
	require.NoError(t, s.Clear(ctx))
	require.Zero(t, countRecords(ctx, t, s))
}

// requireAllFail checks that a cluster that is down answers nothing.
func requireAllFail(t *testing.T, s *redisstore.Store) {
	t.Helper()
	down := 0
	var mu sync.Mutex
	var done sync.WaitGroup
	for i := range 10 {
		for name := range redisVerbs(s, redisBid("", ""), store.Record{}) {
			done.Go(func() {
				_, err := redisVerbs(s, redisBid(fmt.Sprint(name, i), "a"), store.Record{State: store.InDoubt})[name](t.Context())
				mu.Lock()
				defer mu.Unlock()
				if err == nil || isRefusal(err) {
					t.Errorf("%s while the cluster is down: %v", name, err)
				}
				if redis.HasErrorPrefix(err, "CLUSTERDOWN") {
					down++
				}
			})
		}
	}
	done.Wait()
	require.Positive(t, down)
	require.Error(t, s.Check(t.Context()))
	var failed error
	for _, err := range s.List(t.Context(), store.Query{}) {
		failed = errors.Join(failed, err)
	}
	require.Error(t, failed, "a list without a master's records is no list")
}
