package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

const lockName = "lock"

// locks is the lock of the store, around each look at its log. The store never removes the
// file of it, since two processes would then lock two files.
//
// By this file the handle notices that files of the store were removed: by an operator,
// or by what cleans up old files. Nobody writes to the file of a lock, and nobody removes
// it, before records go too.
type locks struct {
	dir *directory

	mu   sync.Mutex
	lock fs.FileInfo // when this handle last saw it
	lost bool        // files were removed since the last Check
}

func (ls *locks) path() string { return filepath.Join(ls.dir.path, lockName) }

// take takes the lock of the store, however long that takes.
func (ls *locks) take() (*os.File, error) {
	path := ls.path()
	for range 10 {
		l, err := ls.dir.owner.lockAt(path, 0, true)
		if errors.Is(err, fs.ErrNotExist) {
			if err := ls.dir.isStill(); err != nil {
				return nil, err
			}
			l, err = ls.dir.owner.lockAt(path, os.O_CREATE, true)
		}
		if err != nil {
			return nil, err
		}
		info, err := stillAt(l, path)
		if err == nil {
			ls.see(info)
			return l, nil
		}
		unlockFile(l)
		if !errors.Is(err, errRemoved) {
			return nil, err
		}
	}
	return nil, errRemoved
}

// see compares the file of the lock with the one that was there before. A
// number of an inode may be given again, so its time counts too.
func (ls *locks) see(lock fs.FileInfo) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.lock != nil && (lock == nil || !os.SameFile(ls.lock, lock) || !ls.lock.ModTime().Equal(lock.ModTime())) {
		ls.lost = true
	}
	ls.lock = lock
}

// forgot reports, once, that something was lost.
func (ls *locks) forgot() error {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if !ls.lost {
		return nil
	}
	ls.lost = false
	return fmt.Errorf("%w: somebody has removed files of the store in %s", ErrForgot, ls.dir.path)
}

func (ls *locks) lose() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.lost = true
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
