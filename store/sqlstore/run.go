package sqlstore

import (
	"context"

	"github.com/atmostonce/atmostonce/store"
)

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
		s.sweeper.sometimes()
	case !was.hasExpired() && before.Revision == after.Revision:
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
