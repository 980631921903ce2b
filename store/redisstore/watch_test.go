package redisstore_test

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

func TestRedis_CheckTellsOfAServerThatForgot(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := startServer(t)
	client := dialRedis(t, server.addr)
	require.NoError(t, client.Do(ctx, "ACL", "SETUSER", "blind", "on", "nopass", "~*", "+@all", "-info", "-config").Err())
	s, other := newRedis(t, client), newRedis(t, client)
	blind := newRedis(t, dialRedis(t, server.addr, func(o *redis.Options) { o.Username, o.Password = "blind", "any" }))
	for range 3 {
		require.NoError(t, s.Check(ctx))
		require.NoError(t, other.Check(ctx))
		require.ErrorIs(t, blind.Check(ctx), store.ErrUnverified)
	}
	require.NoError(t, client.FlushAll(ctx).Err())
	for _, each := range []*redisstore.Store{s, other, blind} {
		require.ErrorIs(t, each.Check(ctx), store.ErrForgot)
	}
	require.NoError(t, s.Check(ctx), "told once")
	require.NoError(t, other.Check(ctx))
	require.NotErrorIs(t, blind.Check(ctx), store.ErrForgot)
	require.NoError(t, newRedis(t, client).Check(ctx), "a loss from before its time")
}

func TestRedis_CheckTellsOfARestart(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := startServer(t, "--appendonly", "yes", "--appendfsync", "always")
	s := newRedis(t, dialRedis(t, server.addr))
	require.NoError(t, s.Check(ctx))
	server.kill()
	server.restart()
	fresh := newRedis(t, dialRedis(t, server.addr))
	require.ErrorIs(t, fresh.Check(ctx), store.ErrReplaced, "the first to notice tells, whether or not it was there")
	require.ErrorIs(t, s.Check(ctx), store.ErrReplaced)
	require.NoError(t, fresh.Check(ctx))
	require.NoError(t, s.Check(ctx))
}

// A replica that had not everything takes the master's place.
func TestRedis_CheckTellsOfAPromotedReplicaThatMissesRecords(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	master := startServer(t)
	replica := startReplica(t, master)
	var addr atomic.Value
	addr.Store(master.addr)
	client := dialRedis(t, master.addr, func(o *redis.Options) {
		o.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr.Load().(string))
		}
	})
	const quarantine = 2 * time.Second
	s, err := redisstore.New(client, redisstore.Options{Quarantine: quarantine})
	require.NoError(t, err)
	require.NoError(t, s.Check(ctx))
	_, err = s.Acquire(ctx, redisBid("kept", "a"))
	require.NoError(t, err)
	require.NoError(t, client.Do(ctx, "WAIT", 1, 0).Err())

	cut(t, replica)
	_, err = s.Acquire(ctx, redisBid("lost", "a"))
	require.NoError(t, err)
	require.NoError(t, s.Check(ctx))
	master.kill()
	promote(t, replica)
	addr.Store(replica.addr)

	require.ErrorIs(t, s.Check(ctx), store.ErrForgot)
	r, err := s.Acquire(ctx, redisBid("kept", "b"))
	require.NoError(t, err)
	require.True(t, r.Owned("a"), "a record that is there is answered")
	_, err = s.Acquire(ctx, redisBid("lost", "b"))
	require.ErrorIs(t, err, store.ErrQuarantine)
	absent, err := s.Load(ctx, "lost")
	require.NoError(t, err)
	require.Equal(t, store.Absent, absent.State, "a refused claim leaves nothing")
	_, err = newRedis(t, client).Release(ctx, redisBid("given back", "a"))
	require.NoError(t, err)
	_, err = s.Acquire(ctx, redisBid("given back", "b"))
	require.ErrorIs(t, err, store.ErrQuarantine, "what came after a tombstone may be lost")
	young, err := redisstore.New(dialRedis(t, replica.addr), redisstore.Options{Quarantine: quarantine})
	require.NoError(t, err)
	require.NoError(t, young.Check(ctx))
	_, err = young.Acquire(ctx, redisBid("lost", "c"))
	require.ErrorIs(t, err, store.ErrQuarantine, "the server remembers it for processes that start later")

	settled, err := s.Settle(ctx, redisBid("lost", "a"), redisDone)
	require.NoError(t, err)
	require.True(t, settled.Forgotten, "the owner writes down what was forgotten")
	require.Eventually(t, func() bool {
		r, err = s.Acquire(ctx, redisBid("new", "a"))
		return err == nil
	}, 20*time.Second, 10*time.Millisecond)
	require.True(t, r.Owned("a"))
}

