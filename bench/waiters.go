package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	once "github.com/atmostonce/atmostonce/activity"
)

// measureWaiters measures how long after its owner has returned a call hears of it that
// waits in another process, or at least under another guard. The owner runs for two
// seconds.
func measureWaiters(ctx context.Context, l *lab) error {
	works := 2 * time.Second
	if l.effort == 0 {
		works = 50 * time.Millisecond
	}
	dir, err := l.folder("waiters")
	if err != nil {
		return err
	}
	owners, err := l.places(dir, "waiters:")
	if err != nil {
		return err
	}
	defer closeAll(owners)
	others, err := l.places(dir, "waiters:")
	if err != nil {
		return err
	}
	defer closeAll(others)
	others[0].store = owners[0].store // the memory of one process
	crowds := []struct {
		what    string
		owners  int
		waiters int
		rounds  int
	}{
		{"1 waiter", 20, 1, 4},
		{"1,000 waiters", 1, l.size(1000, 20), 3},
	}
	for _, c := range crowds {
		samples := make([][]float64, len(owners))
		for range l.size(c.rounds, 1) {
			for i := range owners {
				got, err := l.waited(ctx, owners[i], others[i], c.owners, c.waiters, works)
				if err != nil {
					return fmt.Errorf("%s: %w", owners[i].name, err)
				}
				samples[i] = append(samples[i], got...)
			}
		}
		for i, p := range owners {
			r := newResult("waiters", p.name, c.what, "ms", samples[i])
			r.P99 = quantiles(samples[i])(0.99)
			if err := l.add(r, samples[i]); err != nil {
				return err
			}
		}
		l.say("  waiters, %s: done", c.what)
	}
	return nil
}

// waited runs some owners, each of a key of its own, with waiters for each, and returns
// how many ms after its owner's return each waiter had the result.
func (l *lab) waited(ctx context.Context, owner, other place, owners, waiters int, works time.Duration) ([]float64, error) {
	var (
		begun    sync.WaitGroup
		begin    = map[string]func(){} // by key; may be called again
		keys     = make([]string, owners)
		mu       sync.Mutex
		returned = map[string]time.Time{}
		samples  []float64
	)
	for i := range keys {
		keys[i] = newKey()
		begun.Add(1)
		begin[keys[i]] = sync.OnceFunc(begun.Done)
	}
	own, err := waitingActivities(owners, owner, func(_ context.Context, in charge) (receipt, error) {
		begin[in.OrderID]()
		<-time.After(works)
		mu.Lock()
		defer mu.Unlock()
		returned[in.OrderID] = time.Now()
		return receiptOf(in), nil
	})
	if err != nil {
		return nil, err
	}
	wait, err := waitingActivities(owners*waiters, other, func(context.Context, charge) (receipt, error) {
		return receipt{}, errors.New("it ran again")
	})
	if err != nil {
		return nil, err
	}
	err = together(owners+len(wait), func(i int) error {
		key := keys[i%owners]
		if i < owners {
			defer begin[key]() // an owner that has failed keeps nobody waiting
			return own[i](ctx, charge{key, 4200})
		}
		begun.Wait()
		err := wait[i-owners](ctx, charge{key, 4200})
		now := time.Now()
		mu.Lock()
		defer mu.Unlock()
		samples = append(samples, float64(now.Sub(returned[key]))/float64(time.Millisecond))
		return err
	})
	return samples, err
}

// waitingActivities are n of one guard, under OnDuplicate Wait.
func waitingActivities(n int, where place, body func(context.Context, charge) (receipt, error)) ([]call, error) {
	p := byOrder()
	p.OnDuplicate = once.Wait
	guard, err := newGuard(where.store, p)
	if err != nil {
		return nil, err
	}
	all := make([]call, n)
	for i := range all {
		all[i] = newActivity(guard, body)
	}
	return all, nil
}
