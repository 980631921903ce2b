package atmostonce_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/internal/effect"
	"github.com/atmostonce/atmostonce/store"
)

// books are a database with a ledger in it, as package txn has one, in memory.
type books struct {
	id string

	mu      sync.Mutex
	entries map[entryKey]*entry
	effects int
	asked   []effect.Run // by Decide

	down     atomic.Pointer[error] // what the ledger answers
	hangs    atomic.Bool           // Decide does not answer
	confirms atomic.Int64
}

type entryKey struct {
	key        string
	generation uint64
}

type entry struct {
	outcome *effect.Outcome
	barred  []string
}

var (
	errBarred = errors.New("books: this run may not commit any more")
	errBooks  = errors.New("books: connection refused")
)

func newBooks(id string) *books { return &books{id: id, entries: map[entryKey]*entry{}} }

func (b *books) entry(key string, generation uint64) *entry {
	k := entryKey{key, generation}
	if b.entries[k] == nil {
		b.entries[k] = &entry{}
	}
	return b.entries[k]
}

// ID implements effect.Ledger.
func (b *books) ID() string { return b.id }

// Decide implements effect.Ledger.
func (b *books) Decide(ctx context.Context, r effect.Run) (effect.Outcome, error) {
	if b.hangs.Load() {
		<-ctx.Done()
		return effect.Outcome{}, ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, r)
	if err := b.down.Load(); err != nil {
		return effect.Outcome{}, *err
	}
	e := b.entry(r.Key, r.Generation)
	if e.outcome != nil {
		return *e.outcome, nil
	}
	e.barred = append(e.barred, r.Owner)
	return effect.Outcome{}, effect.ErrNotDone
}

// Confirm implements effect.Ledger.
func (b *books) Confirm(_ context.Context, r effect.Run) error {
	b.confirms.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.down.Load(); err != nil {
		return *err
	}
	if b.entry(r.Key, r.Generation).outcome == nil {
		return effect.ErrMissing
	}
	return nil
}

// commit has the effect of a call, and returns the outcome that the ledger then has.
func (b *books) commit(c *effect.Call, o effect.Outcome) (effect.Outcome, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(c.Key, c.Generation)
	switch {
	case e.outcome != nil:
		return *e.outcome, nil
	case slices.Contains(e.barred, c.Owner):
		return o, errBarred
	}
	e.outcome = &o
	b.effects++
	return o, nil
}

// done is how many effects there were.
func (b *books) done() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.effects
}

// silently has the effect of the call and does not say so, as a process that ends between
// commit and settle.
func (b *books) silently(ctx context.Context, result receipt) error {
	c, ok := effect.FromContext(ctx)
	if !ok {
		return errors.New("no call")
	}
	o, err := c.Encode(ctx, result)
	if err == nil {
		_, err = b.commit(c, o)
	}
	return err
}

// charge has the effect of the call, and returns the result of whatever run had it.
func (b *books) charge(ctx context.Context, result receipt) (out receipt, err error) {
	c, ok := effect.FromContext(ctx)
	if !ok {
		return out, errors.New("no call")
	}
	if !c.Guarded {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.effects++
		return result, nil
	}
	o, err := c.Encode(ctx, result)
	if err != nil {
		return out, err
	}
	if o, err = b.commit(c, o); err != nil {
		return out, err
	}
	if err = c.Committed(o); err != nil {
		return out, err
	}
	return out, c.Decode(ctx, o, &out)
}

// restore takes the database back to when it was empty.
func (b *books) restore() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.entries)
}

// cutOff is a store that does not hear a guard which had the key: its renewals and its
// settles.
type cutOff struct {
	store.Store
	from atomic.Bool
}

var errCutOff = errors.New("no route to the store")

func (s *cutOff) Renew(ctx context.Context, b store.Bid) (store.Record, error) {
	if s.from.Load() {
		return store.Record{}, errCutOff
	}
	return s.Store.Renew(ctx, b)
}

func (s *cutOff) Settle(ctx context.Context, b store.Bid, o store.Outcome) (store.Record, error) {
	if s.from.Load() {
		return store.Record{}, errCutOff
	}
	return s.Store.Settle(ctx, b, o)
}

// recordsIn are all records of a store.
func recordsIn(t *testing.T, s store.Store) (all []store.Record) {
	t.Helper()
	for r, err := range s.List(t.Context(), store.Query{}) {
		require.NoError(t, err)
		all = append(all, r)
	}
	return all
}
