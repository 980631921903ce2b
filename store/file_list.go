package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// List implements [Store]. It finds what is running, in doubt or pending by the
// entries of an index, and a record by its Digest at once. Any other query reads
// every record.
func (f *File) List(ctx context.Context, q Query) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if state := q.OnlyState(); state.IsOpen() {
			f.listOpen(ctx, q, state, yield)
			return
		}
		for n := range shards {
			name := fmt.Sprintf("%02x", n)
			if !strings.HasPrefix(name, q.Digest) && !strings.HasPrefix(q.Digest, name) {
				continue
			}
			paths, err := reading(ctx, f.lanes, n, func() ([]string, error) { return f.dir.recordsOf(n) })
			if err != nil && (!yield(Record{}, err) || f.claims.usable(ctx) != nil) {
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
				if !yield(r, err) || err != nil && f.claims.usable(ctx) != nil {
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
	if err := f.claims.usable(ctx); err != nil {
		return nil, []error{err}
	}
	complete, err := reading(ctx, f.lanes, 0, func() (bool, error) { return f.index.complete(), nil })
	if err == nil && !complete {
		err = f.Reindex(ctx)
	}
	if err != nil {
		errs = append(errs, err)
	}
	for n := range shards {
		if err := f.claims.usable(ctx); err != nil {
			return records, append(errs, err)
		}
		dir := filepath.Join(f.dir.shardDir(n), string(state))
		entries, err := reading(ctx, f.lanes, n, func() ([]string, error) { return f.dir.owner.namesAt(dir) })
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
	_, _ = f.lanes.locked(ctx, at.shard, func(*os.File, func() bool) (Record, error) {
		r, err := f.records.read(at.path)
		if err != nil {
			return Record{}, err
		}
		gone, err := f.claims.forgotten(at, r, clock())
		if err == nil && (gone || r.State != state) {
			f.index.delist(at.path, state)
		}
		return Record{}, err
	})
}

// Reindex reads every record, and has those that are running, in doubt or pending
// found by [File.List]. The first listing of such records after a start of the host
// does so by itself. Call it after programs that know of no index have written, or
// after a backup was restored while the host went on to run. It changes no record,
// may run beside any other call, and starts anew if it was interrupted, or could
// not look at some of them: it goes on with the others, and its error says which.
func (f *File) Reindex(ctx context.Context) error {
	mark, err := reading(ctx, f.lanes, 0, func() (string, error) { return f.index.mark(), nil })
	errs := []error{err}
	for n := range shards {
		if err := f.claims.usable(ctx); err != nil {
			return err
		}
		errs = append(errs, f.reindexShard(ctx, n))
	}
	if err := errors.Join(errs...); err != nil || mark == "" {
		return err
	}
	_, err = reading(ctx, f.lanes, 0, func() (none struct{}, err error) { return none, f.index.writeMark(mark) })
	return err
}

func (f *File) reindexShard(ctx context.Context, n int) error {
	paths, err := reading(ctx, f.lanes, n, func() ([]string, error) {
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
			_, err = reading(ctx, f.lanes, n, func() (none struct{}, err error) { return none, f.index.enlist(path, r.State) })
			if err != nil {
				err = prefixed(err)
			}
		}
		if err := f.claims.usable(ctx); err != nil {
			return err
		}
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