func TestRedis_CheckTellsOfEvictedKeys(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	client := dialRedis(t, startRedis(t))
	s := newRedis(t, client)
	require.NoError(t, s.Check(ctx))
	require.NoError(t, client.ConfigSet(ctx, "maxmemory-policy", "allkeys-random").Err())
	require.NoError(t, client.ConfigSet(ctx, "maxmemory", "3mb").Err())
	for i := range 100 {
		require.NoError(t, client.Set(ctx, strings.Repeat("k", i+1), strings.Repeat("x", 64<<10), 0).Err())
	}
	require.NoError(t, client.ConfigSet(ctx, "maxmemory", "0").Err())
	require.NoError(t, client.ConfigSet(ctx, "maxmemory-policy", "noeviction").Err())
	err := s.Check(ctx)
	require.ErrorIs(t, err, store.ErrForgot)
	require.ErrorContains(t, err, "evicted")
}

func TestRedis_CheckAtTheMemoryLimit(t *testing.T) {
	t.Parallel()
	client := dialRedis(t, startRedis(t))
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "1").Err())
	require.NoError(t, newRedis(t, client).Check(t.Context()))
}

func TestNewRedis_RefusesNegativeOptions(t *testing.T) {
	t.Parallel()
	client := dialRedis(t, "127.0.0.1:1")
	for _, o := range []redisstore.Options{{Replicas: -1}, {Quarantine: -1}} {
		_, err := redisstore.New(client, o)
		require.ErrorIs(t, err, store.ErrInvalid)
	}
}

// twice makes each call of a script a second time, as after a lost reply.
type twice struct{}

func (twice) DialHook(next redis.DialHook) redis.DialHook { return next }

func (twice) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (twice) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "evalsha" {
			_ = next(ctx, cmd)
		}
		return next(ctx, cmd)
	}
}

func TestRedis_CheckTellsOfALossThoughTheFirstReplyIsLost(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := startServer(t, "--appendonly", "yes", "--appendfsync", "always")
	require.NoError(t, newRedis(t, dialRedis(t, server.addr)).Check(ctx))
	server.kill()
	server.restart()
	client := dialRedis(t, server.addr)
	client.AddHook(twice{})
	s := newRedis(t, client)
	require.ErrorIs(t, s.Check(ctx), store.ErrReplaced)
	require.NoError(t, s.Check(ctx), "told once")
}

// A beat that no replica has confirmed proves no loss of anything that was relied
// on.
func TestRedis_CheckWithReplicasTellsOfNoLossThatIsNone(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	master := startServer(t)
	replica := startReplica(t, master)
	addr := atomic.Value{}
	addr.Store(master.addr)
	s := replicated(t, dialRedis(t, master.addr, func(o *redis.Options) {
		o.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr.Load().(string))
		}
	}))
	require.NoError(t, s.Check(ctx))
	cut(t, replica)
	require.ErrorIs(t, s.Check(ctx), store.ErrUnverified, "there is no replica")
	master.kill()
	promote(t, replica)
	addr.Store(replica.addr)
	err := s.Check(ctx)
	require.ErrorIs(t, err, store.ErrReplaced)
	require.NotErrorIs(t, err, store.ErrForgot)
}

// A user that may not run INFO leaves what others have noted.
func TestRedis_CheckOfABlindUserForgetsNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := startServer(t, "--appendonly", "yes", "--appendfsync", "always")
	client := dialRedis(t, server.addr)
	s := newRedis(t, client)
	require.NoError(t, s.Check(ctx))
	require.NoError(t, client.Do(ctx, "ACL", "SETUSER", "blind", "on", "nopass", "~*", "+@all", "-info", "-config").Err())
	blind := newRedis(t, dialRedis(t, server.addr, func(o *redis.Options) { o.Username, o.Password = "blind", "any" }))
	require.ErrorIs(t, blind.Check(ctx), store.ErrUnverified)
	server.kill()
	server.restart()
	require.ErrorIs(t, s.Check(ctx), store.ErrReplaced)
}

func TestRedis_CheckWithReplicasAtTheMemoryLimit(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	master := startServer(t)
	startReplica(t, master)
	client := dialRedis(t, master.addr)
	s := replicated(t, client)
	require.NoError(t, client.ConfigSet(ctx, "maxmemory", "1").Err())
	require.NoError(t, s.Check(ctx))
	require.NoError(t, client.FlushAll(ctx).Err())
	require.ErrorIs(t, s.Check(ctx), store.ErrForgot)
}
