package store_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

var sizes = []int{1e3, 1e4, 1e5, 1e6}

// BenchmarkScale measures what a call costs in stores of a thousand to a million
// records, taking turns, and what a record weighs. It reports medians, their
// ratio to the smallest store's, and bytes.
func BenchmarkScale(b *testing.B) {
	b.Run("memory", func(b *testing.B) {
		scale(b, func(b *testing.B, n int) (store.Store, func() float64) {
			before := heap()
			s := store.NewMemory(store.MemoryOptions{MaxRecords: math.MaxInt})
			return s, func() float64 { return (heap() - before) / float64(n) }
		})
	})
	b.Run("redis", func(b *testing.B) {
		addr := startRedis(b)
		scale(b, func(b *testing.B, n int) (store.Store, func() float64) {
			client := dialRedis(b, addr, func(o *redis.Options) { o.DB = slices.Index(sizes, n) })
			before := usedMemory(b, client)
			return newRedis(b, client), func() float64 { return (usedMemory(b, client) - before) / float64(n) }
		})
	})
}

func scale(b *testing.B, open func(b *testing.B, n int) (s store.Store, weight func() float64)) {
	b.Helper()
	stores, weights := make([]store.Store, len(sizes)), make([]float64, len(sizes))
	for i, n := range sizes {
		s, weight := open(b, n)
		prefill(b, s, n)
		stores[i], weights[i] = s, weight()
	}
	first, duplicate := make([][]time.Duration, len(sizes)), make([][]time.Duration, len(sizes))
	run := 0
	for b.Loop() {
		run++
		for i, s := range stores {
			start := time.Now()
			complete(b, s, "new/"+strconv.Itoa(run))
			first[i] = append(first[i], time.Since(start))
			other := redisBid(strconv.Itoa(rand.IntN(sizes[i])), "0198d1c42c1b7a539d0e8f2f3f0a6f11") //nolint:gosec // no secret
			start = time.Now()
			r, err := s.Acquire(b.Context(), other)
			duplicate[i] = append(duplicate[i], time.Since(start))
			if err != nil || r.State != store.Succeeded {
				b.Fatalf("Acquire: %q, %v", r.State, err)
			}
		}
	}
	for i, n := range sizes {
		b.ReportMetric(weights[i], fmt.Sprint("B/record-", n))
	}
	for name, times := range map[string][][]time.Duration{"first": first, "duplicate": duplicate} {
		for i, n := range sizes {
			b.ReportMetric(float64(median(times[i])), fmt.Sprint("ns/", name, "-", n))
			b.ReportMetric(float64(median(times[i]))/float64(median(times[0])), fmt.Sprint("x/", name, "-", n))
		}
	}
	b.ReportMetric(0, "ns/op")
	runtime.KeepAlive(stores)
}

func prefill(b *testing.B, s store.Store, n int) {
	b.Helper()
	var all sync.WaitGroup
	const writers = 16
	for w := range writers {
		all.Go(func() {
			for i := w; i < n; i += writers {
				complete(b, s, strconv.Itoa(i))
			}
		})
	}
	all.Wait()
}

// complete is a first run with an outcome of the size that redisDone has.
func complete(b *testing.B, s store.Store, key string) {
	bid := redisBid(key, "0198d1c42c1b7a539d0e8f2f3f0a6f10")
	r, err := s.Acquire(b.Context(), bid)
	if err == nil {
		bid.Fence = r.Fence
		_, err = s.Settle(b.Context(), bid, redisDone)
	}
	if err != nil {
		b.Error(err)
	}
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

func usedMemory(b *testing.B, client *redis.Client) float64 {
	b.Helper()
	info, err := client.InfoMap(context.Background(), "memory").Result()
	require.NoError(b, err)
	used, err := strconv.ParseFloat(info["Memory"]["used_memory"], 64)
	require.NoError(b, err)
	return used
}
