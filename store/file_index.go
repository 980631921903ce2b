package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// This file is the index of what is open: an empty file for each record that is
// running, in doubt or pending, <shard>/<state>/<digest of its key>. It is made
// before the record comes into that state, and removed after the record has left
// it. So whenever a process ends, no open record is without its entry; an entry
// without its record is removed by a listing that meets it. It is near its record,
// so that the file system writes down both at once.
//
// Entries are not made durable. A mark says in which run of the host they are
// complete; after another start of it, all records are looked at once.

const markName = "indexed"

var openStates = []State{Running, InDoubt, Pending}

// entry returns the path of the entry that a record has in a state.
func (f *File) entry(record string, s State) string {
	return filepath.Join(filepath.Dir(record), string(s), strings.TrimSuffix(filepath.Base(record), recordExt))
}

// enlist makes the entry of a record that is about to come into a state.
func (f *File) enlist(record string, s State) error {
	if !s.IsOpen() {
		return nil
	}
	path := f.entry(record, s)
	err := f.dir.owner.checkDir(filepath.Dir(path))
	if err == nil {
		err = f.dir.owner.touchNew(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		// Other entries may be gone with the directory. The writer of the record
		// makes the new one durable.
		_ = os.Remove(f.markPath())
		if _, err = f.dir.owner.makeDirAt(filepath.Dir(path)); err == nil {
			err = f.dir.owner.touchNew(path)
		}
	}
	if err == nil {
		err = f.dir.step("enlist")
	}
	return err
}

// delist removes the entries of a record that has left these states. What it cannot
// remove is left to a listing.
func (f *File) delist(record string, left ...State) {
	for _, s := range left {
		if s.IsOpen() {
			_ = os.Remove(f.entry(record, s))
		}
	}
}

// List implements [Store]. It finds what is running, in doubt or pending by the
// entries of an index, and a record by its Digest at once. Any other query reads
// every record.
func (f *File) List(ctx context.Context, q Query) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if state := q.OnlyState(); state.IsOpen() {
			f.listOpen(ctx, q, state, yield)
			return
		}
		for n := range f.shards {
			name := fmt.Sprintf("%02x", n)
			if !strings.HasPrefix(name, q.Digest) && !strings.HasPrefix(q.Digest, name) {
				continue
			}
			paths, err := reading(ctx, f, n, func() ([]string, error) { return f.dir.recordsOf(n) })
			if err != nil && (!yield(Record{}, err) || f.usable(ctx) != nil) {
				return
			}
			for _, path := range paths {
				if !strings.HasPrefix(filepath.Base(path), q.Digest) {
					continue
				}
				r, err := f.load(ctx, place{shard: n, path: path})
				if err == nil && (r.State == Absent || !q.Matches(r)) {
					continue
				}
				if !yield(r, err) || err != nil && f.usable(ctx) != nil {
					return
				}
			}
		}
	}
}

// listOpen yields the records of an open state that match, oldest first, after the
// errors of those that cannot be read.
func (f *File) listOpen(ctx context.Context, q Query, state State, yield func(Record, error) bool) {
	records, errs := f.findOpen(ctx, q, state)
	for _, err := range errs {
		if !yield(Record{}, err) {
			return
		}
	}
	slices.SortFunc(records, Record.Compare)
	for _, r := range records {
		if !yield(r, nil) {
			return
		}
	}
}

func (f *File) findOpen(ctx context.Context, q Query, state State) (records []Record, errs []error) {
	if err := f.usable(ctx); err != nil {
		return nil, []error{err}
	}
	complete, err := reading(ctx, f, 0, func() (bool, error) { return f.complete(), nil })
	if err == nil && !complete {
		err = f.Reindex(ctx)
	}
	if err != nil {
		errs = append(errs, err)
	}
	for n := range f.shards {
		if err := f.usable(ctx); err != nil {
			return records, append(errs, err)
		}
		dir := filepath.Join(f.dir.shardDir(n), string(state))
		entries, err := reading(ctx, f, n, func() ([]string, error) { return f.dir.owner.namesAt(dir) })
		if err != nil {
			errs = append(errs, err)
		}
		for _, e := range entries {
			if len(e) != 2*sha256.Size || !strings.HasPrefix(e, q.Digest) {
				continue
			}
			at := place{shard: n, path: filepath.Join(f.dir.shardDir(n), e+recordExt)}
			r, err := f.load(ctx, at)
			switch {
			case err != nil:
				errs = append(errs, err)
			case r.State != state:
				f.tidy(ctx, at, state)
			case q.Matches(r):
				records = append(records, r)
			}
		}
	}
	return records, errs
}

