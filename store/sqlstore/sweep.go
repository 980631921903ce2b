package sqlstore

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// One of sweepEach new records has a sweep follow, which removes some 256: more than came.
const (
	sweepEach  = 64
	sweepLimit = 10 * time.Second
)

// sweeper removes rows whose records have expired, one sweep at a time.
type sweeper struct{ busy atomic.Bool }

// sometimes sweeps beside the caller, now and then. What a sweep leaves is left to the
// next: a row past its expiry is taken for none.
func (w *sweeper) sometimes(s *Store) {
	if rand.IntN(sweepEach) > 0 || !w.busy.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer w.busy.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), sweepLimit)
		defer cancel()
		_, _ = s.Sweep(ctx)
	}()
}

// Sweep removes rows of records past their expiry, some 256 at most, and returns how many
// it removed. Calls do so by themselves, as often as new records come; it is for a
// database from which many are to go. Rows that others work on are left out.
func (s *Store) Sweep(ctx context.Context) (removed int, err error) {
	if len(s.dialect.sweep) == 1 {
		n, err := s.swept(ctx, s.dialect.sweep[0])
		return n, s.failure("sweep", err)
	}
	digests, err := s.expired(ctx)
	if err != nil {
		return 0, s.failure("sweep", err)
	}
	for _, digest := range digests {
		n, err := s.swept(ctx, s.dialect.sweep[1], digest)
		if removed += n; err != nil {
			return removed, s.failure("sweep", err)
		}
	}
	return removed, nil
}

func (s *Store) swept(ctx context.Context, statement string, args ...any) (int, error) {
	result, err := s.db.ExecContext(ctx, statement, args...)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// expired returns the digests of rows past their expiry.
func (s *Store) expired(ctx context.Context) (digests [][]byte, err error) {
	rows, err := s.db.QueryContext(ctx, s.dialect.sweep[0])
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var digest []byte
		if err := rows.Scan(&digest); err != nil {
			return nil, err
		}
		digests = append(digests, digest)
	}
	return digests, rows.Err()
}
