package storetest

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/atmostonce/atmostonce/store"
)

// Benchmark measures a store: a first run (Acquire and Settle), alone and 64 at
// once, a duplicate, and a renewal. open is called once for each measurement
// and returns an empty store.
func Benchmark(b *testing.B, open func(b *testing.B) store.Store) {
	data := succeeded(string(binary(256)))
	first := func(b *testing.B, s store.Store, key string) {
		claim := bid("a")
		claim.Key = key
		r, err := s.Acquire(b.Context(), claim)
		if err != nil || !r.Owned("a") {
			b.Errorf("Acquire: %q of %q, %v", r.State, r.Owner, err)
			return
		}
		claim.Fence = r.Fence
		if _, err := s.Settle(b.Context(), claim, data); err != nil {
			b.Errorf("Settle: %v", err)
		}
	}
	b.Run("first", func(b *testing.B) {
		s := open(b)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			first(b, s, fmt.Sprint(theKey, i))
		}
	})
	b.Run("first-64", func(b *testing.B) {
		s := open(b)
		var n atomic.Int64
		b.ReportAllocs()
		b.SetParallelism(crowd)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				first(b, s, fmt.Sprint(theKey, n.Add(1)))
			}
		})
	})
	b.Run("duplicate", func(b *testing.B) {
		s := open(b)
		first(b, s, theKey)
		duplicate := bid("b")
		b.ReportAllocs()
		for b.Loop() {
			if r, err := s.Acquire(b.Context(), duplicate); err != nil || r.State != store.Succeeded {
				b.Fatalf("Acquire: %q, %v", r.State, err)
			}
		}
	})
	b.Run("renew", func(b *testing.B) {
		s := open(b)
		claim := bid("a")
		if _, err := s.Acquire(b.Context(), claim); err != nil {
			b.Fatalf("Acquire: %v", err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Renew(b.Context(), claim); err != nil {
				b.Fatalf("Renew: %v", err)
			}
		}
	})
}
