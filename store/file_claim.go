package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// This file is the locks. One per shard, around each change of its records; its
// file is never removed, since two processes would then lock two files. One per
// running claim, held from its grant to its end.

// lock takes the lock of a shard.
func (f *File) lock(ctx context.Context, n int) (unlock func(), err error) {
	if err := f.usable(ctx); err != nil {
		return nil, err
	}
	gate := f.shards[n].gate
	select {
	case gate <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l := newLock(filepath.Join(f.shardDir(n), lockName), os.O_CREATE)
	unlock = func() {
		_ = l.Unlock()
		<-gate
	}
	locked := false
	if err = f.checkDir(f.shardDir(n)); err == nil {
		err = f.provide(l.Path())
	}
	if err == nil {
		locked, err = f.tryLock(l)
	}
	switch {
	case err != nil:
		unlock()
	case !locked:
		if err = await(ctx, l, unlock); err != nil {
			break
		}
		if err = f.checkLock(l); err != nil {
			unlock()
		}
	}
	switch {
	case errors.Is(err, ErrUnsafe):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("store: cannot lock: %w", err)
	}
	return unlock, nil
}

// await blocks until l is locked, or ctx ends. Polling instead would lose to a
// process that comes back at once. The kernel's queue cannot be left: after
// ctx, unlock is called when l's turn comes.
func await(ctx context.Context, l *flock.Flock, unlock func()) error {
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = l.Lock()
	}()
	select {
	case <-done:
		if err != nil {
			unlock()
		}
		return err
	case <-ctx.Done():
		go func() {
			<-done
			unlock()
		}()
		return ctx.Err()
	}
}

func (f *File) usable(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return fmt.Errorf("store: %s: %w", f.dir, fs.ErrClosed)
	}
	return ctx.Err()
}

// hold locks the claim at path for as long as this handle keeps it, and reports
// whether that is new. The caller has the lock of the shard, as in all that
// follows.
func (f *File) hold(path string) (grasped bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false, fmt.Errorf("store: %s: %w", f.dir, fs.ErrClosed)
	}
	old, held := f.claims[path]
	if held && sameFile(old, path) {
		return false, nil
	}
	if err := f.provide(path); err != nil {
		return false, fmt.Errorf("store: cannot lock the claim: %w", err)
	}
	l := newLock(path, os.O_CREATE)
	locked, err := f.tryLock(l)
	switch {
	case err != nil:
		return false, fmt.Errorf("store: cannot lock the claim: %w", err)
	case !locked:
		return false, nil // another handle made this claim, and lives
	}
	if held {
		_ = old.Unlock()
	}
	f.claims[path] = l
	return !held, nil
}

// sameFile reports whether a lock's file is still the one that others see.
func sameFile(l *flock.Flock, path string) bool {
	locked, err := l.Stat()
	if err != nil {
		return false
	}
	seen, err := os.Lstat(path)
	return err == nil && os.SameFile(locked, seen)
}

// drop ends the claim at path, if this handle holds it.
func (f *File) drop(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l, held := f.claims[path]
	if !held {
		return
	}
	delete(f.claims, path)
	_ = os.Remove(path)
	_ = l.Unlock()
}

// ownerLives reports whether somebody holds the claim at path, and removes what
// a dead owner left.
func (f *File) ownerLives(path string) (bool, error) {
	l := newLock(path, 0)
	locked, err := f.tryLock(l)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("store: cannot tell whether the owner lives: %w", err)
	case !locked:
		return true, nil
	}
	_ = os.Remove(path)
	_ = l.Unlock()
	return false, nil
}
