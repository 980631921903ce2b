package redisstore_test

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

// guardBid is a bid as the guard makes it.
func guardBid(key string) store.Bid {
	const input = "9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab"
	return store.Bid{
		Key: key, Owner: crand.Text(), Lease: time.Minute, TTL: 30 * 24 * time.Hour, Deadline: 10 * time.Minute, Began: true,
		Info: store.Info{
			Activity: "ChargeCard", Input: input, Match: input, Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
			Holder: store.Holder{
				Namespace: "default", WorkflowID: "order-4711", RunID: "0198d1c4-2c1b-7a53-9d0e-8f2f3f0a6f10", ActivityID: "5",
				Scheduled: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), Attempt: 1, Worker: "4242@payments-7d9f",
				OriginalRunID: "0198d1c4-2c1b-7a53-9d0e-8f2f3f0a6f10", Occurrence: 1,
			},
		},
	}
}

// guardDone is an outcome as the guard makes it: of 58 bytes, with its context.
var guardDone = store.Outcome{
	State: store.Succeeded, Data: []byte("\n8\n\x16\n\bencoding\x12\njson/plain\x12\x1e{\"receipt\":\"4711-2026-01-02-a\"}"),
	Context: `{"Namespace":"default","WorkflowID":"order-4711","WorkflowType":"Order","ActivityType":"ChargeCard","TaskQueue":"payments","IsLocal":false}`,
}

func guardKey(run int64, i int) string {
	return fmt.Sprintf("v1/default/w:order-4711/ChargeCard/%d-%d", run, i)
}

func firstRun(ctx context.Context, s store.Store, key string) error {
	bid := guardBid(key)
	r, err := s.Acquire(ctx, bid)
	if err != nil {
		return err
	}
	bid.Fence = r.Fence
	_, err = s.Settle(ctx, bid, guardDone)
	return err
}

// BenchmarkRedis compares the store with bare commands on the same client, taking
// turns, so that a busy machine slows both down: a first run with SETNX and SET, a
// duplicate with GET, of values that are as long as the records. It reports medians
// and the median of the ratios of each turn, for one call at once and for 64, and the
// server's time for a call.
func BenchmarkRedis(b *testing.B) {
	client := dialRedis(b, startRedis(b), func(o *redis.Options) { o.PoolSize = 64 })
	s := newRedis(b, client)
	ctx, run := b.Context(), time.Now().UnixNano()
	require.NoError(b, s.Check(ctx))
	require.NoError(b, firstRun(ctx, s, "model"))
	value := make([]byte, recordSize(b, client, "model"))
	bareFirst := func(i int) error {
		key := fmt.Sprintf("bare/%d/%d", run, i)
		if err := client.SetNX(ctx, key, value[:len(value)*3/4], 24*time.Hour).Err(); err != nil {
			return err
		}
		return client.Set(ctx, key, value, 24*time.Hour).Err()
	}
	first := func(i int) error { return firstRun(ctx, s, guardKey(run, i)) }
	require.NoError(b, client.Set(ctx, "bare", value, 0).Err())
	bareDuplicate := func(int) error { return client.Get(ctx, "bare").Err() }
	duplicateOf := func(key func(i int) string) func(i int) error {
		return func(i int) error {
			r, err := s.Acquire(ctx, guardBid(key(i)))
			if err == nil && r.State != store.Succeeded {
				err = fmt.Errorf("the record is %s", r.State)
			}
			return err
		}
	}
	duplicate := duplicateOf(func(int) string { return "model" })
	elsewhere := newRedis(b, client) // what its process has never met
	const strangers = 20_000
	for i := range strangers {
		require.NoError(b, firstRun(ctx, elsewhere, fmt.Sprint("stranger/", i)))
	}
	stranger := duplicateOf(func(i int) string { return fmt.Sprint("stranger/", i%strangers) })
	for _, c := range []struct {
		name       string
		bare, ours func(i int) error
	}{{"first", bareFirst, first}, {"duplicate", bareDuplicate, duplicate}, {"duplicate-unknown", bareDuplicate, stranger}} {
		for _, atOnce := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s-%d", c.name, atOnce), func(b *testing.B) { compare(b, client, atOnce, c.bare, c.ours) })
		}
	}
}

