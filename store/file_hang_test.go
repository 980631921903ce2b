//go:build linux || darwin

package store

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// hang makes the first write of f that comes to point stay there, until it is
// called.
func hang(f *File, point string) (goOn func(), hung *atomic.Int32) {
	hung = new(atomic.Int32)
	release := make(chan struct{})
	step := func(at string) error {
		if at == point && hung.Add(1) == 1 {
			<-release
		}
		return nil
	}
	f.dir.step.Store(&step)
	return func() { close(release) }, hung
}

func TestFile_HungDiskKeepsNobodyLongerThanItsContext(t *testing.T) {
	t.Parallel()
	b := testBid("k", "a")
	running := func(t *testing.T, f *File) Record {
		t.Helper()
		r, err := f.Acquire(t.Context(), b)
		require.NoError(t, err)
		return r
	}
	doubted := func(t *testing.T, f *File) Record {
		t.Helper()
		running(t, f)
		r, err := f.Settle(t.Context(), b, Outcome{State: InDoubt})
		require.NoError(t, err)
		return r
	}
	none := func(*testing.T, *File) Record { return Record{} }
	for name, c := range map[string]struct {
		before func(*testing.T, *File) Record
		verb   func(ctx context.Context, f *File, r Record) error
		after  State
	}{
		"acquire": {none, func(ctx context.Context, f *File, _ Record) error {
			_, err := f.Acquire(ctx, b)
			return err
		}, Running},
		"renew": {running, func(ctx context.Context, f *File, _ Record) error {
			longer := b
			longer.TTL = 48 * time.Hour
			_, err := f.Renew(ctx, longer)
			return err
		}, Running},
		"settle": {running, func(ctx context.Context, f *File, _ Record) error {
			_, err := f.Settle(ctx, b, testSuccess)
			return err
		}, Succeeded},
		"release": {running, func(ctx context.Context, f *File, _ Record) error {
			_, err := f.Release(ctx, b)
			return err
		}, Tombstone},
		"takeover": {doubted, func(ctx context.Context, f *File, r Record) error {
			_, err := f.Takeover(ctx, testBid("k", "b"), r)
			return err
		}, Running},
		"resolve": {doubted, func(ctx context.Context, f *File, r Record) error {
			_, err := f.Resolve(ctx, "k", r, Resolution{ID: "1", To: Succeeded, Outcome: testSuccess, By: ByOperator, TTL: time.Hour})
			return err
		}, Succeeded},
	} {
		for _, point := range []string{"write", "fsync"} {
			t.Run(name+" "+point, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				synctest.Test(t, func(t *testing.T) {
					f := newFile(t, dir)
					_, err := f.Settle(t.Context(), testBid("settled", "a"), testSuccess)
					require.NoError(t, err)
					before := c.before(t, f)
					goOn, hung := hang(f, point)
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					require.ErrorIs(t, c.verb(ctx, f, before), context.DeadlineExceeded)
					otherKeys(t, f, point)
					require.EqualValues(t, 1, hung.Load(), "no other came so far")

					goOn()
					r, err := f.Load(t.Context(), "k")
					for err == nil && r.State != c.after {
						synctest.Wait()
						r, err = f.Load(t.Context(), "k")
					}
					require.NoError(t, err)
					_, err = f.Acquire(t.Context(), testBid("new", "c"))
					require.NoError(t, err, "the store is usable")
				})
			})
		}
	}
}

// otherKeys makes the calls of others while one hangs.
func otherKeys(t *testing.T, f *File, point string) {
	t.Helper()
	began := time.Now()
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := f.Acquire(ctx, testBid(fmt.Sprint("other", i), "c"))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		cancel()
	}
	require.Equal(t, 20*time.Second, time.Since(began))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	r, err := f.Load(ctx, "settled")
	if point == "write" {
		require.ErrorIs(t, err, context.DeadlineExceeded)
		return
	}
	require.NoError(t, err, "it is durable")
	require.Equal(t, Succeeded, r.State)
	_, err = f.Load(ctx, "k")
	require.ErrorIs(t, err, context.DeadlineExceeded, "what is not durable is said to nobody")
}

func TestFile_HungDiskDoesNotHoldUpCheckAndClose(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t, dir)
		goOn, _ := hang(f, "create")
		defer goOn()
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			require.ErrorIs(t, f.Check(ctx), context.DeadlineExceeded)
			cancel()
		}
		require.NoError(t, f.Close())
	})
}

// A claim that was granted when its caller had gone is not held on: nobody knows
// of it, and nobody would end it.
func TestFile_LateGrantIsNotHeld(t *testing.T) {
	t.Parallel()
	for _, again := range []bool{false, true} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			f, other := newFile(t, dir), newFile(t, dir)
			goOn, _ := hang(f, "fsync")
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := f.Acquire(ctx, testBid("k", "a"))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			goOn()
			if again {
				r, err := f.Acquire(t.Context(), testBid("k", "a"))
				require.NoError(t, err)
				require.True(t, r.Owned("a"))
				r, err = other.Acquire(t.Context(), testBid("k", "b"))
				require.NoError(t, err)
				require.True(t, r.Owned("a"), "this time it was answered")
				return
			}
			synctest.Wait()
			r, err := other.Acquire(t.Context(), testBid("k", "b"))
			require.NoError(t, err)
			require.Equal(t, InDoubt, r.State)
			require.True(t, r.Marked)
			f.claims.mu.Lock()
			defer f.claims.mu.Unlock()
			require.Empty(t, f.claims.held)
		})
	}
}

// What waited too long for the lock writes nothing.
func TestFile_NothingIsBegunForACallerWhoLeft(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t, dir)
		l, err := f.locks.take()
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, synced := failAt(f, "", nil)
		left := make(chan error)
		go func() {
			_, err := f.Acquire(ctx, testBid("k", "a"))
			left <- err
		}()
		cancel()
		require.ErrorIs(t, <-left, context.Canceled)
		unlockFile(l)
		r, err := f.Acquire(t.Context(), testBid("k", "b"))
		require.NoError(t, err)
		require.True(t, r.Owned("b"))
		require.EqualValues(t, 1, synced.Load())
	})
}
