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

// sweeper removes records that are not remembered, and what crashes left.
type sweeper struct {
	dir     *directory
	records *records
	claims  *claims
	lanes   *lanes
	// Guarded by the lock of the shard.
	shards [shards]struct {
		writes int    // since the last sweep
		swept  string // the last record that a sweep looked at
	}
}

// sometimes sweeps a shard, whose lock the caller has, now and then.
func (s *sweeper) sometimes(n int, now time.Time) {
	at := &s.shards[n]
	if at.writes++; at.writes >= sweepEvery {
		at.writes = 0
		s.sweep(n, now)
	}
}

// all sweeps the shards in turn until they are done or limit is over.
func (s *sweeper) all(limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for i, first := 0, rand.N(shards); i < shards; i++ {
		n := (first + i) % shards
		if names, err := s.dir.namesOf(n); err == nil && !slices.ContainsFunc(names, func(name string) bool { return filepath.Ext(name) != "" }) {
			continue // the lock and the index
		}
		_, err := s.lanes.locked(ctx, n, func(*os.File, func() bool) (Record, error) {
			s.sweep(n, clock())
			return Record{}, nil
		})
		if err != nil {
			return
		}
	}
}

// sweep looks at a bounded number of records, after those that the last sweep
// looked at. What it cannot read it leaves alone.
func (s *sweeper) sweep(n int, now time.Time) {
	names, err := s.dir.namesOf(n)
	if err != nil {
		return
	}
	var records []string
	for _, name := range names {
		path := filepath.Join(s.dir.shardDir(n), name)
		switch filepath.Ext(name) {
		case recordExt:
			records = append(records, name)
		case tempExt:
			// Written under the lock only: its writer has died.
			_ = os.Remove(path)
		case claimExt:
			_, _ = s.claims.ownerLives(path)
		}
	}
	slices.Sort(records)
	at := &s.shards[n]
	from, found := slices.BinarySearch(records, at.swept)
	if found {
		from++
	}
	for i := range min(len(records), sweepLimit) {
		at.swept = records[(from+i)%len(records)]
		path := filepath.Join(s.dir.shardDir(n), at.swept)
		r, err := s.records.read(path)
		if err != nil || r.State == Absent {
			continue
		}
		if gone, err := s.claims.forgotten(place{shard: n, path: path}, r, now); err == nil && gone {
			_ = os.Remove(path)
			s.records.index.delist(path, r.State)
		}
	}
}

// clear removes the records of a shard.
func (s *sweeper) clear(ctx context.Context, n int) error {
	_, err := s.lanes.locked(ctx, n, func(*os.File, func() bool) (Record, error) {
		paths, err := s.dir.recordsOf(n)
		for _, path := range paths {
			if e := os.Remove(path); e != nil && !errors.Is(e, fs.ErrNotExist) {
				err = errors.Join(err, fmt.Errorf("store: %w", e))
			}
			s.records.index.delist(path, openStates...)
		}
		return Record{}, err
	})
	return err
}