// BenchmarkRedisBytes reports what a settled record takes of the server's memory.
func BenchmarkRedisBytes(b *testing.B) {
	const n = 20_000
	client := dialRedis(b, startRedis(b))
	s := newRedis(b, client)
	require.NoError(b, firstRun(b.Context(), s, "the server knows the scripts now"))
	before := usedMemory(b, client)
	for i := range n {
		require.NoError(b, firstRun(b.Context(), s, guardKey(1_760_000_000, i)))
	}
	for b.Loop() {
		continue // it was measured above
	}
	b.ReportMetric((usedMemory(b, client)-before)/n, "B/record")
	usage, err := client.MemoryUsage(b.Context(), redisName(guardKey(1_760_000_000, 1))).Result()
	require.NoError(b, err)
	b.ReportMetric(float64(usage), "B/usage")
	b.ReportMetric(float64(recordSize(b, client, guardKey(1_760_000_000, 1))), "B/value")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkRedisWake reports how long after a settle those who wait are told, and the
// 99th percentile, for one waiter of a key and for 1,000.
func BenchmarkRedisWake(b *testing.B) {
	client := dialRedis(b, startRedis(b))
	s := newRedis(b, client)
	for _, waiters := range []int{1, 1000} {
		b.Run(strconv.Itoa(waiters), func(b *testing.B) {
			var took []time.Duration
			for n := 0; b.Loop(); n++ {
				bid := guardBid(fmt.Sprintf("wake/%d/%d", waiters, n))
				_, err := s.Acquire(b.Context(), bid)
				require.NoError(b, err)
				all, times := make([]chan struct{}, waiters), make([]time.Time, waiters)
				for i := range all {
					all[i] = make(chan struct{}, 1)
					defer s.Notify(bid.Key, all[i])()
				}
				<-all[0]                            // the server has confirmed,
				<-time.After(20 * time.Millisecond) // and all that it tells has been told
				var told sync.WaitGroup
				for i, changed := range all {
					for len(changed) > 0 {
						<-changed
					}
					told.Go(func() {
						<-changed
						times[i] = time.Now()
					})
				}
				start := time.Now()
				_, err = s.Settle(b.Context(), bid, guardDone)
				require.NoError(b, err)
				told.Wait()
				for _, at := range times {
					took = append(took, at.Sub(start))
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-median")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// recordSize is how long the record of key is, whatever it is kept as.
func recordSize(b *testing.B, client *redis.Client, key string) int {
	b.Helper()
	n, err := client.StrLen(b.Context(), redisName(key)).Result()
	require.NoError(b, err)
	return int(n)
}

// BenchmarkRedisDurability measures what a first run costs with each of the
// settings that keep records, taking turns. It reports medians and their ratio to
// a server that keeps nothing.
func BenchmarkRedisDurability(b *testing.B) {
	kinds := []string{"nothing", "everysec", "always", "replica"}
	stores := map[string]*redisstore.Store{}
	for _, kind := range kinds[:3] {
		var config []string
		if kind != "nothing" {
			config = []string{"--appendonly", "yes", "--appendfsync", kind}
		}
		stores[kind] = newRedis(b, dialRedis(b, startRedis(b, config...)))
	}
	master := startServer(b)
	startReplica(b, master)
	stores["replica"] = replicated(b, dialRedis(b, master.addr))

	times := map[string][]time.Duration{}
	run := 0
	for b.Loop() {
		run++
		for _, kind := range kinds {
			start := time.Now()
			complete(b, stores[kind], strconv.Itoa(run))
			times[kind] = append(times[kind], time.Since(start))
		}
	}
	bare := median(times["nothing"])
	for _, kind := range kinds {
		m := median(times[kind])
		b.ReportMetric(float64(m.Microseconds()), "µs-"+kind)
		b.ReportMetric(float64(m)/float64(bare), "x-"+kind)
	}
	b.ReportMetric(0, "ns/op")
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

// compare takes turns of bare and ours, each of atOnce calls at once, until the
// benchmark ends.
func compare(b *testing.B, client *redis.Client, atOnce int, bare, ours func(i int) error) {
	b.Helper()
	const each = 16 // calls of a caller in a turn, where there are many callers
	var times [2][]time.Duration
	var server [2]float64
	var ratios []float64
	calls := atOnce
	if atOnce > 1 {
		calls *= each
	}
	for turn := 0; b.Loop(); turn++ {
		for j, f := range []func(int) error{bare, ours} {
			serverTime(b, client, turn)
			start := time.Now()
			if atOnce == 1 {
				require.NoError(b, f(turn))
			} else {
				var all sync.WaitGroup
				for c := range atOnce {
					all.Go(func() {
						for i := range each {
							if err := f(((turn+1e9)*atOnce+c)*each + i); err != nil {
								b.Error(err)
							}
						}
					})
				}
				all.Wait()
			}
			times[j] = append(times[j], time.Since(start)/time.Duration(calls))
			server[j] += serverTime(b, client, turn)
		}
		ratios = append(ratios, float64(times[1][turn])/float64(times[0][turn]))
	}
	slices.Sort(ratios)
	sampled := float64((len(ratios)+sampling-1)/sampling) * float64(calls)
	b.ReportMetric(float64(median(times[0]).Nanoseconds())/1000, "µs-bare")
	b.ReportMetric(float64(median(times[1]).Nanoseconds())/1000, "µs-store")
	b.ReportMetric(ratios[len(ratios)/2], "x-bare")
	b.ReportMetric(server[0]/sampled, "server-µs-bare")
	b.ReportMetric(server[1]/sampled, "server-µs-store")
	b.ReportMetric(0, "ns/op")
}

// sampling is how many turns are between two that the server is asked about.
const sampling = 8

// serverTime is for how many microseconds the server has run commands; 0 in most turns.
// What scripts run is in the time of the scripts, where there are any.
func serverTime(b *testing.B, client *redis.Client, turn int) (sum float64) {
	b.Helper()
	if turn%sampling != 0 {
		return 0
	}
	stats, err := client.InfoMap(b.Context(), "commandstats").Result()
	require.NoError(b, err)
	require.NoError(b, client.ConfigResetStat(b.Context()).Err())
	for command, fields := range stats["Commandstats"] {
		_, usec, _ := strings.Cut(fields, "usec=")
		usec, _, _ = strings.Cut(usec, ",")
		n, err := strconv.ParseFloat(usec, 64)
		require.NoError(b, err)
		switch command {
		case "cmdstat_evalsha":
			return n
		case "cmdstat_info", "cmdstat_config|resetstat":
		default:
			sum += n
		}
	}
	return sum
}
