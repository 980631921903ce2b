package redisstore_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store/redisstore"
)

// requireHeard requires that a settlement of key is heard of: a notice may get lost, but
// not as a rule.
func requireHeard(t *testing.T, s *redisstore.Store, key string, changed <-chan struct{}) {
	t.Helper()
	b := redisBid(key, "a")
	mustAcquire(t, s, b)
	drain(changed)
	mustSettle(t, s, b, redisDone)
	requireWoken(t, changed, key)
}

func drain(changed <-chan struct{}) {
	select {
	case <-changed:
	default:
	}
}

// A connection that cannot be made is given up when nobody waits, and when the client is
// closed.
func TestRedis_NotifyGivesUp(t *testing.T) {
	t.Parallel()
	for about, end := range map[string]func(server *redisServer, client *redis.Client){
		"the server is gone":   func(server *redisServer, _ *redis.Client) { server.kill() },
		"the client is closed": func(_ *redisServer, client *redis.Client) { require.NoError(t, client.Close()) },
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			server := startServer(t)
			client := dialRedis(t, server.addr, func(o *redis.Options) { o.MaxRetries = -1 })
			s := newRedis(t, client)
			changed := make(chan struct{}, 1)
			stop := s.Notify("k", changed)
			requireWoken(t, changed, "the server has confirmed")
			require.Equal(t, 1, redisstore.Hearing(s))
			end(server, client)
			stop()
			require.Eventually(t, func() bool { return redisstore.Hearing(s) == 0 }, 30*time.Second, 10*time.Millisecond)
		})
	}
}

// Who waits while a master is replaced hears of what the next one does.
func requireNotifyFailsOver(t *testing.T, client redis.UniversalClient, key string, fail func()) {
	t.Helper()
	s, err := redisstore.New(client, redisstore.Options{Prefix: "heard:"})
	require.NoError(t, err)
	changed := make(chan struct{}, 1)
	stop := s.Notify(key, changed)
	defer stop()
	requireWoken(t, changed, "the master has confirmed")
	fail()
	requireWoken(t, changed, "what changed meanwhile was missed")
	requireHeard(t, s, key, changed)
}

// Who waits for a key whose slot moves to another master hears of it there.
func requireNotifyMoves(t *testing.T, c *redisCluster) {
	t.Helper()
	s := newRedis(t, c.dial(t))
	require.NoError(t, s.Clear(t.Context()))
	slot := c.clients[c.masters[0]].ClusterKeySlot(t.Context(), redisName("moves")).Val()
	from := slot / slotsEach
	changed := make(chan struct{}, 1)
	stop := s.Notify("moves", changed)
	requireWoken(t, changed, "the master has confirmed")
	requireHeard(t, s, "moves", changed)
	c.migrate(t, slot, c.masters[from], c.masters[(from+1)%3], false)
	requireWoken(t, changed, "what changed meanwhile was missed")
	require.NoError(t, s.Clear(t.Context()))
	requireHeard(t, s, "moves", changed)
	stop()
	c.migrate(t, slot, c.masters[(from+1)%3], c.masters[from], false)
	require.NoError(t, s.Clear(t.Context()))
}

// Somebody who stops waiting, and somebody who begins to, end nobody's connection.
func TestRedis_NotifyComesAndGoes(t *testing.T) {
	t.Parallel()
	addr := startRedis(t)
	dialed := make(chan struct{}, 1000)
	client := dialRedis(t, addr, func(o *redis.Options) {
		dial := redis.NewDialer(o)
		o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialed <- struct{}{}
			return dial(ctx, network, addr)
		}
	})
	s := newRedis(t, client)
	changed := make(chan struct{}, 1)
	defer s.Notify("stays", changed)()
	requireWoken(t, changed, "the server has confirmed")
	before := len(dialed)
	for range 200 {
		changed := make(chan struct{}, 1)
		stop := s.Notify("k", changed)
		requireWoken(t, changed, "the server has confirmed")
		stop()
	}
	require.Len(t, dialed, before)
}
