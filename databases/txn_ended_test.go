package databases_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/txn"
)

// MySQL ends a transaction and says nothing when the next statement comes without one: the
// marker would be of what is not there.
func TestTxn_MySQLWithoutItsTransactionIsCaught(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, b *business, tx *sql.Tx){
		"a deadlock, whose error is swallowed": deadlock,
		"a statement that commits": func(t *testing.T, b *business, tx *sql.Tx) {
			t.Helper()
			_, err := tx.ExecContext(t.Context(), "CREATE TABLE more (id int)")
			require.NoError(t, err)
		},
		"COMMIT, said by hand": func(t *testing.T, b *business, tx *sql.Tx) {
			t.Helper()
			_, err := tx.ExecContext(t.Context(), "COMMIT")
			require.NoError(t, err)
		},
	} {
		for _, own := range []bool{false, true} {
			t.Run(name+map[bool]string{false: ", in Do", true: ", in a transaction of one's own"}[own], func(t *testing.T) {
				t.Parallel()
				b := newMariaDBBusiness(t)
				b.db = b.again(t)
				b.accounts(t)
				d := b.ledger(t, txn.Options{})
				g := callOf("7").decidedBy(d)
				f := func(ctx context.Context, tx *sql.Tx) (receipt, error) {
					_, err := tx.ExecContext(ctx, "INSERT INTO transfers (id, cents) VALUES ('before', 1)")
					require.NoError(t, err)
					end(t, b, tx)
					return b.transfer(ctx, tx, "7", "a", "b")
				}
				_, err := g.body(t.Context(), func(ctx context.Context) (receipt, error) {
					if !own {
						return txn.Do(ctx, d, f)
					}
					tx, err := b.db.BeginTx(ctx, nil)
					require.NoError(t, err)
					r, err := f(ctx, tx)
					require.NoError(t, err)
					if err := d.Done(ctx, tx, r); err != nil {
						return receipt{}, errors.Join(err, tx.Rollback())
					}
					return r, tx.Commit()
				})
				require.ErrorIs(t, err, txn.ErrEnded)
				verdict, _ := once.Unlock.Decide(err)
				require.Equal(t, once.Doubt, verdict)
				require.Empty(t, g.committed)
				_, err = d.Decide(t.Context(), g.run())
				require.ErrorIs(t, err, txn.ErrEnded, "it is not said that it did not take place")
				_, err = b.do(t.Context(), d, callOf("7"), "7")
				require.ErrorIs(t, err, txn.ErrEnded)
				require.Equal(t, 1, b.effects(t, "7"), "it went on, and was committed at once")
				_, err = b.do(t.Context(), d, callOf("8"), "8")
				require.NoError(t, err, "the connections are fit for the next one")
			})
		}
	}
}

// deadlock has tx be the victim of a deadlock: it holds less than the other one.
func deadlock(t *testing.T, b *business, tx *sql.Tx) {
	t.Helper()
	const take = "UPDATE accounts SET cents = cents WHERE name = ?"
	other, err := b.again(t).BeginTx(t.Context(), nil)
	require.NoError(t, err)
	for range 100 {
		_, err = other.ExecContext(t.Context(), "INSERT INTO transfers (id, cents) VALUES ('other', 1)")
		require.NoError(t, err)
	}
	_, err = other.ExecContext(t.Context(), take, "b")
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), take, "a")
	require.NoError(t, err)
	waits := make(chan error, 1)
	go func() {
		_, err := other.ExecContext(t.Context(), take, "a")
		waits <- err
	}()
	require.Eventually(t, func() bool {
		return b.count(t, "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'") > 0
	}, time.Minute, 5*time.Millisecond)
	_, err = tx.ExecContext(t.Context(), take, "b")
	require.ErrorContains(t, err, "1213")
	require.NoError(t, <-waits)
	require.NoError(t, other.Rollback())
}
