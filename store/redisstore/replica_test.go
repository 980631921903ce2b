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

func replicated(tb testing.TB, client redis.UniversalClient) *redisstore.Store {
	tb.Helper()
	s, err := redisstore.New(client, redisstore.Options{Replicas: 1})
	require.NoError(tb, err)
	return s
}

func TestRedis_ReplicasConfirm(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	master := startServer(t)
	replica := startReplica(t, master)
	s := replicated(t, dialRedis(t, master.addr))
	copied := newRedis(t, dialRedis(t, replica.addr))

	b := redisBid("k", "a")
	r, err := s.Acquire(ctx, b)
	require.NoError(t, err)
	b.Fence = r.Fence
	r, err = copied.Load(ctx, "k")
	require.NoError(t, err)
	require.True(t, r.Owned("a"), "the replica has the claim before it is granted")
	_, err = s.Settle(ctx, b, redisDone)
	require.NoError(t, err)
	r, err = copied.Load(ctx, "k")
	require.NoError(t, err)
	require.Equal(t, store.Succeeded, r.State)
}

// Each verb that somebody acts on is refused while the replica does not answer,
// also when it is repeated with nothing left to write, on a connection that has
// not written anything.
func TestRedis_TooFewReplicas(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"Acquire", "Settle", "Takeover", "Resolve"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			ctx, from := t.Context(), store.Record{}
			master := startServer(t)
			replica := startReplica(t, master)
			direct := newRedis(t, dialRedis(t, master.addr))
			b := redisBid("k", "a")
			if verb != "Acquire" {
				_, err := direct.Acquire(ctx, b)
				require.NoError(t, err)
			}
			if verb == "Takeover" || verb == "Resolve" {
				var err error
				from, err = direct.Settle(ctx, b, store.Outcome{State: store.InDoubt})
				require.NoError(t, err)
				b.Owner = "b"
			}
			replica.pause()
			for range 2 {
				s := replicated(t, dialRedis(t, master.addr))
				_, err := redisVerbs(s, b, from)[verb](ctx)
				require.ErrorIs(t, err, store.ErrUnreplicated)
				require.ErrorContains(t, err, "0 of 1")
			}
			written, err := direct.Load(ctx, "k")
			require.NoError(t, err)
			require.Greater(t, written.Revision, from.Revision)

			replica.resume()
			s := replicated(t, dialRedis(t, master.addr))
			r := store.Record{}
			require.Eventually(t, func() bool {
				r, err = redisVerbs(s, b, from)[verb](ctx)
				return err == nil
			}, 20*time.Second, 10*time.Millisecond)
			require.Equal(t, written.Revision, r.Revision, "it was applied once")
		})
	}
}

// What does not rest on a write of its own needs no replica.
func TestRedis_TooFewReplicasForAnswers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	client := dialRedis(t, startRedis(t))
	s := replicated(t, client)
	direct := newRedis(t, client)
	for key, end := range map[string]func(store.Bid) (store.Record, error){
		"running":   func(store.Bid) (store.Record, error) { return direct.Load(ctx, "running") },
		"succeeded": func(b store.Bid) (store.Record, error) { return direct.Settle(ctx, b, redisDone) },
	} {
		b := redisBid(key, "a")
		_, err := direct.Acquire(ctx, b)
		require.NoError(t, err)
		_, err = end(b)
		require.NoError(t, err)
		r, err := s.Acquire(ctx, redisBid(key, "b"))
		require.NoError(t, err)
		require.Equal(t, store.State(key), r.State)
	}
	_, err := s.Settle(ctx, redisBid("running", "b"), store.Outcome{State: store.Failed})
	require.ErrorIs(t, err, store.ErrSuperseded)
	_, err = s.Release(ctx, redisBid("running", "a"))
	require.NoError(t, err)
}

// Between a claim and its confirmation another master, with replicas of its own,
// takes the place of the one that granted it.
func TestRedis_ReplicasOfAnotherMaster(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	granting, other := startServer(t), startServer(t)
	startReplica(t, other)
	client := dialRedis(t, granting.addr, func(o *redis.Options) {
		o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil {
				return new(net.Dialer).DialContext(ctx, network, other.addr)
			}
			return conn, nil
		}
	})
	client.AddHook(beforeWait(granting.kill))
	s := replicated(t, client)
	elsewhere := redisBid("k", "somebody else")
	_, err := newRedis(t, dialRedis(t, other.addr)).Acquire(ctx, elsewhere)
	require.NoError(t, err)

	_, err = s.Acquire(ctx, redisBid("k", "a"))
	require.ErrorIs(t, err, store.ErrUnreplicated)
	require.ErrorContains(t, err, "no longer has it")
}

