package atmostonce_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// BenchmarkWakeUp is how long it takes from the return of a function that has run for two
// seconds until calls that wait for it, of another guard, return. It is measured with
//
//	go test . -run '^$' -bench WakeUp -benchtime 5x
func BenchmarkWakeUp(b *testing.B) {
	for _, where := range []struct {
		name string
		open func(b *testing.B, dir string) store.Store
	}{
		{"memory", nil},
		{"file", func(b *testing.B, dir string) store.Store {
			b.Helper()
			f, err := store.NewFile(dir, store.FileOptions{AnyFileSystem: true})
			require.NoError(b, err)
			b.Cleanup(func() { require.NoError(b, f.Close()) })
			return f
		}},
	} {
		for _, waiters := range []int{1, 1000} {
			b.Run(fmt.Sprintf("%s/%d", where.name, waiters), func(b *testing.B) {
				var s, other store.Store
				if where.open == nil {
					s = store.NewMemory(store.MemoryOptions{})
					other = s
				} else {
					dir := b.TempDir()
					s, other = where.open(b, dir), where.open(b, dir)
				}
				var took []time.Duration
				for n := 0; b.Loop(); n++ {
					took = append(took, wakeUp(b, s, other, fmt.Sprint(n), waiters)...)
				}
				slices.Sort(took)
				at := func(p int) float64 { return float64(took[(len(took)-1)*p/100]) / float64(time.Millisecond) }
				b.ReportMetric(at(50), "p50-ms")
				b.ReportMetric(at(99), "p99-ms")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// wakeUp has so many calls wait, and returns how long each one took to hear of the end.
func wakeUp(b *testing.B, s, other store.Store, id string, waiters int) []time.Duration {
	b.Helper()
	var ended atomic.Int64
	charge := func(s store.Store) func(context.Context, event) (receipt, error) {
		g, err := atmostonce.New(s, atmostonce.Options{Defaults: once.Policy{OnDuplicate: once.Wait}})
		require.NoError(b, err)
		return atmostonce.Func(g, "charge", byID, func(context.Context, event) (receipt, error) {
			<-time.After(2 * time.Second)
			ended.Store(time.Now().UnixNano())
			return receipt{"ch"}, nil
		})
	}
	owner, waiter := charge(s), charge(other)
	var all sync.WaitGroup
	all.Go(func() { _, _ = owner(b.Context(), event{ID: id}) })
	<-time.After(100 * time.Millisecond)
	took := make([]time.Duration, waiters)
	for i := range took {
		all.Go(func() {
			_, err := waiter(b.Context(), event{ID: id})
			took[i] = time.Since(time.Unix(0, ended.Load()))
			if err != nil {
				b.Error(err)
			}
		})
	}
	all.Wait()
	return took
}