// tidy removes the entry of a record that is not in its state, once nobody writes
// the record.
func (f *File) tidy(ctx context.Context, at place, state State) {
	_, _ = f.locked(ctx, at.shard, func(*os.File, func() bool) (Record, error) {
		r, err := f.readRecord(at.path)
		if err != nil {
			return Record{}, err
		}
		gone, err := f.forgotten(at, r, clock())
		if err == nil && (gone || r.State != state) {
			f.delist(at.path, state)
		}
		return Record{}, err
	})
}

// Reindex reads every record, and has those that are running, in doubt or pending
// found by [File.List]. The first listing of such records after a start of the host
// does so by itself. Call it after programs have written that know of no index
// or after a backup was restored while the host went on
// to run. It changes no record, may run beside any other call, and starts anew if
// it was interrupted, or could not look at some of them: it goes on with the others,
// and its error says which.
func (f *File) Reindex(ctx context.Context) error {
	mark, err := reading(ctx, f, 0, func() (string, error) { return f.mark(), nil })
	errs := []error{err}
	for n := range f.shards {
		if err := f.usable(ctx); err != nil {
			return err
		}
		errs = append(errs, f.reindexShard(ctx, n))
	}
	if err := errors.Join(errs...); err != nil || mark == "" {
		return err
	}
	_, err = reading(ctx, f, 0, func() (none struct{}, err error) { return none, f.writeMark(mark) })
	return err
}

func (f *File) reindexShard(ctx context.Context, n int) error {
	paths, err := reading(ctx, f, n, func() ([]string, error) {
		for _, state := range openStates {
			if _, err := f.dir.owner.makeDirAt(filepath.Join(f.dir.shardDir(n), string(state))); err != nil {
				return nil, err
			}
		}
		return f.dir.recordsOf(n)
	})
	errs := []error{err}
	for _, path := range paths {
		r, err := f.load(ctx, place{shard: n, path: path})
		if err == nil && r.State.IsOpen() {
			_, err = reading(ctx, f, n, func() (none struct{}, err error) { return none, f.enlist(path, r.State) })
			if err != nil {
				err = prefixed(err)
			}
		}
		if err := f.usable(ctx); err != nil {
			return err
		}
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// writeMark says that the entries are complete.
func (f *File) writeMark(mark string) error {
	temp, err := os.CreateTemp(f.dir.path, markName+".*"+tempExt)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if err = f.dir.owner.give(temp, ""); err == nil {
		_, err = temp.WriteString(mark)
	}
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), f.markPath())
	}
	if err != nil {
		_ = os.Remove(temp.Name())
		if why := f.dir.owner.checkFile(f.markPath(), ErrUnsafe); errors.Is(why, ErrUnsafe) {
			return why
		}
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// readMark returns what is in the mark; nothing if it is no file.
func (f *File) readMark() string {
	file, err := os.OpenFile(f.markPath(), os.O_RDONLY|openPlain, 0)
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

func (f *File) markPath() string { return filepath.Join(f.dir.path, markName) }

// complete reports whether every open record has its entry.
func (f *File) complete() bool {
	if mark := f.mark(); mark == "" || f.readMark() != mark {
		return false
	}
	for n := range f.shards {
		for _, state := range openStates {
			if _, err := os.Stat(filepath.Join(f.dir.shardDir(n), string(state))); err != nil {
				return false
			}
		}
	}
	return true
}

// mark names this run of the host, and this directory: what is copied from one is
// not complete in another. It is empty where the host does not name its runs.
func (f *File) mark() string {
	boot := bootID()
	info, err := os.Stat(f.dir.path)
	if boot == "" || err != nil {
		return ""
	}
	return fmt.Sprintf("%s %d\n", boot, inode(info))
}