// beforeWait is a hook that is called before each pipeline with a WAIT.
type beforeWait func()

func (f beforeWait) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (f beforeWait) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (f beforeWait) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[len(cmds)-1].Name() == "wait" {
			f()
		}
		return next(ctx, cmds)
	}
}

// Effects begin while the replica loses its master, which then dies, and takes
// its place.
func TestRedis_PromotedReplica(t *testing.T) {
	t.Parallel()
	const writers = 8
	for name, confirm := range map[string]int{"confirmed": 1, "unconfirmed": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			master := startServer(t)
			replica := startReplica(t, master)
			s, err := redisstore.New(dialRedis(t, master.addr, func(o *redis.Options) { o.MaxRetries = -1 }), redisstore.Options{Replicas: confirm})
			require.NoError(t, err)

			confirmed := replicated(t, dialRedis(t, master.addr))
			require.Eventually(t, func() bool {
				_, err := confirmed.Acquire(ctx, redisBid("the replica is online", "a"))
				return err == nil
			}, 60*time.Second, 10*time.Millisecond)

			var all sync.WaitGroup
			var effects sync.Map
			var begun, refused atomic.Int32
			for w := range writers {
				all.Go(func() {
					for i := 0; ; i++ {
						key := fmt.Sprint(w, "/", i)
						r, err := s.Acquire(ctx, redisBid(key, "a"))
						switch {
						case err == nil && r.Owned("a"):
							effects.Store(key, true)
							begun.Add(1)
						case errors.Is(err, store.ErrUnreplicated):
							refused.Add(1)
						case err != nil:
							return // the master is dead
						}
					}
				})
			}
			require.Eventually(t, func() bool { return begun.Load() > 200 }, 60*time.Second, time.Millisecond)
			cut(t, replica)
			before := begun.Load()
			require.Eventually(t, func() bool {
				return refused.Load() >= writers || confirm == 0 && begun.Load() > before+200
			}, 60*time.Second, time.Millisecond)
			master.kill()
			all.Wait()
			promoted := newRedis(t, promote(t, replica))

			lost := 0
			effects.Range(func(key, _ any) bool {
				r, err := promoted.Load(ctx, key.(string))
				require.NoError(t, err)
				if !r.Owned("a") {
					lost++
				}
				return true
			})
			t.Logf("%d effects begun, %d claims refused for want of a replica, %d lost", begun.Load(), refused.Load(), lost)
			if confirm > 0 {
				require.GreaterOrEqual(t, refused.Load(), int32(writers), "the fault did not fire")
				require.Zero(t, lost, "an effect began whose claim is lost")
			} else {
				require.Positive(t, lost, "the fault did not fire")
			}
		})
	}
}

// cut takes a replica's master away, as a broken network would.
func cut(tb testing.TB, replica *redisServer) {
	tb.Helper()
	host, port, err := net.SplitHostPort(freeAddr(tb))
	require.NoError(tb, err)
	require.NoError(tb, dialRedis(tb, replica.addr).ReplicaOf(tb.Context(), host, port).Err())
	replica.waitInfo("replication", "master_link_status", "down")
}

// promote makes a replica a master.
func promote(tb testing.TB, replica *redisServer) *redis.Client {
	tb.Helper()
	client := dialRedis(tb, replica.addr)
	require.NoError(tb, client.ReplicaOf(tb.Context(), "NO", "ONE").Err())
	replica.waitInfo("replication", "role", "master")
	return client
}

func TestRedis_CheckWantsReplicas(t *testing.T) {
	t.Parallel()
	master := startServer(t)
	s := replicated(t, dialRedis(t, master.addr))
	err := s.Check(t.Context())
	require.ErrorIs(t, err, store.ErrUnverified)
	require.ErrorContains(t, err, "0 replicas")
	startReplica(t, master)
	require.NoError(t, s.Check(t.Context()))
}
