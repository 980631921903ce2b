package store_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

// A call whose reply is lost is repeated, by go-redis or by the caller, and gets
// the answer that was lost.
func TestRedis_LostReply(t *testing.T) {
	t.Parallel()
	addr := startRedis(t)
	direct := newRedis(t, dialRedis(t, addr))
	for _, retries := range []int{3, -1} {
		for _, verb := range []string{"Acquire", "Settle", "Release", "Takeover", "Resolve"} {
			t.Run(fmt.Sprintf("%s, MaxRetries %d", verb, retries), func(t *testing.T) {
				t.Parallel()
				ctx, key := t.Context(), t.Name()
				proxy := newDropProxy(t, addr)
				client := dialRedis(t, proxy.addr, func(o *redis.Options) { o.MaxRetries, o.PoolSize = retries, 1 })
				b, from := redisBid(key, "a"), store.Record{}
				revision := uint64(1)
				if verb != "Acquire" {
					_, err := direct.Acquire(ctx, b)
					require.NoError(t, err)
					revision++
				}
				if verb == "Takeover" || verb == "Resolve" {
					var err error
					from, err = direct.Settle(ctx, b, store.Outcome{State: store.InDoubt})
					require.NoError(t, err)
					b.Owner = "b"
					revision++
				}
				require.NoError(t, client.Ping(ctx).Err())
				call := redisVerbs(newRedis(t, client), b, from)[verb]

				proxy.armed.Store(true)
				r, err := call(ctx)
				if retries < 0 {
					require.Error(t, err, "the reply is lost")
					r, err = call(ctx)
				}
				require.NoError(t, err)
				require.EqualValues(t, 1, proxy.dropped.Load())
				require.Equal(t, revision, r.Revision, "the call was applied once")
				stored, err := direct.Load(ctx, key)
				require.NoError(t, err)
				stored.Now = r.Now
				require.Equal(t, stored, r)
				if verb == "Acquire" || verb == "Takeover" {
					require.True(t, r.Owned(b.Owner))
				}
			})
		}
	}
}

// dropProxy stands before a server and can lose a reply together with its
// connection.
type dropProxy struct {
	addr    string
	armed   atomic.Bool
	dropped atomic.Int32
}

func newDropProxy(t *testing.T, server string) *dropProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	p := &dropProxy{addr: l.Addr().String()}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(client, server)
		}
	}()
	return p
}

func (p *dropProxy) serve(client net.Conn, server string) {
	defer func() { _ = client.Close() }()
	upstream, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer func() { _ = upstream.Close() }()
	go func() {
		_, _ = io.Copy(upstream, client)
		_ = upstream.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := upstream.Read(buf)
		if err != nil {
			return
		}
		if p.armed.CompareAndSwap(true, false) {
			p.dropped.Add(1)
			return
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

func TestRedis_Cluster(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var addrs []string
	var nodes []*redis.Client
	for range 2 {
		_, bus, err := net.SplitHostPort(freeAddr(t))
		require.NoError(t, err)
		addr := startRedis(t, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "2000")
		addrs, nodes = append(addrs, addr), append(nodes, dialRedis(t, addr))
	}
	require.NoError(t, nodes[0].ClusterAddSlotsRange(ctx, 0, 8191).Err())
	require.NoError(t, nodes[1].ClusterAddSlotsRange(ctx, 8192, 16383).Err())
	meet(t, nodes[0], nodes[1], addrs[1])
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	t.Cleanup(func() { _ = client.Close() })
	s := newRedis(t, client)
	require.NoError(t, s.Check(ctx))

	const records = 40
	for i := range records {
		b := redisBid(fmt.Sprint(i), "a")
		r, err := s.Acquire(ctx, b)
		require.NoError(t, err)
		require.True(t, r.Owned("a"))
		_, err = s.Settle(ctx, b, redisDone)
		require.NoError(t, err)
	}
	for _, node := range nodes {
		require.Positive(t, node.DBSize(ctx).Val())
		require.NoError(t, node.ScriptFlush(ctx).Err())
	}
	require.Equal(t, records, countRecords(ctx, t, s))

	require.NoError(t, nodes[1].ConfigSet(ctx, "maxmemory-policy", "allkeys-lru").Err())
	require.ErrorIs(t, s.Check(ctx), store.ErrUnsafe)
	require.NoError(t, s.Clear(ctx))
	require.Zero(t, countRecords(ctx, t, s))
}

// meet makes a cluster of two nodes and waits until both serve.
func meet(t *testing.T, a, b *redis.Client, addrB string) {
	t.Helper()
	ctx := t.Context()
	host, port, err := net.SplitHostPort(addrB)
	require.NoError(t, err)
	bus := b.ConfigGet(ctx, "cluster-port").Val()["cluster-port"]
	require.NoError(t, a.Do(ctx, "CLUSTER", "MEET", host, port, bus).Err())
	require.Eventually(t, func() bool {
		for _, node := range []*redis.Client{a, b} {
			if !strings.Contains(node.ClusterInfo(ctx).Val(), "cluster_state:ok") {
				return false
			}
		}
		return true
	}, 20*time.Second, 20*time.Millisecond)
}

func countRecords(ctx context.Context, t *testing.T, s *store.Redis) (n int) {
	t.Helper()
	for r, err := range s.List(ctx, store.Query{}) {
		require.NoError(t, err)
		require.Equal(t, store.Succeeded, r.State)
		n++
	}
	return n
}
