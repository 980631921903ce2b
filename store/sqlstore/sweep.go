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
type sweeper struct {
	table
	busy atomic.Bool
}

// sometimes sweeps beside the caller, now and then. What a sweep leaves is left to the
// next: a row past its expiry is taken for none.
func (w *sweeper) sometimes() {
	if rand.IntN(sweepEach) > 0 || !w.busy.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer w.busy.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), sweepLimit)
		defer cancel()
		_, _ = w.sweep(ctx)
	}()
}

// sweep is [Store.Sweep].
func (w *sweeper) sweep(ctx context.Context) (removed int, err error) {
	if len(w.dialect.sweep) == 1 {
		n, err := w.swept(ctx, w.dialect.sweep[0])
		return n, w.failure("sweep", err)
	}
	digests, err := w.expired(ctx)
	if err != nil {
		return 0, w.failure("sweep", err)
	}
	for _, digest := range digests {
		n, err := w.swept(ctx, w.dialect.sweep[1], digest)
		if removed += n; err != nil {
			return removed, w.failure("sweep", err)
		}
	}
	return removed, nil
}

func (w *sweeper) swept(ctx context.Context, statement string, args ...any) (int, error) {
	result, err := w.db.ExecContext(ctx, statement, args...)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// expired returns the digests of rows past their expiry.
func (w *sweeper) expired(ctx context.Context) (digests [][]byte, err error) {
	rows, err := w.db.QueryContext(ctx, w.dialect.sweep[0])
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
