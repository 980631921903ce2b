package redisstore_test

import (
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

// clusterRights are what the client of a Cluster needs on top.
var clusterRights = []string{"+cluster|slots"}

// requireRightsOnEachMaster is a step of TestRedis_Cluster.
func requireRightsOnEachMaster(t *testing.T, c *redisCluster) {
	t.Helper()
	for _, n := range c.nodes() {
		setUser(t, c.clients[n], "atmostonce", clusterRights...)
	}
	dial := func() *redisstore.Store {
		client := redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: []string{c.masters[0].addr}, Username: "atmostonce", Password: "PASSWORD",
		})
		t.Cleanup(func() { _ = client.Close() })
		s, err := redisstore.New(client, redisstore.Options{Prefix: "atmostonce:rights:"})
		require.NoError(t, err)
		return s
	}
	s := dial()
	require.NoError(t, s.Check(t.Context()))
	for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
		_, err := s.Acquire(t.Context(), redisBid(key, "a"))
		require.NoError(t, err)
	}
	n := 0
	for _, err := range s.List(t.Context(), store.Query{}) {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, 6, n)
	for _, m := range c.masters {
		setUser(t, c.clients[m], "atmostonce", slices.Concat(clusterRights, []string{"-persist"})...)
		err := dial().Check(t.Context())
		require.ErrorIs(t, err, store.ErrDenied)
		require.ErrorContains(t, err, "lacks persist,")
		setUser(t, c.clients[m], "atmostonce", clusterRights...)
	}
}
