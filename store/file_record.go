package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// This file is one record on disk: its name, its form, and how it is replaced.

const (
	recordExt = ".json"
	tempExt   = ".tmp"
	claimExt  = ".claim"
	lockName  = "lock"

	// Version 1 had no checksum, and lost what is not UTF-8 in any string but the key.
	fileVersion = 2
)

// fileRecord is the form of a record on disk. The version comes first, so that
// it is known even if a newer form cannot be read to its end.
type fileRecord struct {
	Version  int    `json:"version"`
	KeyBytes []byte `json:"key_bytes,omitempty"` // of version 1: a key that is not UTF-8
	Record
}

// place is where a key's files are: <2 hex>/<64 hex>.
type place struct {
	shard int
	path  string // of the record
}

func locate(dir, key string) place {
	sum := sha256.Sum256([]byte(key))
	name := hex.EncodeToString(sum[:])
	return place{shard: int(sum[0]), path: filepath.Join(dir, name[:2], name+recordExt)}
}

// claim is the path of the file that the claim of that nonce locks.
func (p place) claim(nonce string) string {
	sum := sha256.Sum256([]byte(nonce))
	return strings.TrimSuffix(p.path, recordExt) + "." + hex.EncodeToString(sum[:16]) + claimExt
}

// read returns the record of key as it is remembered now. The caller has the lock
// of the shard.
func (f *File) read(at place, key string, now time.Time) (Record, error) {
	r, err := f.readRecord(at.path)
	if err != nil {
		return Record{}, err
	}
	gone, err := f.forgotten(at, r, now)
	if err != nil {
		return Record{}, err
	}
	if gone {
		r = Record{Key: key}
	}
	r.Now = now
	return r, nil
}

// forgotten reports whether the record that is at a place is not remembered now.
// A running one is, for as long as its owner lives: one that was suspended, or
// whose clock was set, could not renew it. The caller has the lock of the shard.
func (f *File) forgotten(at place, r Record, now time.Time) (bool, error) {
	if r.State != Running || !r.expired(now) {
		return r.State == Absent || r.expired(now), nil
	}
	alive, err := f.ownerLives(at.claim(r.Owner))
	return !alive, err
}

// readRecord returns what is at path; its State is Absent if nothing is. A
// record that belongs elsewhere is corrupt.
func (f *File) readRecord(path string) (Record, error) {
	data, found, err := f.dir.owner.readFile(path)
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

func encodeRecord(r Record) ([]byte, error) {
	data, err := json.MarshalIndent(fileRecord{Version: fileVersion, Record: asText(r)}, "", "  ")
	if err != nil {
		return nil, err
	}
	return withSum(data), nil
}

func decodeRecord(data []byte) (Record, error) {
	r, err := decodeForm(data)
	if err != nil {
		return Record{}, err
	}
	return r, r.Validate()
}

// decodeForm undoes encodeRecord. What the record says may still contradict itself.
func decodeForm(data []byte) (Record, error) {
	summed, right := checkSum(data)
	switch {
	case len(data) == 0:
		return Record{}, fmt.Errorf("%w: the file is empty", ErrCorrupt)
	case summed && !right:
		return Record{}, errSum
	}
	var form fileRecord
	if err := CheckShape(data); err != nil {
		return Record{}, err
	}
	err := json.Unmarshal(data, &form)
	switch {
	case form.Version > fileVersion:
		return Record{}, fmt.Errorf("%w: %d", ErrVersion, form.Version)
	case err != nil:
		return Record{}, badJSON(err)
	case form.Version == fileVersion && !summed:
		return Record{}, errSum
	case form.Version < 1:
		return Record{}, fmt.Errorf("%w: no version", ErrCorrupt)
	}
	r := form.Record
	if form.KeyBytes != nil {
		r.Key = string(form.KeyBytes)
	}
	if form.Version > 1 {
		err = fromText(&r)
	}
	return r, err
}

// replace makes r the record on disk, or leaves the old one. If it fails after
// it has renamed, either may be there when the host comes up again.
func (f *File) replace(at place, r Record) error {
	data, err := encodeRecord(r)
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("a record of %d bytes", len(data))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	temp := strings.TrimSuffix(at.path, recordExt) + tempExt
	if err = f.enlist(at.path, r.State); err == nil {
		err = f.writeTemp(temp, data, at.path)
	}
	if err == nil {
		err = os.Rename(temp, at.path)
	}
	if err != nil {
		_ = os.Remove(temp)
		if isFull(err) && !f.isUnsure(at.path) {
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
		return prefixed(err)
	}
	if err = f.dir.step("rename"); err == nil {
		err = syncDir(filepath.Dir(at.path))
	}
	if err == nil {
		err = f.dir.step("dirsync")
	}
	f.setUnsure(at.path, err != nil)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// writeTemp writes data to a new file at path, durably, which has the owner and mode
// of the file at like. The caller has the lock of the shard: a file that is there
// already is what a crash left.
func (f *File) writeTemp(path string, data []byte, like string) error {
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
	if err := f.dir.owner.give(file, like); err != nil {
		return err
	}
	if err := f.dir.step("create"); err != nil {
		return err
	}
	if _, err := file.Write(data); err != nil {
		return err
	}
	if err := f.dir.step("write"); err != nil {
		return err
	}
	// Never twice: after a failed fsync the kernel may call lost pages clean.
	if err := file.Sync(); err != nil {
		return err
	}
	if err := f.dir.step("fsync"); err != nil {
		return err
	}
	return file.Close()
}

// isUnsure reports whether the record at path was renamed into place by this
// handle, but not made durable: a repeated call must write it anew before it
// answers.
func (f *File) isUnsure(path string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.unsure[path]
}

func (f *File) setUnsure(path string, unsure bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if unsure {
		f.unsure[path] = true
	} else {
		delete(f.unsure, path)
	}
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
