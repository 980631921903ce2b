package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// This file notices that files of the store were removed: by an operator, or by
// what cleans up old files. The file of a shard's lock is a sign of that: nobody
// writes to it, and nobody removes it, before records go too.

// restore sees to it that a shard has a directory, on the disk.
func (f *File) restore(n int) error {
	if err := f.dir.isStill(); err != nil {
		return err
	}
	if err := f.remake(n); err != nil {
		return err
	}
	return syncDir(f.dir.path)
}

// remake makes the directory of a shard if it is gone.
func (f *File) remake(n int) error {
	made, err := f.dir.owner.makeDirAt(f.dir.shardDir(n))
	if made {
		f.lose(n)
	}
	return err
}

// see compares the file of a shard's lock with the one that was there before. A
// number of an inode may be given again, so its time counts too.
func (f *File) see(n int, lock fs.FileInfo) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &f.shards[n]
	if s.lock != nil && (lock == nil || !os.SameFile(s.lock, lock) || !s.lock.ModTime().Equal(lock.ModTime())) {
		s.lost = true
	}
	s.lock = lock
}

func (f *File) lose(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shards[n].lost = true
}

// look looks at all shards.
func (f *File) look() error {
	if err := f.dir.isStill(); err != nil {
		return err
	}
	if err := f.dir.inspect(); err != nil {
		return err
	}
	for n := range shards {
		switch lock, err := os.Lstat(f.dir.lockPath(n)); {
		case err == nil:
			f.see(n, lock)
		case errors.Is(err, fs.ErrNotExist):
			f.see(n, nil)
			if err := f.remake(n); err != nil {
				return fmt.Errorf("store: %w", err)
			}
		default:
			return fmt.Errorf("store: %w", err)
		}
	}
	return nil
}

// forgot reports, once, the shards of which something was lost.
func (f *File) forgot() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	first, count := 0, 0
	for n := range shards {
		if f.shards[n].lost {
			if count++; count == 1 {
				first = n
			}
			f.shards[n].lost = false
		}
	}
	if count == 0 {
		return nil
	}
	return fmt.Errorf("%w: somebody has removed files of the store, in %d of its %d directories, the first of them %s",
		ErrForgot, count, shards, f.dir.shardDir(first))
}

// Check implements [Checker]: the directory is still the one that was opened,
// and can be written. ErrUnsafe says that it is another one, ErrForgot that
// somebody has removed one of its subdirectories, or files in it, since this
// handle saw them. Such a subdirectory is made anew.
func (f *File) Check(ctx context.Context) error {
	_, err := reading(ctx, f, 0, func() (none struct{}, err error) { return none, f.look() })
	if err != nil {
		return err
	}
	_, err = f.locked(ctx, 0, func(*os.File, func() bool) (Record, error) {
		temp := filepath.Join(f.dir.shardDir(0), "check"+tempExt)
		defer os.Remove(temp)
		if err := f.records.writeTemp(temp, []byte("{}\n"), ""); err != nil {
			return Record{}, fmt.Errorf("store: cannot write to the directory: %w", err)
		}
		return Record{}, nil
	})
	if err != nil {
		return err
	}
	return f.forgot()
}
