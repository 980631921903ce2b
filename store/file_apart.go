package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
)

// A disk can hang for minutes, and takes no note of contexts. So what asks the
// disk runs beside its caller, who leaves when ctx ends.

// lanes lead this handle to the shards. What it does there runs beside the caller.
type lanes struct {
	claims *claims
	locks  *locks
	shards [shards]lane
}

// lane leads to one shard.
type lane struct {
	gate  chan struct{} // held beside the lock, by one goroutine of this handle
	reads chan struct{} // held by one that reads without the lock
}

// newLanes returns lanes that are open while c is usable, and take the locks of l.
func newLanes(c *claims, l *locks) *lanes {
	a := &lanes{claims: c, locks: l}
	for n := range a.shards {
		a.shards[n] = lane{gate: make(chan struct{}, 1), reads: make(chan struct{}, 1)}
	}
	return a
}

type answer[T any] struct {
	value T
	err   error
}

// apart runs job on a goroutine of its own, and returns no later than ctx ends.
// A job whose caller has left goes on, and keeps the gate until it has come to
// its end: no more than one of them hangs there.
//
// stays asks whether the caller is still there. If it is, it waits from then on
// for what job returns.
func apart[T any](ctx context.Context, gate chan struct{}, job func(stays func() bool) (T, error)) (T, error) {
	var none T
	select {
	case gate <- struct{}{}:
	case <-ctx.Done():
		return none, ctx.Err()
	}
	var decided atomic.Bool // that the caller stays, or that it leaves
	done := make(chan answer[T], 1)
	go func() {
		value, err := job(func() bool { return decided.CompareAndSwap(false, true) })
		<-gate
		done <- answer[T]{value, err}
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
		if decided.CompareAndSwap(false, true) {
			return none, ctx.Err()
		}
		a := <-done
		return a.value, a.err
	}
}

// reading runs a job that needs no lock on a shard.
func reading[T any](ctx context.Context, a *lanes, n int, job func() (T, error)) (T, error) {
	if err := a.claims.usable(ctx); err != nil {
		var none T
		return none, err
	}
	return apart(ctx, a.shards[n].reads, func(func() bool) (T, error) { return job() })
}

// locked runs job under the lock of a shard, which is l. See apart for stays.
func (a *lanes) locked(ctx context.Context, n int, job func(l *os.File, stays func() bool) (Record, error)) (Record, error) {
	if err := a.claims.usable(ctx); err != nil {
		return Record{}, err
	}
	return apart(ctx, a.shards[n].gate, func(stays func() bool) (Record, error) {
		l, err := a.locks.take(n)
		switch {
		case errors.Is(err, ErrUnsafe):
			return Record{}, err
		case err != nil:
			return Record{}, fmt.Errorf("store: cannot lock: %w", err)
		}
		defer unlockFile(l)
		if err := a.claims.usable(ctx); err != nil { // the wait was too long
			return Record{}, err
		}
		return job(l, stays)
	})
}
