package databases_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/internal/effect"
	"github.com/atmostonce/atmostonce/txn"
)

func TestTxn_OneEffectForAKey(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		b.accounts(t)
		d := b.ledger(t, txn.Options{})
		first, second := callOf("7"), callOf("7")
		r, err := b.do(t.Context(), d, first, "7")
		require.NoError(t, err)
		require.Equal(t, receipt{"7", first.Owner}, r)
		require.Len(t, first.committed, 1)
		r, err = b.do(t.Context(), d, second, "7")
		require.NoError(t, err)
		require.Equal(t, receipt{"7", first.Owner}, r, "the result that is there")
		require.Equal(t, first.committed, second.committed)
		require.Equal(t, 1, b.effects(t, "7"))
		require.Equal(t, 2000, b.sum(t))

		_, err = b.do(t.Context(), d, callOf("8"), "8")
		require.NoError(t, err)
		reopened := callOf("7")
		reopened.Generation = 1
		r, err = b.do(t.Context(), d, reopened, "7")
		require.NoError(t, err)
		require.Equal(t, reopened.Owner, r.Of, "the next generation is another effect")
		require.Equal(t, 2, b.effects(t, "7"))
	})
}

func TestTxn_AnErrorRollsBack(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		b.accounts(t)
		d := b.ledger(t, txn.Options{})
		boom := errors.New("boom")
		g := callOf("7")
		_, err := txn.Do(g.in(t.Context()), d, func(ctx context.Context, tx *sql.Tx) (receipt, error) {
			_, err := b.transfer(ctx, tx, "7", "a", "b")
			require.NoError(t, err)
			return receipt{"7", ""}, boom
		})
		require.Equal(t, boom, err)
		require.Zero(t, b.effects(t, "7"))

		g.Encode = func(context.Context, any) (effect.Outcome, error) { return effect.Outcome{}, boom }
		_, err = b.do(t.Context(), d, g, "7")
		require.ErrorIs(t, err, boom, "what cannot be kept")
		require.Zero(t, b.effects(t, "7"))

		require.PanicsWithValue(t, "boom", func() {
			_, _ = txn.Do(callOf("7").in(t.Context()), d, func(ctx context.Context, tx *sql.Tx) (receipt, error) {
				_, _ = b.transfer(ctx, tx, "7", "a", "b")
				panic("boom")
			})
		})
		_, err = b.do(t.Context(), d, callOf("7"), "7")
		require.NoError(t, err, "nothing is in the way")
		require.Equal(t, 1, b.effects(t, "7"))
	})
}

// A duplicate, where the guard has forgotten the first run, may fail because the effect
// is there.
func TestTxn_AnErrorThatComesOfTheEffectIsNotTheAnswer(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		b.accounts(t)
		d := b.ledger(t, txn.Options{})
		first := callOf("7")
		_, err := b.do(t.Context(), d, first, "7")
		require.NoError(t, err)
		r, err := txn.Do(callOf("7").in(t.Context()), d, func(context.Context, *sql.Tx) (receipt, error) {
			return receipt{}, errors.New("the order is paid")
		})
		require.NoError(t, err)
		require.Equal(t, first.Owner, r.Of)
	})
}

func TestTxn_RefusesWhatIsNoEffectOfTheCall(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		b.accounts(t)
		d := b.ledger(t, txn.Options{})
		ctx := t.Context()
		never := func(context.Context, *sql.Tx) (receipt, error) { return receipt{}, errors.New("it ran") }
		_, err := txn.Do(ctx, d, never)
		require.ErrorIs(t, err, txn.ErrUnguarded)
		require.ErrorIs(t, d.Done(ctx, b.db, receipt{}), txn.ErrUnguarded)
		_, err = txn.Do(callOf("7").in(ctx), d, func(context.Context, *sql.Tx) (string, error) { return "", errors.New("it ran") })
		require.ErrorIs(t, err, txn.ErrResult)
		require.ErrorIs(t, d.Done(callOf("7").in(ctx), b.db, "text"), txn.ErrResult)

		require.ErrorIs(t, d.Done(callOf("7").in(ctx), b.db, receipt{}), txn.ErrOtherLedger, "nobody would ask")
		elsewhere := callOf("7")
		elsewhere.Ledger = "another one"
		_, err = txn.Do(elsewhere.in(ctx), d, never)
		require.ErrorIs(t, err, txn.ErrOtherLedger)

		g := callOf("7").decidedBy(d)
		_, err = b.do(ctx, d, g, "7")
		require.NoError(t, err)
		_, err = b.do(ctx, d, g, "8")
		require.ErrorIs(t, err, txn.ErrSecond)
		require.ErrorContains(t, err, "atmostonce.Step")
		_, err = txn.Do(g.in(ctx), d, never)
		require.ErrorIs(t, err, txn.ErrSecond, "though it failed")
		require.Len(t, g.committed, 1)
		require.Zero(t, b.effects(t, "8"))

		other := callOf("7")
		other.Match = "something else"
		_, err = b.do(ctx, d, other, "7")
		require.ErrorIs(t, err, txn.ErrMismatch)
		require.Empty(t, other.committed)

		off := callOf("9")
		off.Guarded = false
		for range 2 {
			_, err = b.do(ctx, d, off, "9")
			require.NoError(t, err)
		}
		require.NoError(t, d.Done(off.in(ctx), b.db, receipt{}))
		require.Equal(t, 2, b.effects(t, "9"), "without a claim nothing is written down")
		require.Empty(t, off.committed)
	})
}

