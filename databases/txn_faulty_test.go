package databases_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/internal/effect"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/txn"
)

// faults are those of the connections of a pool. Its functions are asked each time.
type faults struct {
	mu     sync.Mutex
	commit func(tx *faultyTx) error
	query  func() error // before each statement outside of transactions
}

func (f *faults) set(commit func(tx *faultyTx) error, query func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commit, f.query = commit, query
}

func (f *faults) get() (commit func(tx *faultyTx) error, query func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.commit, f.query
}

// faulty returns another pool for the database, with faults.
func (b *business) faulty(t *testing.T) (*sql.DB, *faults) {
	t.Helper()
	f := &faults{}
	db := sql.OpenDB(faultyConnector{f, b.again(t)})
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db, f
}

type faultyConnector struct {
	*faults
	db *sql.DB
}

func (c faultyConnector) Driver() driver.Driver { return c.db.Driver() }

func (c faultyConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	fc := &faultyConn{faults: c.faults, pooled: conn}
	err = conn.Raw(func(raw any) error { fc.Conn, _ = raw.(driver.Conn); return nil })
	return fc, err
}

type faultyConn struct {
	driver.Conn
	*faults
	pooled *sql.Conn
	in     bool          // a transaction
	late   chan struct{} // not nil: it is gone, and its transaction ends when this is closed
}

func (c *faultyConn) IsValid() bool { return c.late == nil }

func (c *faultyConn) Close() error {
	if c.late == nil {
		return c.pooled.Close()
	}
	go func() {
		<-c.late
		_ = c.pooled.Close()
	}()
	return nil
}

func (c *faultyConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
	c.in = err == nil
	return &faultyTx{tx, c}, err
}

func (c *faultyConn) alone() error {
	if _, query := c.get(); query != nil && !c.in {
		return query()
	}
	return nil
}

func (c *faultyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.alone(); err != nil {
		return nil, err
	}
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c *faultyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.alone(); err != nil {
		return nil, err
	}
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c *faultyConn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.Conn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

type faultyTx struct {
	driver.Tx
	conn *faultyConn
}

func (t *faultyTx) Commit() error {
	t.conn.in = false
	if commit, _ := t.conn.get(); commit != nil {
		return commit(t)
	}
	return t.Tx.Commit()
}

func (t *faultyTx) Rollback() error {
	t.conn.in = false
	return t.Tx.Rollback()
}

// later has the transaction end later, without this connection.
func (t *faultyTx) later(end string) error {
	late := make(chan struct{})
	t.conn.late = late
	time.AfterFunc(300*time.Millisecond, func() {
		_, _ = t.conn.Conn.(driver.ExecerContext).ExecContext(context.Background(), end, nil)
		close(late)
	})
	return io.ErrUnexpectedEOF
}

// first returns f for the first commit, and none for those that follow.
func first(f func(tx *faultyTx) error) func(tx *faultyTx) error {
	var done sync.Once
	return func(tx *faultyTx) (err error) {
		err = errFollows
		done.Do(func() { err = f(tx) })
		if err == errFollows { //nolint:errorlint // it is it
			return tx.Tx.Commit()
		}
		return err
	}
}

var errFollows = errors.New("not the first")

// The connection goes away while the commit is under way.
func TestTxn_ACommitWithoutAnAnswerIsReadBack(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		commit func(tx *faultyTx) error
		runs   int
	}{
		"it took place": {func(tx *faultyTx) error { return errors.Join(tx.Tx.Commit(), io.ErrUnexpectedEOF) }, 1},
		"it did not":    {func(tx *faultyTx) error { return errors.Join(tx.Tx.Rollback(), io.ErrUnexpectedEOF) }, 2},
		"it is under way": {func(tx *faultyTx) error {
			return tx.later("COMMIT")
		}, 1},
		"it will not": {func(tx *faultyTx) error {
			return tx.later("ROLLBACK")
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, b *business) {
				b.accounts(t)
				b.ledger(t, txn.Options{})
				db, f := b.faulty(t)
				d := b.ledgerOf(t, db, txn.Options{})
				f.set(first(tc.commit), nil)
				g, runs := callOf("7"), 0
				r, err := txn.Do(g.in(t.Context()), d, func(ctx context.Context, tx *sql.Tx) (receipt, error) {
					runs++
					return b.transfer(ctx, tx, "7", "a", "b")
				})
				require.NoError(t, err)
				require.Equal(t, "7", r.ID)
				require.Len(t, g.committed, 1)
				require.Equal(t, tc.runs, runs)
				require.Equal(t, 1, b.effects(t, "7"))
			})
		})
	}
}

func TestTxn_ACommitThatCannotBeReadBackIsInDoubt(t *testing.T) {
	t.Parallel()
	for name, took := range map[string]bool{"it took place": true, "it did not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, b *business) {
				b.accounts(t)
				b.ledger(t, txn.Options{})
				db, f := b.faulty(t)
				d := b.ledgerOf(t, db, txn.Options{})
				f.set(func(tx *faultyTx) error {
					end := tx.Tx.Rollback
					if took {
						end = tx.Tx.Commit
					}
					return errors.Join(end(), io.ErrUnexpectedEOF)
				}, func() error { return io.EOF })
				g := callOf("7")
				_, err := b.do(t.Context(), d, g, "7")
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
				verdict, final := once.Unlock.Decide(err)
				require.Equal(t, once.Doubt, verdict)
				require.True(t, final)
				require.Empty(t, g.committed)
				f.set(nil, nil)
				o, err := d.Decide(t.Context(), g.run())
				if !took {
					require.ErrorIs(t, err, effect.ErrNotDone)
					return
				}
				require.NoError(t, err)
				require.Contains(t, string(o.Data), g.Owner)
			})
		})
	}
}

func TestTxn_ItsContextEnds(t *testing.T) {
	t.Parallel()
	stopped := errors.New("the worker stops")
	onEach(t, func(t *testing.T, b *business) {
		b.accounts(t)
		b.ledger(t, txn.Options{})
		db, f := b.faulty(t)
		d := b.ledgerOf(t, db, txn.Options{})

		ctx, end := context.WithCancelCause(t.Context())
		f.set(func(tx *faultyTx) error { end(stopped); <-time.After(50 * time.Millisecond); return tx.Tx.Commit() }, nil)
		g := callOf("7")
		_, err := b.do(ctx, d, g, "7")
		require.NoError(t, err, "a commit that has begun is let finish")
		require.Len(t, g.committed, 1)
		require.Equal(t, 1, b.effects(t, "7"))

		f.set(nil, nil)
		_, err = b.do(ctx, d, callOf("8"), "8")
		require.ErrorIs(t, err, stopped, "before it began")
		ctx, end = context.WithCancelCause(t.Context())
		_, err = txn.Do(callOf("8").in(ctx), d, func(_ context.Context, tx *sql.Tx) (receipt, error) {
			defer end(stopped)
			return b.transfer(t.Context(), tx, "8", "a", "b")
		})
		require.ErrorIs(t, err, stopped, "before the marker")
		require.Zero(t, b.effects(t, "8"))
		_, err = b.do(t.Context(), d, callOf("8"), "8")
		require.NoError(t, err)
	})
}
