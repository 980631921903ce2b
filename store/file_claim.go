package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// This file is the locks. One per shard, around each change of its records; its
// file is never removed, since two processes would then lock two files. One per
// running claim, held from its grant to its end.

// lock takes the lock of a shard, however long that takes.
func (f *File) lock(n int) (*os.File, error) {
	path := f.dir.lockPath(n)
	for range 10 {
		var l *os.File
		err := f.dir.owner.checkDir(f.dir.shardDir(n))
		if err == nil {
			l, err = f.dir.owner.lockAt(path, 0, true)
		}
		if errors.Is(err, fs.ErrNotExist) {
			// Whoever finds the lock knows that its directory is on the disk.
			if err := f.restore(n); err != nil {
				return nil, err
			}
			l, err = f.dir.owner.lockAt(path, os.O_CREATE, true)
		}
		if err != nil {
			return nil, err
		}
		info, err := stillAt(l, path)
		if err == nil {
			f.see(n, info)
			return l, nil
		}
		unlockFile(l)
		if !errors.Is(err, errRemoved) {
			return nil, err
		}
	}
	return nil, errRemoved
}

func (f *File) usable(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return fmt.Errorf("store: %s: %w", f.dir.path, fs.ErrClosed)
	}
	return ctx.Err()
}

// hold locks the claim at path for as long as this handle keeps it, and reports
// whether that is new. The caller has the lock of the shard, as in all that
// follows.
func (f *File) hold(path string) (grasped bool, err error) {
	f.mu.Lock()
	old := f.claims[path]
	f.mu.Unlock()
	if old != nil {
		if _, err := stillAt(old, path); err == nil {
			return false, nil
		}
	}
	l, err := f.dir.owner.lockAt(path, os.O_CREATE, false)
	switch {
	case err != nil:
		return false, fmt.Errorf("store: cannot lock the claim: %w", err)
	case l == nil:
		return false, nil // another handle made this claim, and lives
	}
	if _, err = stillAt(l, path); err == nil {
		err = f.keep(path, l)
	}
	if err != nil {
		unlockFile(l)
		return false, err
	}
	if old != nil {
		unlockFile(old)
	}
	return old == nil, nil
}

// keep has the handle hold the claim at path by l.
func (f *File) keep(path string, l *os.File) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return fmt.Errorf("store: %s: %w", f.dir.path, fs.ErrClosed)
	}
	f.claims[path] = l
	return nil
}

var errRemoved = errors.New("store: somebody removes the files of locks")

// stillAt returns an error if a lock's file is not the one that others see at path.
func stillAt(l *os.File, path string) (fs.FileInfo, error) {
	locked, err := l.Stat()
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	seen, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errRemoved
	case err != nil:
		return nil, fmt.Errorf("store: %w", err)
	case !os.SameFile(locked, seen):
		return nil, errRemoved
	}
	return seen, nil
}

// drop ends the claim at path, if this handle holds it.
func (f *File) drop(path string) {
	f.mu.Lock()
	l := f.claims[path]
	delete(f.claims, path)
	f.mu.Unlock()
	if l != nil {
		_ = os.Remove(path)
		unlockFile(l)
	}
}

// ownerLives reports whether somebody holds the claim at path, and removes what
// a dead owner left.
func (f *File) ownerLives(path string) (bool, error) {
	l, err := f.dir.owner.lockAt(path, 0, false)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("store: cannot tell whether the owner lives: %w", err)
	case l == nil:
		return true, nil
	}
	_ = os.Remove(path)
	unlockFile(l)
	return false, nil
}
