package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A sweep removes what nobody asks for any more: records past their expiry, and
// what crashes left. It looks at twice as many records as can have been written
// since the last, so that the expired ones stay few.
const (
	sweepEvery = 64 // writes to a shard
	sweepLimit = 2 * sweepEvery
)

// sweepSometimes sweeps a shard, whose lock the caller has, now and then.
func (f *File) sweepSometimes(n int, now time.Time) {
	s := &f.shards[n]
	if s.writes++; s.writes >= sweepEvery {
		s.writes = 0
		f.sweep(n, now)
	}
}

// sweepAll sweeps the shards in turn until they are done or limit is over.
func (f *File) sweepAll(limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for i, first := 0, rand.N(shards); i < shards; i++ {
		n := (first + i) % shards
		if names, err := f.dir.namesOf(n); err == nil && !slices.ContainsFunc(names, func(name string) bool { return filepath.Ext(name) != "" }) {
			continue // the lock and the index
		}
		_, err := f.locked(ctx, n, func(*os.File, func() bool) (Record, error) {
			f.sweep(n, clock())
			return Record{}, nil
		})
		if err != nil {
			return
		}
	}
}

// sweep looks at a bounded number of records, after those that the last sweep
// looked at. What it cannot read it leaves alone.
func (f *File) sweep(n int, now time.Time) {
	names, err := f.dir.namesOf(n)
	if err != nil {
		return
	}
	var records []string
	for _, name := range names {
		path := filepath.Join(f.dir.shardDir(n), name)
		switch filepath.Ext(name) {
		case recordExt:
			records = append(records, name)
		case tempExt:
			// Written under the lock only: its writer has died.
			_ = os.Remove(path)
		case claimExt:
			_, _ = f.ownerLives(path)
		}
	}
	slices.Sort(records)
	s := &f.shards[n]
	from, found := slices.BinarySearch(records, s.swept)
	if found {
		from++
	}
	for i := range min(len(records), sweepLimit) {
		s.swept = records[(from+i)%len(records)]
		path := filepath.Join(f.dir.shardDir(n), s.swept)
		r, err := f.records.read(path)
		if err != nil || r.State == Absent {
			continue
		}
		if gone, err := f.forgotten(place{shard: n, path: path}, r, now); err == nil && gone {
			_ = os.Remove(path)
			f.index.delist(path, r.State)
		}
	}
}

func (f *File) clearShard(ctx context.Context, n int) error {
	_, err := f.locked(ctx, n, func(*os.File, func() bool) (Record, error) {
		paths, err := f.dir.recordsOf(n)
		for _, path := range paths {
			if e := os.Remove(path); e != nil && !errors.Is(e, fs.ErrNotExist) {
				err = errors.Join(err, fmt.Errorf("store: %w", e))
			}
			f.index.delist(path, openStates...)
		}
		return Record{}, err
	})
	return err
}
