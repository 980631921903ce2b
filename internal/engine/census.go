package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// Census counts the store's open records while calls are taken.
type Census struct {
	store measured
	every time.Duration // 0: never
	busy  chan struct{} // full: a count has not come back yet

	mu      sync.Mutex
	lives   int
	stop    context.CancelFunc
	seen    map[population]bool // what had records once
	failing bool
}

// population is the records of one activity.
type population struct{ namespace, activity string }

// countLimit is how long a count may take, where CountRecords is less, and how long
// it waits for one that has not come back.
const countLimit = 10 * time.Second

// states are those that are counted.
var states = []store.State{store.Running, store.InDoubt, store.Pending}

func newCensus(s measured, every time.Duration) *Census {
	return &Census{store: s, every: every, busy: make(chan struct{}, 1), seen: map[population]bool{}}
}

// Begin has the open records counted until End has been called as often.
func (n *Census) Begin() {
	if n.every == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lives++; n.lives > 1 {
		return
	}
	var ctx context.Context
	ctx, n.stop = context.WithCancel(context.Background())
	go n.run(ctx)
}

// End is the end of a Begin.
func (n *Census) End() {
	if n.every == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lives--; n.lives > 0 {
		return
	}
	n.stop()
	n.reportUnknown()
}

func (n *Census) run(ctx context.Context) {
	for {
		n.count(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(n.every):
		}
	}
}

// count counts once. A store may ignore its context: a count that hangs is left
// behind, and no other is begun beside it, even by another life.
func (n *Census) count(ctx context.Context) {
	type answer struct {
		stats []store.Stat
		err   error
	}
	limit, cancel := context.WithTimeout(ctx, max(n.every, countLimit))
	defer cancel()
	began := time.Now()
	came := make(chan answer, 1)
	a := answer{err: context.DeadlineExceeded}
	select {
	case n.busy <- struct{}{}:
		go func() {
			defer func() { <-n.busy }()
			a := answer{err: errors.New("the store panics")}
			quietly(func() { a.stats, a.err = store.Stats(limit, n.store.Store) })
			came <- a
		}()
		select {
		case a = <-came:
		case <-limit.Done():
		}
	case <-limit.Done():
	case <-time.After(countLimit):
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	n.store.reporter.everywhere(ctx, observe.Measurement{Metric: observe.StoreDuration, Duration: time.Since(began),
		Values: [5]string{"", n.store.reporter.kind, "list", observe.StoreErrorType(a.err)}})
	n.warn(a.err)
	if a.err != nil && !unreadable(a.err) {
		n.reportUnknown()
		return
	}
	n.report(a.stats)
}

// unreadable reports whether err, of store.Stats, is about nothing but records that
// cannot be read: the others were counted.
func unreadable(err error) bool {
	return !slices.ContainsFunc(parts(err), func(err error) bool {
		return !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrVersion)
	})
}

// parts returns the errors that store.Stats has joined.
func parts(err error) []error {
	if all, ok := err.(interface{ Unwrap() []error }); ok { // what is joined below is one error
		return all.Unwrap()
	}
	return []error{err}
}

// warn logs when counting begins to fail, and when it works again.
func (n *Census) warn(err error) {
	failing := err != nil
	if failing == n.failing {
		return
	}
	n.failing = failing
	logger := n.store.reporter.sink.Log()
	quietly(func() {
		switch {
		case !failing:
			logger.Info("atmostonce: all of the store's open records are counted again")
		case unreadable(err):
			logger.Warn("atmostonce: records that cannot be read are not counted; the others are", "Error", first(err))
		default:
			logger.Warn("atmostonce: the store's open records cannot be counted; until they can, their metrics say nothing", "Error", first(err))
		}
	})
}

// first returns the first of several errors, and how many there are besides.
func first(err error) error {
	all := parts(err)
	if len(all) == 1 {
		return all[0]
	}
	return fmt.Errorf("%w; and %d more", all[0], len(all)-1)
}

// report reports each state of each activity that is marked, or had records once:
// what has none any more is 0.
func (n *Census) report(stats []store.Stat) {
	type group struct {
		population
		state store.State
	}
	found := map[group]store.Stat{}
	for _, s := range stats {
		p := population{s.Namespace, s.Activity}
		n.seen[p] = true
		found[group{p, s.State}] = s
	}
	n.each(func(p population, state store.State) (count, age float64) {
		s := found[group{p, state}]
		return float64(s.Count), max(s.Age.Seconds(), 0)
	})
}

// reportUnknown takes back what was reported.
func (n *Census) reportUnknown() {
	n.each(func(population, store.State) (count, age float64) { return math.NaN(), math.NaN() })
}

func (n *Census) each(value func(population, store.State) (count, age float64)) {
	n.store.reporter.prepared.Range(func(key, _ any) bool {
		if p, ok := key.(preparation); ok {
			n.seen[population{p.place.Namespace, p.place.Activity}] = true
		}
		return true
	})
	for p := range n.seen {
		for _, state := range states {
			count, age := value(p, state)
			labels := [5]string{p.namespace, p.activity, string(state)}
			n.store.reporter.everywhere(context.Background(), observe.Measurement{Metric: observe.OpenRecords, Values: labels, Value: count})
			n.store.reporter.everywhere(context.Background(), observe.Measurement{Metric: observe.RecordAge, Values: labels, Value: age})
		}
	}
}
