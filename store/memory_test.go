package store_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/storetest"
)

func TestMemory_Contract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) storetest.Harness {
		m := store.NewMemory(store.MemoryOptions{})
		return storetest.Harness{
			Open:   func(testing.TB) store.Store { return m },
			Around: synctest.Test,
		}
	})
}

func TestMemory_SaysItsKind(t *testing.T) {
	t.Parallel()
	var s store.Store = store.NewMemory(store.MemoryOptions{})
	require.Equal(t, "memory", s.(store.Kinded).Kind())
	require.NotImplements(t, (*store.OwnerWatcher)(nil), s, "it goes by the lease")
}

func memoryBid(key, owner string) store.Bid {
	return store.Bid{Key: key, Owner: owner, Lease: time.Minute, TTL: time.Hour, Began: true}
}

func TestMemory_Bound(t *testing.T) {
	t.Parallel()
	m := store.NewMemory(store.MemoryOptions{MaxRecords: 2})
	ctx := t.Context()
	for _, key := range []string{"1", "2"} {
		r, err := m.Acquire(ctx, memoryBid(key, "a"))
		require.NoError(t, err)
		require.True(t, r.Owned("a"))
	}

	_, err := m.Acquire(ctx, memoryBid("3", "a"))
	require.ErrorIs(t, err, store.ErrFull)
	_, err = m.Settle(ctx, memoryBid("3", "a"), store.Outcome{State: store.Succeeded})
	require.ErrorIs(t, err, store.ErrFull)
	_, err = m.Release(ctx, memoryBid("3", "a"))
	require.ErrorIs(t, err, store.ErrFull)
	r, err := m.Load(ctx, "3")
	require.NoError(t, err)
	require.Equal(t, store.Absent, r.State)

	r, err = m.Settle(ctx, memoryBid("1", "a"), store.Outcome{State: store.Succeeded})
	require.NoError(t, err, "an existing record must settle at the bound")
	require.Equal(t, store.Succeeded, r.State)
	r, err = m.Release(ctx, memoryBid("2", "a"))
	require.NoError(t, err)
	require.Equal(t, store.Tombstone, r.State)
	r, err = m.Acquire(ctx, memoryBid("2", "b"))
	require.NoError(t, err)
	require.True(t, r.Owned("b"))
}

func TestMemory_BoundCountsWhatIsRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := store.NewMemory(store.MemoryOptions{MaxRecords: 1})
		_, err := m.Acquire(t.Context(), memoryBid("1", "a"))
		require.NoError(t, err)
		_, err = m.Acquire(t.Context(), memoryBid("2", "a"))
		require.ErrorIs(t, err, store.ErrFull)
		<-time.After(2 * time.Hour)
		r, err := m.Acquire(t.Context(), memoryBid("2", "a"))
		require.NoError(t, err)
		require.True(t, r.Owned("a"))
	})
}

// Records expire one by one, in an order that is not that of their creation;
// each is there until its own expiry, and gone after it.
func TestMemory_ExpiryInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const records = 500
		m := store.NewMemory(store.MemoryOptions{})
		for i := range records {
			b := memoryBid(fmt.Sprint(i), "a")
			b.TTL = time.Duration(i*7919%records+1) * 16 * time.Second
			if i%10 == 0 {
				b.TTL = store.Forever
			}
			_, err := m.Acquire(t.Context(), b)
			require.NoError(t, err)
			if i%3 == 0 {
				_, err = m.Settle(t.Context(), b, store.Outcome{State: store.Succeeded})
				require.NoError(t, err)
			}
		}
		start := time.Now()
		for range 4 {
			<-time.After(records * 17 * time.Second / 4)
			now := time.Now()
			for i := range records {
				want := i%10 == 0 || now.Sub(start) < time.Duration(i*7919%records+1)*17*time.Second
				r, err := m.Load(t.Context(), fmt.Sprint(i))
				require.NoError(t, err)
				require.Equal(t, want, r.State != store.Absent, "record %d after %v", i, now.Sub(start))
			}
		}
	})
}

func TestMemory_Clear(t *testing.T) {
	t.Parallel()
	m := store.NewMemory(store.MemoryOptions{MaxRecords: 3})
	for _, key := range []string{"1", "2", "3"} {
		_, err := m.Acquire(t.Context(), memoryBid(key, "a"))
		require.NoError(t, err)
	}
	m.Clear()
	for r, err := range m.List(t.Context(), store.Query{}) {
		require.NoError(t, err)
		require.Fail(t, "a cleared store lists a record", "%+v", r)
	}
	for _, key := range []string{"1", "2", "3"} {
		r, err := m.Acquire(t.Context(), memoryBid(key, "b"))
		require.NoError(t, err)
		require.True(t, r.Owned("b"))
		require.Empty(t, r.History)
	}
}

func TestMemory_Concurrent(t *testing.T) {
	t.Parallel()
	m := store.NewMemory(store.MemoryOptions{MaxRecords: 20})
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			for i := range 200 {
				b := memoryBid(fmt.Sprint(i%30), fmt.Sprint(g, "-", i))
				b.TTL = time.Millisecond
				if r, err := m.Acquire(t.Context(), b); err == nil && r.Owned(b.Owner) {
					_, _ = m.Settle(t.Context(), b, store.Outcome{State: store.Succeeded, Data: []byte("1")})
				}
				for r, err := range m.List(t.Context(), store.Query{State: store.Succeeded}) {
					if err == nil && len(r.Outcome.Data) > 0 {
						r.Outcome.Data[0] = 'x'
					}
				}
				if i == 100 {
					m.Clear()
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkMemory(b *testing.B) {
	storetest.Benchmark(b, func(*testing.B) store.Store {
		return store.NewMemory(store.MemoryOptions{MaxRecords: 1 << 30})
	})
}

// The cost of a duplicate, and of a record that comes and is forgotten, must not
// grow with the number of records.
func BenchmarkMemory_Records(b *testing.B) {
	for _, records := range []int{1_000, 100_000, 1_000_000} {
		m := store.NewMemory(store.MemoryOptions{MaxRecords: 1 << 30})
		for i := range records {
			bid := memoryBid(fmt.Sprint(i), "a")
			bid.TTL = 24 * time.Hour
			if _, err := m.Acquire(b.Context(), bid); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(fmt.Sprint("duplicate-", records), func(b *testing.B) {
			duplicate := memoryBid("0", "b")
			for b.Loop() {
				_, _ = m.Acquire(b.Context(), duplicate)
			}
		})
		b.Run(fmt.Sprint("forget-", records), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				bid := memoryBid(fmt.Sprint("short", i), "a")
				bid.TTL = time.Millisecond
				_, _ = m.Acquire(b.Context(), bid)
			}
		})
	}
}
