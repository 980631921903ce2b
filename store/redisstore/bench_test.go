package redisstore_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

// BenchmarkRedis compares the store with bare commands on the same connection,
// taking turns, so that a busy machine slows both down. It reports medians and
// their ratio.
func BenchmarkRedis(b *testing.B) {
	client := dialRedis(b, startRedis(b))
	s := newRedis(b, client)
	ctx := b.Context()

	b.Run("first", func(b *testing.B) {
		run := time.Now().UnixNano()
		compare(b, func(i int) error {
			key := fmt.Sprintf("bare/%d/%d", run, i)
			if err := client.SetNX(ctx, key, "nonce", 24*time.Hour).Err(); err != nil {
				return err
			}
			return client.Set(ctx, key, redisDone.Data, 24*time.Hour).Err()
		}, func(i int) error {
			bid := redisBid(fmt.Sprintf("v1/default/order-7/ChargeCard/%d/%d", run, i), "0198d1c42c1b7a539d0e8f2f3f0a6f10")
			r, err := s.Acquire(ctx, bid)
			if err != nil {
				return err
			}
			bid.Fence = r.Fence
			_, err = s.Settle(ctx, bid, redisDone)
			return err
		})
	})

	b.Run("duplicate", func(b *testing.B) {
		require.NoError(b, client.Set(ctx, "bare", redisDone.Data, 0).Err())
		first, other := redisBid("k", "a"), redisBid("k", "b")
		_, err := s.Acquire(ctx, first)
		require.NoError(b, err)
		_, err = s.Settle(ctx, first, redisDone)
		require.NoError(b, err)
		compare(b, func(int) error {
			return client.Get(ctx, "bare").Err()
		}, func(int) error {
			r, err := s.Acquire(ctx, other)
			if err == nil && r.State != store.Succeeded {
				err = fmt.Errorf("the record is %s", r.State)
			}
			return err
		})
	})
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

func compare(b *testing.B, bare, guarded func(i int) error) {
	b.Helper()
	var times [2][]time.Duration
	i := 0
	for b.Loop() {
		for j, f := range []func(int) error{bare, guarded} {
			start := time.Now()
			err := f(i)
			times[j] = append(times[j], time.Since(start))
			require.NoError(b, err)
		}
		i++
	}
	base, ours := median(times[0]), median(times[1])
	b.ReportMetric(float64(base.Nanoseconds())/1000, "µs-bare")
	b.ReportMetric(float64(ours.Nanoseconds())/1000, "µs-store")
	b.ReportMetric(float64(ours)/float64(base), "x-bare")
}
