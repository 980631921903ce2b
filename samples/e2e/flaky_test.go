package e2e

import (
	"context"
	"errors"
	"sync"

	"github.com/atmostonce/atmostonce/store"
)

// flaky is a store of which some verbs can be cut off.
type flaky struct {
	store.Store
	mu      sync.Mutex
	down    map[string]bool
	refused map[string]int // by verb
}

var errCutOff = errors.New("no route to the store")

func newFlaky(s store.Store) *flaky {
	return &flaky{Store: s, down: map[string]bool{}, refused: map[string]int{}}
}

// cut makes calls of these verbs fail, and none but these.
func (f *flaky) cut(verbs ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.down)
	for _, v := range verbs {
		f.down[v] = true
	}
}

// fired returns how many calls of the verb have failed.
func (f *flaky) fired(verb string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refused[verb]
}

func (f *flaky) reach(verb string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.down[verb] {
		return nil
	}
	f.refused[verb]++
	return errCutOff
}

func (f *flaky) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	if err := f.reach("acquire"); err != nil {
		return store.Record{}, err
	}
	return f.Store.Acquire(ctx, b)
}

func (f *flaky) Renew(ctx context.Context, b store.Bid) (store.Record, error) {
	if err := f.reach("renew"); err != nil {
		return store.Record{}, err
	}
	return f.Store.Renew(ctx, b)
}

func (f *flaky) Settle(ctx context.Context, b store.Bid, o store.Outcome) (store.Record, error) {
	if err := f.reach("settle"); err != nil {
		return store.Record{}, err
	}
	return f.Store.Settle(ctx, b, o)
}

func (f *flaky) Release(ctx context.Context, b store.Bid) (store.Record, error) {
	if err := f.reach("release"); err != nil {
		return store.Record{}, err
	}
	return f.Store.Release(ctx, b)
}
