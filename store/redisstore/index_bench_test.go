package redisstore

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

// BenchmarkRedisIndex measures what the index adds to a first run on the server, by
// its own account: the scripts as they are against the same without their lines
// about the index, taking turns, beside some that are open.
func BenchmarkRedisIndex(b *testing.B) {
	for _, open := range []int{0, 100, 10_000} {
		b.Run(fmt.Sprint("open-", open), func(b *testing.B) { indexCost(b, open) })
	}
}

func indexCost(b *testing.B, open int) {
	b.Helper()
	const runs = 500 // of one turn
	ctx, client := b.Context(), benchServer(b)
	s, err := New(client, Options{})
	require.NoError(b, err)
	require.NoError(b, s.index.prepare(ctx))
	for i := range open {
		_, err := s.Acquire(ctx, store.Bid{Key: fmt.Sprint("open/", i), Owner: "a", Lease: time.Minute, TTL: time.Hour})
		require.NoError(b, err)
	}
	without := func(parts ...string) *redis.Script {
		source := strings.Join(parts, "")
		return redis.NewScript(regexp.MustCompile(`(?m)^ *redis\.p?call\('Z(ADD|REM)', KEYS\[2\].*\n`).ReplaceAllString(source, ""))
	}
	kinds := []struct{ acquire, settle *redis.Script }{
		{without(clockLua, quickAcquireLua, bidTurnLua, acquireLua), without(allowOOM, clockLua, undisturbedLua, quickSettleLua, bidTurnLua, settleLua)},
		{acquireVerb.script, settleVerb.script},
	}
	done := []any{"succeeded", packOutcome("", store.Outcome{State: store.Succeeded, Data: []byte(`{"receipt":"4711"}`), Context: "json"})}
	var times [2][]float64
	for n := 0; b.Loop(); n++ {
		for i, k := range kinds {
			require.NoError(b, client.ConfigResetStat(ctx).Err())
			for run := range runs {
				bid := store.Bid{
					Key: fmt.Sprintf("v1/default/order-7/ChargeCard/%d/%d/%d", n, i, run), Owner: "0198d1c42c1b7a539d0e8f2f3f0a6f10",
					Lease: time.Minute, TTL: 24 * time.Hour,
					Info: store.Info{Activity: "ChargeCard", Holder: store.Holder{Namespace: "default", WorkflowID: "order-7", Attempt: 1, Worker: "42@host"}},
				}
				name := s.keys.name(bid.Key)
				keys := []string{name, s.index.of(name)}[:1+i]
				args, err := bidArgs(bid, nil)
				require.NoError(b, err)
				reply, err := k.acquire.Run(ctx, client, keys, args...).Slice()
				require.NoError(b, err)
				args[1] = reply[0]
				reply, err = k.settle.Run(ctx, client, keys, append(args, done...)...).Slice()
				require.NoError(b, err)
				require.Len(b, reply, 3)
			}
			times[i] = append(times[i], usecs(b, client, "evalsha")/runs)
		}
	}
	for i := range times {
		slices.Sort(times[i])
	}
	before, after := times[0][len(times[0])/2], times[1][len(times[1])/2]
	b.ReportMetric(before, "µs-without")
	b.ReportMetric(after, "µs-with")
	b.ReportMetric(after/before, "x-without")
	b.ReportMetric(0, "ns/op")
}

// usecs returns for how long the server has run a command since its statistics
// were reset.
func usecs(b *testing.B, client *redis.Client, command string) float64 {
	b.Helper()
	stats, err := client.Info(context.Background(), "commandstats").Result()
	require.NoError(b, err)
	_, after, found := strings.Cut(infoField(stats, "cmdstat_"+command), "usec=")
	require.True(b, found)
	usec, _, _ := strings.Cut(after, ",")
	n, err := strconv.ParseFloat(usec, 64)
	require.NoError(b, err)
	return n
}

// benchServer starts a server for the benchmark alone.
func benchServer(b *testing.B) *redis.Client {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	host, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(b, err)
	require.NoError(b, l.Close())
	cmd := exec.CommandContext(b.Context(), "redis-server", "--bind", host, "--port", port, "--dir", b.TempDir(), "--save", "")
	require.NoError(b, cmd.Start())
	client := redis.NewClient(&redis.Options{Addr: net.JoinHostPort(host, port)})
	b.Cleanup(func() {
		_ = client.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	require.Eventually(b, func() bool { return client.Ping(b.Context()).Err() == nil }, 10*time.Second, 10*time.Millisecond)
	return client
}
