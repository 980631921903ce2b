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
	"unicode/utf8"
)

// This file is one record on disk: its name, its form, and how it is replaced.

const (
	recordExt = ".json"
	tempExt   = ".tmp"
	claimExt  = ".claim"
	lockName  = "lock"

	fileVersion = 1
)

// fileRecord is the form of a record on disk. The version comes first, so that
// it is known even if a newer form cannot be read to its end.
type fileRecord struct {
	Version  int    `json:"version"`
	KeyBytes []byte `json:"key_bytes,omitempty"` // a key that is not UTF-8
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

func (f *File) shardDir(n int) string {
	return filepath.Join(f.dir, fmt.Sprintf("%02x", n))
}

// read returns the record of key as it is remembered now.
func (f *File) read(at place, key string, now time.Time) (Record, error) {
	r, err := readRecord(at.path)
	if err != nil {
		return Record{}, err
	}
	if r.State == Absent || r.expired(now) {
		r = Record{Key: key}
	}
	r.Now = now
	return r, nil
}

// readRecord returns what is at path; its State is Absent if nothing is. A
// record that belongs elsewhere is corrupt.
func readRecord(path string) (Record, error) {
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Record{}, nil
	case err != nil:
		return Record{}, fmt.Errorf("store: %w", err)
	}
	r, err := decodeRecord(data)
	if err == nil && filepath.Base(locate("", r.Key).path) != filepath.Base(path) {
		err = fmt.Errorf("%w: it is about another key, %q", ErrCorrupt, r.Key)
	}
	if err != nil {
		return Record{}, fmt.Errorf("%w (in %s)", err, path)
	}
	return r, nil
}

func encodeRecord(r Record) ([]byte, error) {
	form := fileRecord{Version: fileVersion, Record: r}
	if !utf8.ValidString(r.Key) {
		form.KeyBytes = []byte(r.Key)
	}
	data, err := json.MarshalIndent(form, "", "  ")
	return append(data, '\n'), err
}

func decodeRecord(data []byte) (Record, error) {
	var form fileRecord
	err := json.Unmarshal(data, &form)
	switch {
	case form.Version > fileVersion:
		return Record{}, fmt.Errorf("%w: %d", ErrVersion, form.Version)
	case err != nil:
		return Record{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	case form.Version != fileVersion:
		return Record{}, fmt.Errorf("%w: no version", ErrCorrupt)
	}
	r := form.Record
	if form.KeyBytes != nil {
		r.Key = string(form.KeyBytes)
	}
	switch r.State {
	case Running, InDoubt, Pending, Succeeded, Failed, Tombstone:
	default:
		return Record{}, fmt.Errorf("%w: unknown state %q", ErrCorrupt, r.State)
	}
	if r.Key == "" || r.Owner == "" || r.Fence == 0 || r.Revision == 0 {
		return Record{}, fmt.Errorf("%w: no key, owner, fence or revision", ErrCorrupt)
	}
	return r, nil
}

// replace makes r the record on disk, or leaves the old one. If it fails after
// it has renamed, either may be there when the host comes up again.
func (f *File) replace(at place, r Record) (renamed bool, err error) {
	data, err := encodeRecord(r)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	temp := strings.TrimSuffix(at.path, recordExt) + tempExt
	if err = f.enlist(at.path, r.State); err == nil {
		err = f.writeTemp(temp, data)
	}
	if err == nil {
		err = os.Rename(temp, at.path)
	}
	if err != nil {
		_ = os.Remove(temp)
		if isFull(err) && !f.isUnsure(at.path) {
			return false, fmt.Errorf("%w: %w", ErrFull, err)
		}
		return false, fmt.Errorf("store: %w", err)
	}
	if err = f.step("rename"); err == nil {
		err = syncDir(filepath.Dir(at.path))
	}
	if err == nil {
		err = f.step("dirsync")
	}
	f.setUnsure(at.path, err != nil)
	if err != nil {
		return true, fmt.Errorf("store: %w", err)
	}
	return true, nil
}

// writeTemp writes data to a new file at path, durably. The caller has the lock
// of the shard: a file that is there already is what a crash left.
func (f *File) writeTemp(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		if err := os.Remove(path); err != nil {
			return err
		}
		file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if err := f.step("create"); err != nil {
		return err
	}
	if _, err := file.Write(data); err != nil {
		return err
	}
	if err := f.step("write"); err != nil {
		return err
	}
	// Never twice: after a failed fsync the kernel may call lost pages clean.
	if err := file.Sync(); err != nil {
		return err
	}
	if err := f.step("fsync"); err != nil {
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

// makeDir creates dir and what leads to it, durably.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir {
		if err := makeDir(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	switch {
	case err == nil:
		return syncDir(filepath.Dir(dir))
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: dir, Err: syscall.ENOTDIR}
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func checkFileSystem(dir string, o FileOptions) error {
	name, safe, err := fileSystem(dir)
	switch {
	case err != nil:
		return fmt.Errorf("store: %s: %w", dir, err)
	case !safe && !o.AnyFileSystem:
		return fmt.Errorf("%w: %s is on %s, where file locks or durable writes are not known to hold: "+
			"choose a directory on a local disk, or set FileOptions.AnyFileSystem", ErrUnsafe, dir, name)
	}
	return nil
}
