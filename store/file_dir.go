package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
)

// This file is the directory of a store: what it holds, and whether it is still the
// one that was opened.

// inspectLimit bounds how many records one Check looks at.
const inspectLimit = 4096

// directory is the directory of a store, as this handle has opened it.
type directory struct {
	path   string
	opened fs.FileInfo
	owner  keeper                   // of the directory, and of everything in it
	step   func(point string) error // tests fail here, or end the process

	inspected atomic.Int32 // the shard whose records the next Check looks at first
}

// openDirectory opens the directory of a store, and makes it and its subdirectories if
// there are none. anyKind admits file systems that are not known to be safe.
func openDirectory(path string, anyKind bool) (*directory, error) {
	path, err := absolute(path)
	if err != nil {
		return nil, err
	}
	if err := makeDir(path); errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	} else if err != nil {
		return nil, fmt.Errorf("store: cannot create the directory: %w", err)
	}
	if err := checkFileSystem(path, anyKind); err != nil {
		return nil, err
	}
	d := &directory{path: path, step: func(string) error { return nil }}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := d.adopt(info); err != nil {
		return nil, err
	}
	for n := range shards {
		if _, err := d.owner.makeDirAt(d.shardDir(n)); err != nil {
			return nil, err
		}
	}
	if err := syncDir(path); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return d, nil
}

// adopt makes the owner of the store's directory, which info describes, the store's.
// It refuses a directory that is used for something else.
func (d *directory) adopt(info fs.FileInfo) error {
	d.opened, d.owner = info, keeperOf(info)
	if me := os.Geteuid(); me != 0 && me != d.owner.uid {
		return fmt.Errorf("%w: %s belongs to uid %d, and this process runs as uid %d. All processes of a store run as one user: "+
			"name a directory below it, which the store then makes, or chown -R %d %s", ErrUnsafe, d.path, d.owner.uid, me, me, quoted(d.path))
	}
	if err := d.owner.mine(d.path, info); err != nil {
		return err
	}
	names, err := namesIn(d.path)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	for _, name := range names {
		if !isOurs(name) && !d.isStore() {
			return fmt.Errorf("%w: %s has other files, %q is one: give the store a directory of its own", ErrInvalid, d.path, name)
		}
	}
	return nil
}

// isOurs reports whether a file of that name is in the directory of a store, or in
// an empty file system.
func isOurs(name string) bool {
	return len(name) == 2 && strings.Trim(name, "0123456789abcdef") == "" || strings.HasPrefix(name, markName) || name == "lost+found"
}

// isStore reports whether the directory has been a store: a shard has been locked.
func (d *directory) isStore() bool {
	for n := range shards {
		if _, err := os.Lstat(filepath.Join(d.shardDir(n), lockName)); err == nil {
			return true
		}
	}
	return false
}

// isStill is nil if the directory is the one that was opened, and its owner's.
func (d *directory) isStill() error {
	switch now, err := os.Stat(d.path); {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnsafe, err)
	case !os.SameFile(d.opened, now):
		return fmt.Errorf("%w: %s is no longer the directory that was opened; its records are elsewhere", ErrUnsafe, d.path)
	default:
		return d.owner.mine(d.path, now)
	}
}

// inspect looks at the shards, at their locks, and at so many records that it costs
// little; the next one goes on with others.
func (d *directory) inspect() error {
	first, left := int(d.inspected.Load()), inspectLimit
	for i := range shards {
		n := (first + i) % shards
		if err := d.owner.checkDir(d.shardDir(n)); errors.Is(err, fs.ErrNotExist) {
			continue // each call about its records says so
		} else if err != nil {
			return err
		}
		if err := d.owner.checkFile(filepath.Join(d.shardDir(n), lockName), ErrUnsafe); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if left == 0 {
			continue
		}
		paths, err := d.recordsOf(n)
		if err != nil {
			return err
		}
		for _, path := range paths[:min(left, len(paths))] {
			if err := d.owner.checkFile(path, ErrCorrupt); errors.Is(err, ErrUnsafe) {
				return err
			}
			left--
		}
		d.inspected.Store(int32(n + 1))
	}
	return nil
}

func (d *directory) shardDir(n int) string {
	return filepath.Join(d.path, fmt.Sprintf("%02x", n))
}

func (d *directory) lockPath(n int) string {
	return filepath.Join(d.shardDir(n), lockName)
}

// recordsOf returns the paths of a shard's records.
func (d *directory) recordsOf(n int) ([]string, error) {
	names, err := d.namesOf(n)
	var paths []string
	for _, name := range names {
		if strings.HasSuffix(name, recordExt) {
			paths = append(paths, filepath.Join(d.shardDir(n), name))
		}
	}
	return paths, err
}

func (d *directory) namesOf(n int) ([]string, error) { return d.owner.namesAt(d.shardDir(n)) }

// absolute returns the whole path of dir, and refuses what cannot be a store's.
func absolute(dir string) (string, error) {
	if dir == "" {
		return "", fmt.Errorf("%w: no directory was named", ErrInvalid)
	}
	dir, err := filepath.Abs(dir)
	switch {
	case err != nil:
		return "", fmt.Errorf("store: %w", err)
	case filepath.Dir(dir) == dir:
		return "", fmt.Errorf("%w: %s cannot be a store: give it a directory of its own", ErrInvalid, dir)
	}
	return dir, nil
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
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s is a symbolic link to nothing", ErrInvalid, dir)
	case err == nil && !info.IsDir():
		return &fs.PathError{Op: "open", Path: dir, Err: syscall.ENOTDIR}
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.OpenFile(dir, os.O_RDONLY|openDir, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func checkFileSystem(dir string, anyKind bool) error {
	name, safe, err := fileSystem(dir)
	switch {
	case err != nil:
		return fmt.Errorf("store: %s: %w", dir, err)
	case !safe && !anyKind:
		return fmt.Errorf("%w: %s is on %s, where file locks or durable writes are not known to hold: "+
			"choose a directory on a local disk, or set FileOptions.AnyFileSystem", ErrUnsafe, dir, name)
	}
	return nil
}
