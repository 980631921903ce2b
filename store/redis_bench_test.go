package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
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
	var median [2]float64
	for j := range times {
		slices.Sort(times[j])
		median[j] = float64(times[j][len(times[j])/2].Nanoseconds()) / 1000
	}
	b.ReportMetric(median[0], "µs-bare")
	b.ReportMetric(median[1], "µs-store")
	b.ReportMetric(median[1]/median[0], "x-bare")
}
