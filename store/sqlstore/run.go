package sqlstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// errMoved: the row is not as it was read. It is read again then.
var errMoved = errors.New("the row has changed")

// run reads, decides and writes until nobody writes in between.
func (s *Store) run(ctx context.Context, verb string, t store.Transition) (store.Record, error) {
	if err := t.Validate(); err != nil {
		return store.Record{}, err
	}
	var found row
	err := s.retry(ctx, func() (err error) {
		found, err = s.load(ctx, t.Key())
		return err
	})
	if err != nil {
		return store.Record{}, s.failure(verb, err)
	}
	return s.decide(ctx, verb, t, found)
}

// decide goes on from a row that was read.
func (s *Store) decide(ctx context.Context, verb string, t store.Transition, found row) (after store.Record, verdict error) {
	err := s.retry(ctx, func() (err error) {
		if found.now == 0 {
			if found, err = s.load(ctx, t.Key()); err != nil {
				return err
			}
		}
		before, err := found.record(t.Key())
		if err != nil {
			return err
		}
		var changed bool
		after, changed, verdict = t.Apply(before, fromMicros(found.now))
		if !changed {
			after = rounded(after)
			return nil
		}
		was := found
		found = row{}
		after, err = s.write(ctx, was, before, after)
		return err
	})
	if err != nil {
		return store.Record{}, s.failure(verb, err)
	}
	return after, verdict
}

// load reads the row of a key, and the clock.
func (s *Store) load(ctx context.Context, key string) (row, error) {
	digest := digestOf(key)
	var r row
	err := s.db.QueryRowContext(ctx, s.dialect.load, digest).Scan(r.fields()...)
	return r, err
}

// write writes after in the place of the row was, which held before.
func (s *Store) write(ctx context.Context, was row, before, after store.Record) (store.Record, error) {
	after = rounded(after)
	next, err := newRow(after)
	if err != nil {
		return store.Record{}, err
	}
	digest := digestOf(after.Key)
	switch {
	case !was.exists():
		err = s.change(ctx, s.dialect.insert, next.version, next.state, next.fence, next.revision, next.since, next.leaseEnd, next.deadline, next.expires, next.body, digest)
		if s.dialect.isDuplicate(err) {
			err = errMoved
		}
		s.sweeper.sometimes(s)
	case before.Revision == after.Revision && before.Fence == after.Fence:
		err = s.change(ctx, s.dialect.touch, next.version, next.expires, digest, was.version)
		if err == nil {
			s.held.touched(after, next.version.Int64)
		}
		return after, err
	default:
		err = s.change(ctx, s.dialect.update, next.version, next.state, next.fence, next.revision, next.since, next.leaseEnd, next.deadline, next.expires, next.body, digest, was.version)
	}
	if err == nil && s.dialect.renew != "" {
		s.held.put(after, next.version.Int64)
	}
	return after, err
}

// change runs a statement that changes one row, or none because it has moved.
func (s *Store) change(ctx context.Context, statement string, args ...any) error {
	result, err := s.db.ExecContext(ctx, statement, args...)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err == nil && n != 1 {
		err = errMoved
	}
	return err
}

// Bounds of the repetitions of one call. A row that has moved is read again until the
// context ends; a statement that the database has undone because of others is
// repeated a few times.
const (
	firstPause  = time.Millisecond
	longestWait = 100 * time.Millisecond
	undoneTries = 12
)

// retry repeats try while it was not applied because of others.
func (s *Store) retry(ctx context.Context, try func() error) error {
	pause := firstPause
	for moved, undone := 0, 0; ; {
		err := try()
		switch {
		case errors.Is(err, errMoved):
			if moved++; moved < 3 {
				continue
			}
		case s.dialect.isUndone(err) && undone < undoneTries:
			undone++
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(rand.N(pause) + 1):
		}
		pause = min(2*pause, longestWait)
	}
}
