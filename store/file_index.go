package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// This file is the index of what is open: an empty file for each record that is
// running, in doubt or pending, <shard>/<state>/<digest of its key>. It is made
// before the record comes into that state, and removed after the record has left
// it. So whenever a process ends, every open record has its entry. A listing
// removes an entry without its record when it meets it. It is near its record,
// so that the file system writes down both at once.
//
// Entries are not made durable. A mark says in which run of the host they are
// complete; after another start of it, all records are looked at once.

var openStates = []State{Running, InDoubt, Pending}

// index has the entries and the mark of a store.
type index struct{ dir *directory }

// entryOf returns the path of the entry that a record has in a state.
func entryOf(record string, s State) string {
	return filepath.Join(filepath.Dir(record), string(s), strings.TrimSuffix(filepath.Base(record), recordExt))
}

// enlist makes the entry of a record that is about to come into a state.
func (x index) enlist(record string, s State) error {
	if !s.IsOpen() {
		return nil
	}
	path := entryOf(record, s)
	err := x.dir.owner.checkDir(filepath.Dir(path))
	if err == nil {
		err = x.dir.owner.touchNew(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		// Other entries may be gone with the directory. The writer of the record
		// makes the new one durable.
		_ = os.Remove(x.markPath())
		if _, err = x.dir.owner.makeDirAt(filepath.Dir(path)); err == nil {
			err = x.dir.owner.touchNew(path)
		}
	}
	if err == nil {
		err = x.dir.step("enlist")
	}
	return err
}

// delist removes the entries of a record that has left these states. It leaves to a
// listing what it cannot remove.
func (x index) delist(record string, left ...State) {
	for _, s := range left {
		if s.IsOpen() {
			_ = os.Remove(entryOf(record, s))
		}
	}
}

// writeMark says that the entries are complete.
func (x index) writeMark(mark string) error {
	temp, err := os.CreateTemp(x.dir.path, markName+".*"+tempExt)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if err = x.dir.owner.give(temp, ""); err == nil {
		_, err = temp.WriteString(mark)
	}
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), x.markPath())
	}
	if err != nil {
		_ = os.Remove(temp.Name())
		if why := x.dir.owner.checkFile(x.markPath(), ErrUnsafe); errors.Is(why, ErrUnsafe) {
			return why
		}
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// readMark returns what is in the mark; nothing if it is no file.
func (x index) readMark() string {
	file, err := os.OpenFile(x.markPath(), os.O_RDONLY|openPlain, 0)
	if err != nil {
		return ""
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	found, _ := io.ReadAll(io.LimitReader(file, 1<<10))
	return string(found)
}

func (x index) markPath() string { return filepath.Join(x.dir.path, markName) }

// complete reports whether every open record has its entry.
func (x index) complete() bool {
	if mark := x.mark(); mark == "" || x.readMark() != mark {
		return false
	}
	for n := range shards {
		for _, state := range openStates {
			if _, err := os.Stat(filepath.Join(x.dir.shardDir(n), string(state))); err != nil {
				return false
			}
		}
	}
	return true
}

// mark names this run of the host, and this directory: what is copied from one is
// not complete in another. It is empty where the host does not name its runs.
func (x index) mark() string {
	boot := bootID()
	info, err := os.Stat(x.dir.path)
	if boot == "" || err != nil {
		return ""
	}
	return fmt.Sprintf("%s %d\n", boot, inode(info))
}
