//go:build linux || darwin

package redisstore_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

// BenchmarkListInDoubt measures what it takes to list a hundred records in doubt
// among ten thousand and a million settled ones, taking turns. It reports medians,
// and what the first listing took that meets records without an index.
func BenchmarkListInDoubt(b *testing.B) {
	sizes := [2]int{1e4, 1e6}
	b.Run("memory", func(b *testing.B) {
		listInDoubt(b, sizes, func(b *testing.B, n int) store.Store {
			s := store.NewMemory(store.MemoryOptions{MaxRecords: math.MaxInt})
			prefill(b, s, n)
			return s
		})
	})
	b.Run("redis", func(b *testing.B) {
		listInDoubt(b, sizes, func(b *testing.B, n int) store.Store {
			client := dialRedis(b, startRedis(b))
			fillRedis(b, client, n)
			return newRedis(b, client)
		})
	})
	b.Run("cluster", func(b *testing.B) {
		listInDoubt(b, sizes, func(b *testing.B, n int) store.Store {
			client := startCluster(b).dial(b)
			fillRedis(b, client, n)
			return newRedis(b, client)
		})
	})
	b.Run("file", func(b *testing.B) {
		// A million take minutes to write.
		listInDoubt(b, [2]int{1e4, 1e5}, func(b *testing.B, n int) store.Store {
			s := openFile(b, b.TempDir())
			prefill(b, s, n)
			return s
		})
	})
}

func listInDoubt(b *testing.B, sizes [2]int, open func(b *testing.B, n int) store.Store) {
	b.Helper()
	const doubts = 100
	var stores [2]store.Store
	var times [2][]time.Duration
	var rebuild [2]time.Duration
	list := func(s store.Store) time.Duration {
		start := time.Now()
		require.Len(b, listOpen(b, s, store.InDoubt), doubts)
		return time.Since(start)
	}
	for i, n := range sizes {
		stores[i] = open(b, n)
		for k := range doubts {
			bid := redisBid(fmt.Sprint("doubt/", k), "a")
			_, err := stores[i].Acquire(b.Context(), bid)
			require.NoError(b, err)
			_, err = stores[i].Settle(b.Context(), bid, store.Outcome{State: store.InDoubt})
			require.NoError(b, err)
		}
		rebuild[i] = list(stores[i])
	}
	for b.Loop() {
		for i, s := range stores {
			times[i] = append(times[i], list(s))
		}
	}
	for i, n := range sizes {
		b.ReportMetric(float64(rebuild[i].Milliseconds()), fmt.Sprint("ms/first-", n))
		b.ReportMetric(float64(median(times[i]).Microseconds())/1000, fmt.Sprint("ms/list-", n))
	}
	b.ReportMetric(0, "ns/op")
}

// fillRedis writes settled records without an index.
func fillRedis(b *testing.B, client redis.UniversalClient, n int) {
	b.Helper()
	ctx := context.Background()
	const batch = 10_000
	for i := 0; i < n; i += batch {
		_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for k := range batch {
				key := fmt.Sprint(i + k)
				p.Set(ctx, redisName(key), packedRecord(key, store.Succeeded, 1_760_000_000_000_000), 0)
			}
			return nil
		})
		require.NoError(b, err)
	}
}
