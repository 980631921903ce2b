package txn

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// grace is how long a commit may go on after its context has ended.
const grace = 5 * time.Second

// transact begins, runs f and then mark, and commits. It says by unknown whether its error
// is that of a commit, which may have taken place.
func transact(ctx context.Context, db *sql.DB, isolation sql.IsolationLevel, f, mark func(*sql.Tx) error) (unknown bool, err error) {
	// Once it has begun, the end of ctx is seen by the statements; a commit is let finish.
	txCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, cancel)
	tx, err := db.BeginTx(txCtx, &sql.TxOptions{Isolation: isolation})
	if !stop() && err == nil {
		_ = tx.Rollback()
		err = context.Cause(ctx)
	}
	if err != nil {
		return false, within(ctx, err)
	}
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })()
	committing := false
	defer func() {
		// database/sql itself ends a transaction when txCtx does.
		if !committing && tx.Rollback() == sql.ErrTxDone && txCtx.Err() == nil { //nolint:errorlint // not what a driver returns
			err = errors.Join(ErrEnded, err)
		}
	}()
	if err := f(tx); err != nil {
		return false, err
	}
	if err := mark(tx); err != nil {
		return false, err
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	committing = true
	err = tx.Commit()
	if err == sql.ErrTxDone && txCtx.Err() == nil { //nolint:errorlint // not what a driver returns
		return false, ErrEnded
	}
	return err != nil && troubleOf(err) != conflict, err
}
