package redisstore_test

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

var sizes = [4]int{1e3, 1e4, 1e5, 1e6}

// BenchmarkScale measures what a call costs in stores of a thousand to a million
// records, taking turns, and what a record weighs. It reports medians, and their
// growth from the smallest store. A duplicate reads a record that no cache has; so
// does its floor, a bare read of as many records: "x/duplicate" is the duplicate's
// cost over its floor's, "grows/duplicate" how that ratio has changed.
func BenchmarkScale(b *testing.B) {
	b.Run("memory", func(b *testing.B) {
		scale(b, func(_ *testing.B, n int) sized {
			before := heap()
			return sized{
				Store:  store.NewMemory(store.MemoryOptions{MaxRecords: math.MaxInt}),
				weight: func() float64 { return (heap() - before) / float64(n) },
				floor:  func() func(string) { return bareMap(n) },
			}
		})
	})
	b.Run("redis", func(b *testing.B) {
		addr := startRedis(b)
		scale(b, func(b *testing.B, n int) sized {
			client := dialRedis(b, addr, func(o *redis.Options) { o.DB = slices.Index(sizes[:], n) })
			before := usedMemory(b, client)
			return sized{
				Store:  newRedis(b, client),
				weight: func() float64 { return (usedMemory(b, client) - before) / float64(n) },
				floor: func() func(string) {
					return func(key string) { require.NoError(b, client.Get(b.Context(), redisName(key)).Err()) }
				},
			}
		})
	})
}

// sized is a store of some size.
type sized struct {
	store.Store
	weight func() float64          // bytes of a record, once they are there
	floor  func() func(key string) // what reads a record without the store
}

// bareMap reads records from a map of n.
func bareMap(n int) func(key string) {
	m := make(map[string]*store.Record, n)
	for i := range n {
		key := strconv.Itoa(i)
		m[key] = &store.Record{Key: key, Outcome: redisDone}
	}
	return func(key string) {
		r := *m[key]
		r.Outcome.Data = slices.Clone(r.Outcome.Data)
		runtime.KeepAlive(r)
	}
}

func scale(b *testing.B, open func(b *testing.B, n int) sized) {
	b.Helper()
	var stores [4]sized
	var weights [4]float64
	var floors [4]func(key string)
	for i, n := range sizes {
		stores[i] = open(b, n)
		prefill(b, stores[i], n)
		weights[i] = stores[i].weight()
		floors[i] = stores[i].floor()
	}
	var first, duplicate, floor [4][]time.Duration
	run := 0
	for b.Loop() {
		run++
		for i, s := range stores {
			start := time.Now()
			complete(b, s, "new/"+strconv.Itoa(run))
			first[i] = append(first[i], time.Since(start))
			bid := redisBid(anyKey(sizes[i]), "0198d1c42c1b7a539d0e8f2f3f0a6f11")
			start = time.Now()
			r, err := s.Acquire(b.Context(), bid)
			duplicate[i] = append(duplicate[i], time.Since(start))
			if err != nil || r.State != store.Succeeded {
				b.Fatalf("Acquire: %q, %v", r.State, err)
			}
			key := anyKey(sizes[i])
			start = time.Now()
			floors[i](key)
			floor[i] = append(floor[i], time.Since(start))
		}
	}
	ratio := func(a, b []time.Duration) float64 { return float64(median(a)) / float64(median(b)) }
	for i, n := range sizes {
		b.ReportMetric(weights[i], fmt.Sprint("B/record-", n))
		b.ReportMetric(float64(median(first[i])), fmt.Sprint("ns/first-", n))
		b.ReportMetric(ratio(first[i], first[0]), fmt.Sprint("grows/first-", n))
		b.ReportMetric(float64(median(duplicate[i])), fmt.Sprint("ns/duplicate-", n))
		x := ratio(duplicate[i], floor[i])
		b.ReportMetric(x, fmt.Sprint("x/duplicate-", n))
		b.ReportMetric(x/ratio(duplicate[0], floor[0]), fmt.Sprint("grows/duplicate-", n))
	}
	b.ReportMetric(0, "ns/op")
	runtime.KeepAlive(stores)
}

// anyKey is the key of one of n records.
func anyKey(n int) string { return strconv.Itoa(rand.IntN(n)) } //nolint:gosec // no secret

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
