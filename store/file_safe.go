package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// This file is what the store does not trust: files that are none, and what others
// than its owner can have written. A store has one owner, its directory's; a process
// of root keeps everything the owner's.

// keeper is whose a file is, and what its mode is. That of the store's directory is the
// owner of everything in it: it checks what is opened, and gets what is made.
type keeper struct {
	uid, gid int
	mode     fs.FileMode
}

// mine returns an error if others than the store's owner can have written what info
// describes.
func (k keeper) mine(path string, info fs.FileInfo) error {
	switch is := keeperOf(info); {
	case is.uid != k.uid:
		return fmt.Errorf("%w: %s belongs to uid %d, and the store to uid %d, as whom all its processes run: chown -R %d:%d %s",
			ErrUnsafe, path, is.uid, k.uid, k.uid, k.gid, quoted(path))
	case is.mode&0o022 != 0:
		return fmt.Errorf("%w: others than its owner may write %s (%s), if only those of its group. All processes of a store run as one user: chmod -R go-w %s",
			ErrUnsafe, path, info.Mode(), quoted(path))
	}
	return nil
}

// checkDir returns an error if path is not a directory of the store's owner.
func (k keeper) checkDir(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%w: %s is %s, and should be a directory of the store: move it away", ErrUnsafe, path, kind(info))
	}
	return k.mine(path, info)
}

// checkFile returns an error if path is not a file of the store's owner; strange says
// what it is if it is no file.
func (k keeper) checkFile(path string, strange error) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	return k.checkInfo(path, info, strange)
}

func (k keeper) checkInfo(path string, info fs.FileInfo, strange error) error {
	switch {
	case info.Mode().IsRegular():
		return k.mine(path, info)
	case errors.Is(strange, ErrCorrupt):
		return fmt.Errorf("%w: %s is %s, and should be a file. Put the record back; or, if its effect may happen again, move away what is there", strange, path, kind(info))
	default:
		return fmt.Errorf("%w: %s is %s, and should be a file of the store: move it away", strange, path, kind(info))
	}
}

// explain returns why path could not be opened: what is there, or err.
func (k keeper) explain(path string, err, strange error) error {
	why := k.checkDir(filepath.Dir(path))
	if why == nil {
		why = k.checkFile(path, strange)
	}
	if errors.Is(why, ErrUnsafe) || errors.Is(why, strange) {
		return fmt.Errorf("%w: %w", why, err)
	}
	return fmt.Errorf("store: %w", err)
}

// openAt opens a file of the store.
func (k keeper) openAt(path string, flag int) (*os.File, fs.FileInfo, error) {
	file, err := os.OpenFile(path, flag|openPlain, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, err
	case err != nil:
		return nil, nil, k.explain(path, err, ErrUnsafe)
	}
	info, err := file.Stat()
	if err == nil {
		err = k.checkInfo(path, info, ErrUnsafe)
	}
	if err != nil {
		_ = file.Close()
		return nil, nil, prefixed(err)
	}
	return file, info, nil
}

// namesAt returns the names in a directory of the store.
func (k keeper) namesAt(dir string) ([]string, error) {
	if err := k.checkDir(dir); err != nil {
		return nil, prefixed(err)
	}
	names, err := namesIn(dir)
	if err != nil {
		err = fmt.Errorf("store: %w", err)
	}
	return names, err
}

// lockAt takes the lock of the store's file at path; flag is of open. If somebody
// else has the lock it waits, or else returns nil.
func (k keeper) lockAt(path string, flag int, wait bool) (*os.File, error) {
	if flag&os.O_CREATE != 0 {
		if err := k.provide(path); err != nil {
			return nil, err
		}
	}
	l, err := lockFile(path, flag|os.O_RDONLY|openPlain, wait)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err != nil:
		return nil, k.explain(path, err, ErrUnsafe)
	case l == nil:
		if err := k.checkFile(path, ErrUnsafe); errors.Is(err, ErrUnsafe) {
			return nil, err
		}
		return nil, nil
	}
	info, err := l.Stat()
	if err == nil {
		err = k.checkInfo(path, info, ErrUnsafe)
	}
	if err != nil {
		unlockFile(l)
		return nil, err
	}
	return l, nil
}

// makeDirAt makes a directory of the store, and reports whether there was none.
func (k keeper) makeDirAt(dir string) (made bool, err error) {
	err = os.Mkdir(dir, 0o700)
	switch {
	case errors.Is(err, fs.ErrExist):
		return false, k.checkDir(dir)
	case err == nil && os.Geteuid() != k.uid:
		err = os.Lchown(dir, k.uid, k.gid)
	}
	if err != nil {
		return false, fmt.Errorf("store: cannot write to the directory: %w", err)
	}
	return true, nil
}

// give makes file, which is new, the store's owner's, with the owner and mode of the
// file at like if there is one.
func (k keeper) give(file *os.File, like string) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	is := keeperOf(info)
	want := keeper{uid: k.uid, gid: is.gid, mode: 0o600}
	if is.uid != want.uid {
		want.gid = k.gid
	}
	if old, err := os.Lstat(like); err == nil {
		want = keeperOf(old)
	}
	if is.uid != want.uid || is.gid != want.gid {
		err = file.Chown(want.uid, want.gid)
	}
	switch {
	case err != nil && is.uid != want.uid:
		return err
	case err != nil:
		want.mode &= 0o700 // its owner is not in that group any more
	}
	if is.mode != want.mode {
		return file.Chmod(want.mode)
	}
	return nil
}

// provide makes the file of a lock, if there is none and this process is not the
// owner's: it is the owner's from the first moment.
func (k keeper) provide(path string) error {
	if os.Geteuid() == k.uid {
		return nil // it is made when it is opened
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), lockName+".*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	defer temp.Close()
	if err := k.give(temp, ""); err != nil {
		return err
	}
	if err := os.Link(temp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func namesIn(dir string) ([]string, error) {
	d, err := os.OpenFile(dir, os.O_RDONLY|openDir, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// prefixed gives an error of the system the prefix that ErrUnsafe has.
func prefixed(err error) error {
	if errors.Is(err, ErrUnsafe) {
		return err
	}
	return fmt.Errorf("store: %w", err)
}

func kind(info fs.FileInfo) string {
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return "a file"
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	default:
		return "a device"
	}
}

// quoted returns path as a shell takes it for one word.
func quoted(path string) string {
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
