package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// records reads and replaces the records of a store on disk, and knows which of them this
// handle has left unsure.
type records struct {
	dir   *directory
	index index

	mu     sync.Mutex
	unsure map[string]bool // records whose last write may not be durable, by path
}

// read returns what is at path; its State is Absent if nothing is. A record that
// belongs elsewhere is corrupt.
func (s *records) read(path string) (Record, error) {
	data, found, err := s.dir.owner.readFile(path)
	if err != nil || !found {
		return Record{}, err
	}
	r, err := decodeRecord(data)
	if err == nil && filepath.Base(locate("", r.Key).path) != filepath.Base(path) {
		err = fmt.Errorf("%w: it is about another key, whose digest is %s", ErrCorrupt, digest(r.Key))
	}
	if err != nil {
		return Record{}, fmt.Errorf("%w (in %s)", err, path)
	}
	return r, nil
}

// replace makes r the record on disk, or leaves the old one. If it fails after
// it has renamed, either may be there when the host comes up again.
func (s *records) replace(at place, r Record) error {
	data, err := encodeRecord(r)
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("a record of %d bytes", len(data))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	temp := strings.TrimSuffix(at.path, recordExt) + tempExt
	if err = s.index.enlist(at.path, r.State); err == nil {
		err = s.writeTemp(temp, data, at.path)
	}
	if err == nil {
		err = os.Rename(temp, at.path)
	}
	if err != nil {
		_ = os.Remove(temp)
		if isFull(err) && !s.isUnsure(at.path) {
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
		return prefixed(err)
	}
	if err = s.dir.step("rename"); err == nil {
		err = syncDir(filepath.Dir(at.path))
	}
	if err == nil {
		err = s.dir.step("dirsync")
	}
	s.setUnsure(at.path, err != nil)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// writeTemp writes data to a new file at path, durably, which has the owner and mode
// of the file at like. The caller has the lock of the shard: a file that is there
// already is what a crash left.
func (s *records) writeTemp(path string, data []byte, like string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("%w: %s is in the way of a file of the store: move it away: %w", ErrUnsafe, path, err)
		}
		file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if err := s.dir.owner.give(file, like); err != nil {
		return err
	}
	if err := s.dir.step("create"); err != nil {
		return err
	}
	if _, err := file.Write(data); err != nil {
		return err
	}
	if err := s.dir.step("write"); err != nil {
		return err
	}
	// Never twice: after a failed fsync the kernel may call lost pages clean.
	if err := file.Sync(); err != nil {
		return err
	}
	if err := s.dir.step("fsync"); err != nil {
		return err
	}
	return file.Close()
}

// isUnsure reports whether the record at path was renamed into place by this
// handle, but not made durable: a repeated call must write it anew before it
// answers.
func (s *records) isUnsure(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unsure[path]
}

func (s *records) setUnsure(path string, unsure bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if unsure {
		s.unsure[path] = true
	} else {
		delete(s.unsure, path)
	}
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
