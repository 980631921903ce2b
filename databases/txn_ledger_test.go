package databases_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/internal/effect"
	"github.com/atmostonce/atmostonce/txn"
)

func TestTxn_DecidesByTheMarker(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		b.accounts(t)
		d := b.ledger(t, txn.Options{})
		done := callOf("7")
		_, err := b.do(t.Context(), d, done, "7")
		require.NoError(t, err)
		o, err := d.Decide(t.Context(), done.run())
		require.NoError(t, err)
		require.Equal(t, done.committed[0], o)
		o, err = d.Decide(t.Context(), callOf("7").run())
		require.NoError(t, err)
		require.Equal(t, done.committed[0], o, "whose run it was does not matter")
		other := done.run()
		other.Match = "something else"
		_, err = d.Decide(t.Context(), other)
		require.ErrorIs(t, err, txn.ErrMismatch)

		zombie, second, third := callOf("8"), callOf("8"), callOf("8")
		for range 2 {
			for _, g := range []*guarded{zombie, second} {
				_, err = d.Decide(t.Context(), g.run())
				require.ErrorIs(t, err, effect.ErrNotDone)
			}
		}
		for _, g := range []*guarded{zombie, second} {
			_, err = b.do(t.Context(), d, g, "8")
			require.ErrorIs(t, err, txn.ErrBarred)
			require.Empty(t, g.committed)
		}
		require.Zero(t, b.effects(t, "8"))
		_, err = b.do(t.Context(), d, third, "8")
		require.NoError(t, err)
		require.Equal(t, 1, b.effects(t, "8"))
		r, err := b.do(t.Context(), d, zombie, "8")
		require.NoError(t, err)
		require.Equal(t, third.Owner, r.Of)
	})
}

// The run that is asked about has written its marker, and has not ended its transaction.
func TestTxn_WaitsForATransactionThatMayYetCommit(t *testing.T) {
	t.Parallel()
	for name, commits := range map[string]bool{"and commits": true, "and rolls back": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, b *business) {
				b.accounts(t)
				d := b.ledger(t, txn.Options{})
				zombie := callOf("7").decidedBy(d)
				tx, err := b.db.BeginTx(t.Context(), nil)
				require.NoError(t, err)
				r, err := b.transfer(t.Context(), tx, "7", "a", "b")
				require.NoError(t, err)
				require.NoError(t, d.Done(zombie.in(t.Context()), tx, r))

				short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				_, err = d.Decide(short, zombie.run())
				require.Error(t, err, "nobody knows yet")
				require.NotErrorIs(t, err, effect.ErrNotDone)

				decided := make(chan error, 1)
				go func() {
					_, err := d.Decide(t.Context(), zombie.run())
					decided <- err
				}()
				select {
				case err := <-decided:
					t.Error("it was decided while the transaction was open:", err)
				case <-time.After(200 * time.Millisecond):
				}
				if commits {
					require.NoError(t, tx.Commit())
					require.NoError(t, <-decided)
					require.Equal(t, 1, b.effects(t, "7"))
					return
				}
				require.NoError(t, tx.Rollback())
				require.ErrorIs(t, <-decided, effect.ErrNotDone)
				_, err = b.do(t.Context(), d, zombie, "7")
				require.ErrorIs(t, err, txn.ErrBarred)
				_, err = b.do(t.Context(), d, callOf("7"), "7")
				require.NoError(t, err)
				require.Equal(t, 1, b.effects(t, "7"))
			})
		})
	}
}

// The run that is asked about is in its transaction, and has not written its marker.
func TestTxn_BarsARunInItsTransaction(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		if b.dialect == txn.SQLite { // where one transaction at a time writes, and is waited for
			return
		}
		b.accounts(t)
		d := b.ledger(t, txn.Options{})
		zombie := callOf("7")
		runs := 0
		_, err := txn.Do(zombie.in(t.Context()), d, func(ctx context.Context, tx *sql.Tx) (receipt, error) {
			runs++
			r, err := b.transfer(ctx, tx, "7", "a", "b")
			if err == nil && runs == 1 {
				_, err := d.Decide(ctx, zombie.run())
				require.ErrorIs(t, err, effect.ErrNotDone)
			}
			return r, err
		})
		require.ErrorIs(t, err, txn.ErrBarred)
		require.Zero(t, b.effects(t, "7"))
	})
}

