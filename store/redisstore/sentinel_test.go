package redisstore_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// sentinelSet is a master and a replica, watched by three sentinels, two of which
// have to agree.
type sentinelSet struct {
	master, replica *redisServer
	sentinels       []*redisServer
}

// startSentinels starts a set, and waits until its sentinels know all of it.
// Nobody fails over until failFast is called.
func startSentinels(tb testing.TB) *sentinelSet {
	tb.Helper()
	s := &sentinelSet{master: startServer(tb)}
	s.replica = startReplica(tb, s.master)
	for range 3 {
		s.sentinels = append(s.sentinels, startSentinel(tb, s.master))
	}
	for _, sentinel := range s.sentinels {
		s.await(tb, sentinel, "num-slaves", "1")
		s.await(tb, sentinel, "num-other-sentinels", "2")
	}
	return s
}

// startSentinel starts a sentinel, which is a redis-server that keeps its state in
// its configuration file.
func startSentinel(tb testing.TB, master *redisServer) *redisServer {
	tb.Helper()
	masterHost, masterPort, err := net.SplitHostPort(master.addr)
	require.NoError(tb, err)
	return startServerAs(tb, func(addr, dir string) []string {
		host, port, err := net.SplitHostPort(addr)
		require.NoError(tb, err)
		conf := fmt.Sprintf("bind %s\nport %s\ndir %s\nlogfile log\n", host, port, dir) +
			fmt.Sprintf("sentinel monitor payments %s %s 2\n", masterHost, masterPort) +
			"sentinel down-after-milliseconds payments 60000\nsentinel failover-timeout payments 10000\n"
		path := filepath.Join(dir, "sentinel.conf")
		require.NoError(tb, os.WriteFile(path, []byte(conf), 0o600))
		return []string{path, "--sentinel"}
	})
}

// await waits until a sentinel says so about the master.
func (s *sentinelSet) await(tb testing.TB, sentinel *redisServer, field, want string) {
	tb.Helper()
	client := s.ask(tb, sentinel)
	require.Eventually(tb, func() bool {
		return client.Master(tb.Context(), "payments").Val()[field] == want
	}, 60*time.Second, 50*time.Millisecond, "%s: see %s", field, filepath.Join(sentinel.dir, "log"))
}

func (s *sentinelSet) ask(tb testing.TB, sentinel *redisServer) *redis.SentinelClient {
	tb.Helper()
	client := redis.NewSentinelClient(&redis.Options{Addr: sentinel.addr})
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// failFast makes the sentinels take a server for down after half a second.
func (s *sentinelSet) failFast(tb testing.TB) {
	tb.Helper()
	for _, sentinel := range s.sentinels {
		require.NoError(tb, s.ask(tb, sentinel).Set(tb.Context(), "payments", "down-after-milliseconds", "500").Err())
	}
}

func (s *sentinelSet) dial(tb testing.TB) *redis.Client {
	tb.Helper()
	o := &redis.FailoverOptions{MasterName: "payments"}
	for _, sentinel := range s.sentinels {
		o.SentinelAddrs = append(o.SentinelAddrs, sentinel.addr)
	}
	client := redis.NewFailoverClient(o)
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

func TestRedis_Sentinel(t *testing.T) { //nolint:tparallel // its steps share one set of servers
	t.Parallel()
	set := startSentinels(t)
	t.Run("contract", func(t *testing.T) { runContract(t, set.dial(t)) })
	t.Run("the master dies", func(t *testing.T) {
		s := newRedis(t, set.dial(t))
		require.NoError(t, s.Check(t.Context()))
		requireGoesOn(t, s, func() { requireReplicated(t, set.master) }, func() {
			requireNotifyFailsOver(t, set.dial(t), "k", func() {
				set.failFast(t)
				set.master.kill()
			})
		})
		requireNoticed(t, s)
		role, err := set.replica.info("replication", "role")
		require.NoError(t, err)
		require.Equal(t, "master", role)
		require.NoError(t, s.Clear(t.Context()))
		require.Zero(t, countRecords(t.Context(), t, s))
	})
}
