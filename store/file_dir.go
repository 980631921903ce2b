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

const (
	logName    = "log"    // the directory of the segments
	claimsName = "claims" // and that of the running claims
)

// directory is the directory of a store, as this handle has opened it.
type directory struct {
	path   string
	opened fs.FileInfo
	owner  keeper // of the directory, and of everything in it

	step atomic.Pointer[func(point string) error] // tests fail here, or end the process
}

func (d *directory) at(point string) error {
	if step := d.step.Load(); step != nil {
		return (*step)(point)
	}
	return nil
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
	d := &directory{path: path}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := d.adopt(info); err != nil {
		return nil, err
	}
	for _, dir := range []string{d.logDir(), d.claimsDir()} {
		if _, err := d.owner.makeDirAt(dir); err != nil {
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
	if isEarlier(names) {
		return fmt.Errorf("%w: %s is of a program that kept a file for each record: name another directory once what it keeps is over", ErrVersion, d.path)
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
	return name == lockName || name == logName || name == claimsName || name == "lost+found"
}

// isStore reports whether the directory has been a store: it has been locked.
func (d *directory) isStore() bool {
	info, err := os.Lstat(filepath.Join(d.path, logName))
	if err != nil || !info.IsDir() {
		return false
	}
	_, err = os.Lstat(filepath.Join(d.path, lockName))
	return err == nil
}

// isEarlier reports whether names are of a store of programs that had a file for each
// record.
func isEarlier(names []string) bool {
	shards := 0
	for _, name := range names {
		if len(name) == 2 && strings.Trim(name, "0123456789abcdef") == "" {
			shards++
		}
	}
	return shards == 256
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

// inspect looks at who may write what is in the store.
func (d *directory) inspect() error {
	for _, dir := range []string{d.logDir(), d.claimsDir()} {
		if err := d.owner.checkDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return prefixed(err)
		}
	}
	paths := []string{filepath.Join(d.path, lockName)}
	names, err := d.owner.namesAt(d.logDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range names {
		if segmentNumber(name) > 0 {
			paths = append(paths, filepath.Join(d.logDir(), name))
		}
	}
	for _, path := range paths {
		if err := d.owner.checkFile(path, ErrUnsafe); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return prefixed(err)
		}
	}
	return nil
}

func (d *directory) logDir() string { return filepath.Join(d.path, logName) }

func (d *directory) claimsDir() string { return filepath.Join(d.path, claimsName) }

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