func TestTxn_DoneInATransactionOfOnesOwn(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	onEach(t, func(t *testing.T, b *business) {
		b.accounts(t)
		d := b.ledger(t, txn.Options{})
		// call runs the transfer as a body with a transaction of its own, which end ends.
		call := func(g *guarded, id string, end func(tx *sql.Tx) error) (receipt, error) {
			return g.body(t.Context(), func(ctx context.Context) (receipt, error) {
				tx, err := b.db.BeginTx(context.WithoutCancel(ctx), nil)
				require.NoError(t, err)
				r, err := b.transfer(ctx, tx, id, "a", "b")
				require.NoError(t, err)
				r.Of = g.Owner
				if err := d.Done(ctx, tx, r); err != nil {
					return receipt{}, errors.Join(err, tx.Rollback())
				}
				return receipt{"what the body says", ""}, end(tx)
			})
		}
		g := callOf("7").decidedBy(d)
		want := receipt{"7", g.Owner}
		r, err := call(g, "7", (*sql.Tx).Commit)
		require.NoError(t, err)
		require.Equal(t, want, r, "what was written down is the result")
		r, err = call(callOf("7").decidedBy(d), "7", (*sql.Tx).Commit)
		require.NoError(t, err)
		require.Equal(t, want, r)
		require.Equal(t, 1, b.effects(t, "7"))

		g = callOf("8").decidedBy(d)
		r, err = call(g, "8", func(tx *sql.Tx) error { return errors.Join(tx.Commit(), boom) })
		require.NoError(t, err, "it was committed")
		require.Equal(t, receipt{"8", g.Owner}, r)

		g = callOf("9").decidedBy(d)
		_, err = call(g, "9", (*sql.Tx).Rollback)
		require.ErrorIs(t, err, errUncommitted, "it was rolled back, and no error returned")
		_, err = call(g, "9", (*sql.Tx).Commit)
		require.ErrorIs(t, err, txn.ErrTaken, "it was said that the run left no effect")
		require.Zero(t, b.effects(t, "9"))
		require.Empty(t, g.committed)

		// The commit is forgotten: the transaction stays open.
		var forgotten *sql.Tx
		g = callOf("10").decidedBy(d)
		g.find = func(ctx context.Context, r effect.Run) (effect.Outcome, error) {
			ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			defer cancel()
			return d.Decide(ctx, r)
		}
		_, err = call(g, "10", func(tx *sql.Tx) error { forgotten = tx; return nil })
		require.Error(t, err)
		require.NotErrorIs(t, err, errUncommitted, "it may be committed yet")
		require.Empty(t, g.committed)
		require.NoError(t, forgotten.Rollback())
		_, err = d.Decide(t.Context(), g.run())
		require.ErrorIs(t, err, effect.ErrNotDone)
	})
}

func TestTxn_PrunedMarkers(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		b.accounts(t)
		d := b.ledger(t, txn.Options{})
		old, barred, young := callOf("old"), callOf("barred"), callOf("young")
		for _, g := range []*guarded{old, young} {
			_, err := b.do(t.Context(), d, g, g.Owner)
			require.NoError(t, err)
		}
		_, err := d.Decide(t.Context(), barred.run())
		require.ErrorIs(t, err, effect.ErrNotDone, "nothing was pruned")
		b.exec(t, "UPDATE atmostonce_effects SET done_at = done_at - ? WHERE effect_key = ?", (10 * 24 * time.Hour).Microseconds(), old.Key)
		_, err = d.Prune(t.Context(), 0)
		require.Error(t, err)
		n, err := d.Prune(t.Context(), 9*24*time.Hour)
		require.NoError(t, err)
		require.EqualValues(t, 1, n)

		at := func(g *guarded, ago time.Duration) effect.Run {
			r := g.run()
			r.At = time.Now().Add(-ago)
			return r
		}
		require.NoError(t, d.Confirm(t.Context(), young.run()))
		require.NoError(t, d.Confirm(t.Context(), at(old, 10*24*time.Hour)), "it was pruned, and not lost")
		require.ErrorIs(t, d.Confirm(t.Context(), at(callOf("lost"), time.Hour)), effect.ErrMissing)
		_, err = d.Decide(t.Context(), at(old, 10*24*time.Hour))
		require.ErrorIs(t, err, txn.ErrPruned)
		_, err = d.Decide(t.Context(), callOf("9").run())
		require.ErrorIs(t, err, txn.ErrPruned, "when it began is not known")
		_, err = d.Decide(t.Context(), at(barred, time.Hour))
		require.ErrorIs(t, err, effect.ErrNotDone)
		n, err = d.Prune(t.Context(), 30*24*time.Hour)
		require.NoError(t, err)
		require.Zero(t, n)
		_, err = d.Decide(t.Context(), at(old, 10*24*time.Hour))
		require.ErrorIs(t, err, txn.ErrPruned, "the horizon stays")
	})
}

// The database is restored to a time before the effect: marker and effect are gone, and
// the guard's record is not.
func TestTxn_ARestoredDatabaseIsNoticed(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		b.accounts(t)
		d := b.ledger(t, txn.Options{})
		g := callOf("7")
		_, err := b.do(t.Context(), d, g, "7")
		require.NoError(t, err)
		require.NoError(t, d.Confirm(t.Context(), g.run()))
		b.exec(t, "DELETE FROM transfers")
		b.exec(t, "DELETE FROM atmostonce_effects")
		err = d.Confirm(t.Context(), g.run())
		require.ErrorIs(t, err, effect.ErrMissing)
		require.ErrorContains(t, err, "restored")
		g.Generation++ // an operator has reopened it
		_, err = b.do(t.Context(), d, g, "7")
		require.NoError(t, err)
		require.NoError(t, d.Confirm(t.Context(), g.run()))
	})
}

// A marker's time is when it was written, and not when its transaction began.
func TestTxn_MarkersHaveTheTimeOfTheClock(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		b.accounts(t)
		d := b.ledger(t, txn.Options{})
		const nap = 50 * time.Millisecond
		before := time.Now()
		g := callOf("7")
		_, err := txn.Do(g.in(t.Context()), d, func(ctx context.Context, tx *sql.Tx) (receipt, error) {
			r, err := b.transfer(ctx, tx, "7", "a", "b")
			<-time.After(nap)
			return r, err
		})
		require.NoError(t, err)
		at := time.UnixMicro(int64(b.count(t, "SELECT done_at FROM atmostonce_effects WHERE effect_key = ?", g.Key)))
		require.WithinRange(t, at, before.Add(nap).Truncate(time.Millisecond), time.Now().Add(time.Millisecond))
	})
}
