package store_test

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/storetest"
)

// registers is all that a store of one's own needs: bytes by key, and compare-and-set.
type registers struct {
	mu    sync.Mutex
	bytes map[string]string
}

func (g *registers) get(key string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.bytes[key]
}

func (g *registers) swap(key, was, is string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.bytes[key] != was {
		return false
	}
	g.bytes[key] = is
	return true
}

// casStore is a store in registers.
type casStore struct{ registers *registers }

func (s casStore) run(ctx context.Context, t store.Transition) (store.Record, error) {
	if err := t.Validate(); err != nil {
		return store.Record{}, err
	}
	for ctx.Err() == nil {
		was := s.registers.get(t.Key())
		var before store.Record
		if was != "" {
			var err error
			if before, err = store.DecodeRecord([]byte(was)); err != nil {
				return store.Record{}, err
			}
		}
		after, changed, verdict := t.Apply(before, time.Now().UTC())
		if !changed {
			return after, verdict
		}
		is, err := store.EncodeRecord(after)
		if err != nil {
			return store.Record{}, err
		}
		if s.registers.swap(t.Key(), was, string(is)) {
			return after, verdict
		}
	}
	return store.Record{}, ctx.Err()
}

func (s casStore) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	return s.run(ctx, store.Acquiring(b))
}

func (s casStore) Renew(ctx context.Context, b store.Bid) (store.Record, error) {
	return s.run(ctx, store.Renewing(b))
}

func (s casStore) Settle(ctx context.Context, b store.Bid, o store.Outcome) (store.Record, error) {
	return s.run(ctx, store.Settling(b, o))
}

func (s casStore) Release(ctx context.Context, b store.Bid) (store.Record, error) {
	return s.run(ctx, store.Releasing(b))
}

func (s casStore) Takeover(ctx context.Context, b store.Bid, from store.Record) (store.Record, error) {
	return s.run(ctx, store.TakingOver(b, from))
}

func (s casStore) Resolve(ctx context.Context, key string, from store.Record, r store.Resolution) (store.Record, error) {
	return s.run(ctx, store.Resolving(key, from, r))
}

func (s casStore) Load(ctx context.Context, key string) (store.Record, error) {
	return s.run(ctx, store.Loading(key))
}

func (s casStore) List(ctx context.Context, q store.Query) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		s.registers.mu.Lock()
		keys := slices.Collect(maps.Keys(s.registers.bytes))
		s.registers.mu.Unlock()
		var records []store.Record
		for _, key := range keys {
			r, err := s.Load(ctx, key)
			if err != nil {
				yield(store.Record{}, err)
				return
			}
			if r.State != store.Absent && q.Matches(r) {
				records = append(records, r)
			}
		}
		slices.SortFunc(records, store.Record.Compare)
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(store.Record{}, err)
		}
	}
}

// Transitions and the form of records are enough for a store that keeps the contract.
func TestTransition_MakesAStoreOfCompareAndSet(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) storetest.Harness {
		g := &registers{bytes: map[string]string{}}
		return storetest.Harness{
			Open:   func(testing.TB) store.Store { return casStore{g} },
			Around: synctest.Test,
		}
	})
}

func TestTransition_LeavesTheRecordAlone(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b := store.Bid{Key: "k", Owner: "a", Lease: time.Minute, TTL: time.Hour}
	granted, changed, err := store.Acquiring(b).Apply(store.Record{}, now)
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, now, granted.Now)
	data := []byte("1")
	settling := store.Settling(b, store.Outcome{State: store.Succeeded, Data: data})
	before := granted
	settled, _, err := settling.Apply(granted, now)
	require.NoError(t, err)
	require.Equal(t, before, granted)
	data[0] = '2'
	require.Equal(t, "1", string(settled.Outcome.Data))

	asked, changed, err := store.Acquiring(store.Bid{Key: "k", Owner: "b", Lease: time.Minute, TTL: 2 * time.Hour}).Apply(settled, now)
	require.NoError(t, err)
	require.True(t, changed, "it is kept longer")
	require.Equal(t, settled.Revision, asked.Revision)
	gone, changed, err := store.Loading("k").Apply(settled, now.Add(24*time.Hour))
	require.NoError(t, err)
	require.False(t, changed)
	require.Equal(t, store.Absent, gone.State)
	require.Equal(t, "k", gone.Key)
	require.ErrorIs(t, store.Acquiring(store.Bid{}).Validate(), store.ErrInvalid)
	require.ErrorIs(t, store.Settling(b, store.Outcome{}).Validate(), store.ErrInvalid)
	require.ErrorIs(t, store.Resolving("k", settled, store.Resolution{}).Validate(), store.ErrInvalid)
}
