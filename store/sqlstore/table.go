package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"time"
)

// table is the store's table, and how statements on it are run.
type table struct {
	db      *sql.DB
	dialect *dialect
}

// errMoved: the row is not as it was read. It is read again then.
var errMoved = errors.New("the row has changed")

// load reads the row of a key, and the clock.
func (t table) load(ctx context.Context, key string) (row, error) {
	digest := digestOf(key)
	var r row
	err := t.db.QueryRowContext(ctx, t.dialect.load, digest).Scan(r.fields()...)
	return r, err
}

// change runs a statement that changes one row, or none because it has moved.
func (t table) change(ctx context.Context, statement string, args ...any) error {
	result, err := t.db.ExecContext(ctx, statement, args...)
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
func (t table) retry(ctx context.Context, try func() error) error {
	pause := firstPause
	for moved, undone := 0, 0; ; {
		err := try()
		switch {
		case errors.Is(err, errMoved):
			if moved++; moved < 3 {
				continue
			}
		case t.dialect.isUndone(err) && undone < undoneTries:
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
