package redisstore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

// requireWoken waits for a value.
func requireWoken(t *testing.T, changed <-chan struct{}, why string) {
	t.Helper()
	select {
	case <-changed:
	case <-time.After(30 * time.Second):
		require.FailNow(t, "nothing is sent", why)
	}
}

// listeners returns how many connections of a server wait for messages.
func listeners(t *testing.T, client *redis.Client) int {
	t.Helper()
	list, err := client.Do(t.Context(), "CLIENT", "LIST", "TYPE", "pubsub").Text()
	require.NoError(t, err)
	return strings.Count(list, "\n") // one of none is empty
}

// connections returns how many connections a server has.
func connections(t *testing.T, client *redis.Client) string {
	t.Helper()
	info, err := client.InfoMap(t.Context(), "clients").Result()
	require.NoError(t, err)
	return info["Clients"]["connected_clients"]
}

// Those who wait in one process share a connection, which is there while somebody
// waits, and is made anew when it breaks.
func TestRedis_NotifySharesAConnection(t *testing.T) {
	t.Parallel()
	client := dialRedis(t, startRedis(t))
	s, other := newRedis(t, client), newRedis(t, client)
	before := connections(t, client)
	var stops []func()
	var all []chan struct{}
	for i := range 100 {
		mustAcquire(t, s, redisBid(fmt.Sprint(i), "a"))
		changed := make(chan struct{}, 1)
		all, stops = append(all, changed), append(stops, s.Notify(fmt.Sprint(i), changed))
	}
	for _, changed := range all {
		requireWoken(t, changed, "the server has confirmed")
	}
	require.Equal(t, 1, listeners(t, client))

	require.NoError(t, client.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err())
	for _, changed := range all {
		requireWoken(t, changed, "what changed meanwhile was missed")
	}
	mustSettle(t, other, redisBid("7", "a"), redisDone)
	requireWoken(t, all[7], "it is settled")
	require.Empty(t, all[8])
	require.Equal(t, 1, listeners(t, client))

	for _, stop := range stops {
		stop()
	}
	require.Eventually(t, func() bool { return listeners(t, client) == 0 }, time.Minute, 50*time.Millisecond)
	require.Eventually(t, func() bool { return connections(t, client) == before }, time.Minute, 50*time.Millisecond, "it is kept")
	mustAcquire(t, s, redisBid("again", "a"))
	changed := make(chan struct{}, 1)
	defer s.Notify("again", changed)()
	requireWoken(t, changed, "there is a connection again")
}

// Without the right to the channels nothing is sent, and nothing breaks.
func TestRedis_NotifyWithoutTheRight(t *testing.T) {
	t.Parallel()
	addr := startRedis(t)
	admin := dialRedis(t, addr)
	setUser(t, admin, "deaf", "resetchannels")
	setUser(t, admin, "whole")
	s := newRedis(t, dialRedis(t, addr, asUser("deaf")))
	err := s.Check(t.Context())
	require.ErrorIs(t, err, store.ErrUnverified)
	require.ErrorContains(t, err, "ACL SETUSER deaf &atmostonce:* +spublish +ssubscribe +sunsubscribe")
	require.NoError(t, newRedis(t, dialRedis(t, addr, asUser("whole"))).Check(t.Context()))

	b := redisBid("k", "a")
	mustAcquire(t, s, b)
	changed := make(chan struct{}, 1)
	stop := s.Notify("k", changed)
	defer stop()
	r := mustSettle(t, s, b, store.Outcome{State: store.InDoubt})
	_, err = s.Resolve(t.Context(), "k", r, store.Resolution{ID: "r", To: store.Failed, By: store.ByOperator, TTL: time.Hour})
	require.NoError(t, err)
	require.Empty(t, changed)
}
