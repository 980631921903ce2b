package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// locks are the locks of the shards: one for each, around each change of its records. The
// store never removes the file of a lock, since two processes would then lock two files.
//
// By these files the handle notices that files of the store were removed: by an operator,
// or by what cleans up old files. Nobody writes to the file of a lock, and nobody removes
// it, before records go too.
type locks struct {
	dir *directory

	mu     sync.Mutex
	shards [shards]struct {
		lock fs.FileInfo // when this handle last saw it
		lost bool        // files were removed since the last Check
	}
}

// take takes the lock of a shard, however long that takes.
func (ls *locks) take(n int) (*os.File, error) {
	path := ls.dir.lockPath(n)
	for range 10 {
		var l *os.File
		err := ls.dir.owner.checkDir(ls.dir.shardDir(n))
		if err == nil {
			l, err = ls.dir.owner.lockAt(path, 0, true)
		}
		if errors.Is(err, fs.ErrNotExist) {
			// Whoever finds the lock knows that its directory is on the disk.
			if err := ls.restore(n); err != nil {
				return nil, err
			}
			l, err = ls.dir.owner.lockAt(path, os.O_CREATE, true)
		}
		if err != nil {
			return nil, err
		}
		info, err := stillAt(l, path)
		if err == nil {
			ls.see(n, info)
			return l, nil
		}
		unlockFile(l)
		if !errors.Is(err, errRemoved) {
			return nil, err
		}
	}
	return nil, errRemoved
}

// restore sees to it that a shard has a directory, on the disk.
func (ls *locks) restore(n int) error {
	if err := ls.dir.isStill(); err != nil {
		return err
	}
	if err := ls.remake(n); err != nil {
		return err
	}
	return syncDir(ls.dir.path)
}

// remake makes the directory of a shard if it is gone.
func (ls *locks) remake(n int) error {
	made, err := ls.dir.owner.makeDirAt(ls.dir.shardDir(n))
	if made {
		ls.lose(n)
	}
	return err
}

// see compares the file of a shard's lock with the one that was there before. A
// number of an inode may be given again, so its time counts too.
func (ls *locks) see(n int, lock fs.FileInfo) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	s := &ls.shards[n]
	if s.lock != nil && (lock == nil || !os.SameFile(s.lock, lock) || !s.lock.ModTime().Equal(lock.ModTime())) {
		s.lost = true
	}
	s.lock = lock
}

func (ls *locks) lose(n int) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.shards[n].lost = true
}

// look looks at all shards.
func (ls *locks) look() error {
	if err := ls.dir.isStill(); err != nil {
		return err
	}
	if err := ls.dir.inspect(); err != nil {
		return err
	}
	for n := range shards {
		switch lock, err := os.Lstat(ls.dir.lockPath(n)); {
		case err == nil:
			ls.see(n, lock)
		case errors.Is(err, fs.ErrNotExist):
			ls.see(n, nil)
			if err := ls.remake(n); err != nil {
				return fmt.Errorf("store: %w", err)
			}
		default:
			return fmt.Errorf("store: %w", err)
		}
	}
	return nil
}

// forgot reports, once, the shards of which something was lost.
func (ls *locks) forgot() error {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	first, count := 0, 0
	for n := range shards {
		if ls.shards[n].lost {
			if count++; count == 1 {
				first = n
			}
			ls.shards[n].lost = false
		}
	}
	if count == 0 {
		return nil
	}
	return fmt.Errorf("%w: somebody has removed files of the store, in %d of its %d directories, the first of them %s",
		ErrForgot, count, shards, ls.dir.shardDir(first))
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
