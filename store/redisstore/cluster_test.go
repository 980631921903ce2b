package redisstore_test

import (
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// slotsEach is how many slots each of three masters has; the last has two less.
const slotsEach = 5462

// redisCluster is a Redis Cluster of one test.
type redisCluster struct {
	masters, replicas []*redisServer // replicas[i] is that of masters[i]
	clients           map[*redisServer]*redis.Client
}

// startCluster starts three masters with a replica each, and waits until all
// serve. Nobody fails over until failFast is called.
func startCluster(tb testing.TB) *redisCluster {
	tb.Helper()
	ctx, c := tb.Context(), &redisCluster{clients: map[*redisServer]*redis.Client{}}
	for range 3 {
		c.masters = append(c.masters, startClusterNode(tb))
		c.replicas = append(c.replicas, startClusterNode(tb))
	}
	for _, n := range c.nodes() {
		c.clients[n] = dialRedis(tb, n.addr)
	}
	for i, m := range c.masters {
		node := c.clients[m]
		require.NoError(tb, node.ClusterAddSlotsRange(ctx, i*slotsEach, min((i+1)*slotsEach-1, 16383)).Err())
		require.NoError(tb, node.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err())
	}
	nodes := c.nodes()
	for i, a := range nodes {
		for _, b := range nodes[:i] {
			host, port, err := net.SplitHostPort(b.addr)
			require.NoError(tb, err)
			bus := c.clients[b].ConfigGet(ctx, "cluster-port").Val()["cluster-port"]
			require.NoError(tb, c.clients[a].Do(ctx, "CLUSTER", "MEET", host, port, bus).Err())
		}
	}
	c.wait(tb, "cluster_known_nodes:6", "cluster_state:ok")
	for i, r := range c.replicas {
		id := c.id(tb, c.masters[i])
		// A node that it still shakes hands with cannot be replicated.
		require.Eventually(tb, func() bool {
			return c.clients[r].ClusterReplicate(ctx, id).Err() == nil
		}, 30*time.Second, 20*time.Millisecond)
	}
	for _, r := range c.replicas {
		r.waitInfo("replication", "master_link_status", "up")
	}
	c.wait(tb, "cluster_size:3", "cluster_state:ok")
	c.configure(tb, "cluster-node-timeout", "30000")
	return c
}

func startClusterNode(tb testing.TB) *redisServer {
	tb.Helper()
	_, bus, err := net.SplitHostPort(freeAddr(tb))
	require.NoError(tb, err)
	return startServer(tb, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "2000",
		"--cluster-replica-validity-factor", "0", "--cluster-allow-replica-migration", "no")
}

func (c *redisCluster) nodes() []*redisServer {
	return append(append([]*redisServer(nil), c.masters...), c.replicas...)
}

// wait waits until CLUSTER INFO of every node that runs has these lines.
func (c *redisCluster) wait(tb testing.TB, lines ...string) {
	tb.Helper()
	for _, n := range c.nodes() {
		if !n.running() {
			continue
		}
		node := c.clients[n]
		require.Eventually(tb, func() bool {
			info := node.ClusterInfo(tb.Context()).Val()
			for _, line := range lines {
				if !strings.Contains(info, line+"\r\n") {
					return false
				}
			}
			return true
		}, 60*time.Second, 20*time.Millisecond, "%s does not say %v", n.addr, lines)
	}
}

func (c *redisCluster) configure(tb testing.TB, option, value string) {
	tb.Helper()
	for _, n := range c.nodes() {
		require.NoError(tb, c.clients[n].ConfigSet(tb.Context(), option, value).Err())
	}
}

func (c *redisCluster) id(tb testing.TB, n *redisServer) string {
	tb.Helper()
	id, err := c.clients[n].Do(tb.Context(), "CLUSTER", "MYID").Text()
	require.NoError(tb, err)
	return id
}

// keyOf returns a key that a master has, but for slots that have moved.
func (c *redisCluster) keyOf(tb testing.TB, master int64) string {
	tb.Helper()
	for i := 0; ; i++ {
		key := "key of a master/" + strconv.Itoa(i)
		if slot := c.clients[c.replicas[master]].ClusterKeySlot(tb.Context(), redisName(key)).Val(); slot/slotsEach == master {
			return key
		}
	}
}

func (c *redisCluster) dial(tb testing.TB) *redis.ClusterClient {
	tb.Helper()
	o := &redis.ClusterOptions{}
	for _, n := range c.nodes() {
		o.Addrs = append(o.Addrs, n.addr)
	}
	client := redis.NewClusterClient(o)
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// migrate moves a slot with its keys from one master to another; if awaited, while
// callers ask for them.
func (c *redisCluster) migrate(tb testing.TB, slot int64, from, to *redisServer, awaited bool) {
	tb.Helper()
	ctx, src, dst := tb.Context(), c.clients[from], c.clients[to]
	fromID, toID, asked := c.id(tb, from), c.id(tb, to), c.told(tb, "ASK", from)
	require.NoError(tb, dst.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", fromID).Err())
	require.NoError(tb, src.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", toID).Err())
	host, port, err := net.SplitHostPort(to.addr)
	require.NoError(tb, err)
	for {
		names, err := src.ClusterGetKeysInSlot(ctx, int(slot), 100).Result()
		require.NoError(tb, err)
		if len(names) == 0 {
			break
		}
		args := []any{"MIGRATE", host, port, "", 0, 5000, "KEYS"}
		for _, name := range names {
			args = append(args, name)
		}
		require.NoError(tb, src.Do(ctx, args...).Err())
	}
	if awaited {
		require.Eventually(tb, func() bool { return c.told(tb, "ASK", from) > asked }, 30*time.Second, 5*time.Millisecond)
	}
	require.NoError(tb, dst.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", toID).Err())
	require.NoError(tb, src.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", toID).Err())
	c.agree(tb)
}

// agree waits until all masters know of each other's last epoch, and no two are at the
// same: else what one says of its slots next may not count with the others.
func (c *redisCluster) agree(tb testing.TB) {
	tb.Helper()
	require.Eventually(tb, func() bool {
		mine, current := map[string]bool{}, map[string]bool{}
		for _, m := range c.masters {
			info := c.clients[m].ClusterInfo(tb.Context()).Val()
			mine[regexp.MustCompile(`cluster_my_epoch:\d+`).FindString(info)] = true
			current[regexp.MustCompile(`cluster_current_epoch:\d+`).FindString(info)] = true
		}
		return len(mine) == len(c.masters) && len(current) == 1
	}, 60*time.Second, 5*time.Millisecond)
}

// told returns how often these nodes answered with an error of that name.
func (c *redisCluster) told(tb testing.TB, name string, nodes ...*redisServer) (n int) {
	tb.Helper()
	for _, server := range nodes {
		stats, err := c.clients[server].InfoMap(tb.Context(), "errorstats").Result()
		require.NoError(tb, err)
		if count, ok := strings.CutPrefix(stats["Errorstats"]["errorstat_"+name], "count="); ok {
			k, err := strconv.Atoi(count)
			require.NoError(tb, err)
			n += k
		}
	}
	return n
}