func TestTxn_AFunctionThatEndsTheTransactionIsCaught(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for name, end := range map[string]func(tx *sql.Tx) error{
		"commits":                      (*sql.Tx).Commit,
		"rolls back":                   (*sql.Tx).Rollback,
		"commits and returns an error": func(tx *sql.Tx) error { return errors.Join(tx.Commit(), boom) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, b *business) {
				b.accounts(t)
				d := b.ledger(t, txn.Options{})
				g := callOf("7")
				_, err := txn.Do(g.in(t.Context()), d, func(ctx context.Context, tx *sql.Tx) (receipt, error) {
					r, err := b.transfer(ctx, tx, "7", "a", "b")
					require.NoError(t, err)
					return r, end(tx)
				})
				require.ErrorIs(t, err, txn.ErrEnded)
				before := b.effects(t, "7")
				_, err = d.Decide(t.Context(), g.run())
				require.ErrorIs(t, err, txn.ErrEnded, "it is not said that it did not take place")
				_, err = b.do(t.Context(), d, callOf("7"), "7")
				require.ErrorIs(t, err, txn.ErrEnded)
				require.Equal(t, before, b.effects(t, "7"))
			})
		})
	}
}

func TestTxn_KeepsWhatIsLargeOrEmpty(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		b.accounts(t)
		d := b.ledger(t, txn.Options{})
		large := strings.Repeat("x\x00\xff", 2<<20/3)
		for id, o := range map[string]effect.Outcome{
			"large": {Data: []byte(large), Context: "bytes \x00 \xff"}, "empty": {Data: []byte{}}, "nil": {},
		} {
			first, second := callOf(id), callOf(id)
			first.Encode = func(context.Context, any) (effect.Outcome, error) { return o, nil }
			second.Decode = func(_ context.Context, got effect.Outcome, _ any) error {
				require.Equal(t, string(o.Data), string(got.Data))
				require.Equal(t, o.Context, got.Context)
				return nil
			}
			for _, g := range []*guarded{first, second} {
				_, err := b.do(t.Context(), d, g, id)
				require.NoError(t, err)
			}
			require.Equal(t, 1, b.effects(t, id))
			got, err := d.Decide(t.Context(), first.run())
			require.NoError(t, err)
			require.Equal(t, string(o.Data), string(got.Data))
		}
	})
}

// One connection for a hundred callers: nothing may ask for a second one while it holds
// the first.
func TestTxn_OneConnectionForManyCallers(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		b.accounts(t)
		b.db.SetMaxOpenConns(1)
		d := b.ledger(t, txn.Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		errs := make([]error, 100)
		together(len(errs), func(i int) {
			id := fmt.Sprint(i / 10) // ten callers for each effect
			g := callOf(id)
			var r receipt
			r, errs[i] = b.do(ctx, d, g, id)
			if errs[i] == nil && r.ID != id {
				errs[i] = fmt.Errorf("got %v", r)
			}
			if errs[i] == nil {
				_, errs[i] = d.Decide(ctx, g.run())
			}
		})
		require.NoError(t, errors.Join(errs...))
		for i := range 10 {
			require.Equal(t, 1, b.effects(t, fmt.Sprint(i)))
		}
		require.Equal(t, 2000, b.sum(t))
	})
}

// Transfers in both directions deadlock, and conflict where transactions are
// serializable.
func TestTxn_ConflictsAreTriedAgain(t *testing.T) {
	t.Parallel()
	for _, level := range []sql.IsolationLevel{sql.LevelDefault, sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable} {
		t.Run(level.String(), func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, b *business) {
				b.accounts(t)
				d := b.ledger(t, txn.Options{Isolation: level})
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				errs := make([]error, 12)
				together(len(errs), func(i int) {
					for j := range 5 {
						id := fmt.Sprint(i/2, "-", j) // two callers for each effect
						from, to := "a", "b"
						if i/2%2 == 1 {
							from, to = to, from
						}
						_, err := txn.Do(callOf(id).in(ctx), d, func(ctx context.Context, tx *sql.Tx) (receipt, error) {
							var read int
							if err := tx.QueryRowContext(ctx, "SELECT sum(cents) FROM accounts").Scan(&read); err != nil {
								return receipt{}, err
							}
							return b.transfer(ctx, tx, id, from, to)
						})
						errs[i] = errors.Join(errs[i], err)
					}
				})
				require.NoError(t, errors.Join(errs...))
				for i := range len(errs) / 2 {
					for j := range 5 {
						require.Equal(t, 1, b.effects(t, fmt.Sprint(i, "-", j)))
					}
				}
				require.Equal(t, 2000, b.sum(t))
			})
		})
	}
}
