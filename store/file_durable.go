package store

import (
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// This file is how lines get onto the disk, and what of them is known to be there.

// durable is how far the log is known to be on the disk.
type durable struct {
	segment uint32
	size    int64
	named   bool // the name of the segment, too
}

// shore is what this handle knows to be on the disk. The segments before that one are.
type shore struct {
	dir *directory

	syncs sync.Mutex // held during a sync: the kernel reports an error of one once
	mu    sync.Mutex // guards what follows
	to    durable
	known fs.FileInfo // of the segment that it is about
	fault error       // of a sync; nothing is durable before the segment was replaced
}

// move goes on to a segment that follows the last one, and of which that much is durable
// once its name is.
func (sh *shore) move(s *segment, size int64) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.to, sh.fault, sh.known = durable{segment: s.n, size: size}, nil, s.info
}

// resume goes on with a segment, of which something may be known.
func (sh *shore) resume(s *segment) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.known == nil || !os.SameFile(sh.known, s.info) {
		sh.to, sh.fault, sh.known = durable{segment: s.n}, nil, s.info
	}
}

// trust takes it for true what the lines of a segment say was durable, and returns how much
// of it need not be written again. It is the last one.
func (sh *shore) trust(s *segment) int64 {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.to.segment == s.n && sh.to.size < s.certain {
		sh.to = durable{segment: s.n, size: s.certain, named: true}
	}
	return sh.to.size
}

// upTo returns how much of the last segment is durable, or why nothing more will be.
func (sh *shore) upTo(s *segment) (int64, error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.to.segment != s.n || !sh.to.named {
		return 0, sh.fault
	}
	return sh.to.size, sh.fault
}

// fail says that nothing more of a segment will be known to be durable.
func (sh *shore) fail(s *segment, err error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.to.segment == s.n {
		sh.fault = fmt.Errorf("store: %w", err)
	}
}

// failed returns why nothing more of the last segment will be durable.
func (sh *shore) failed() error {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.fault
}

// has reports whether the log is on the disk up to that place.
func (sh *shore) has(to durable) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return to.segment < sh.to.segment || to.segment == sh.to.segment && sh.fault == nil && sh.to.named && to.size <= sh.to.size
}

// sync makes the log durable up to a line of s that was written before. After an error
// nothing of the segment is synced again: the kernel may call lost pages clean. What s has
// may have been written anew to the last one: then the name of that has to be durable.
func (sh *shore) sync(s *segment, size int64) error {
	sh.syncs.Lock()
	defer sh.syncs.Unlock()
	sh.mu.Lock()
	to, fault := sh.to, sh.fault
	sh.mu.Unlock()
	switch {
	case to.segment > s.n && to.named:
		return nil
	case fault != nil:
		return fault
	case to.segment < s.n: // it was removed
		return errRemoved
	}
	var err error
	if to.segment == s.n {
		if err = syncData(s.file); err == nil {
			err = sh.dir.at("fsync")
		}
	}
	if err == nil && !to.named {
		if err = syncDir(sh.dir.logDir()); err == nil {
			err = sh.dir.at("dirsync")
		}
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	switch {
	case err != nil:
		err = fmt.Errorf("store: %w", err)
		if sh.to.segment == to.segment {
			sh.fault = err
		}
	case sh.to.segment == to.segment:
		sh.to.named = true
		if to.segment == s.n {
			sh.to.size = max(size, sh.to.size)
		}
	}
	return err
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.OpenFile(dir, os.O_RDONLY|openDir, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
