package databases_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/txn"
)

var byTransfer = keys.From(func(in transferIn) string { return in.ID })

func guardOver(t *testing.T, s store.Store, d *txn.DB) *atmostonce.Guard {
	t.Helper()
	g, err := atmostonce.New(s, atmostonce.Options{
		Logger: slog.New(slog.DiscardHandler), Defaults: once.Policy{OnDuplicate: once.Wait, InDoubt: d.Decides()},
	})
	require.NoError(t, err)
	return g
}

// The guard has forgotten everything between the calls, and each has a transaction.
func TestTxn_GuardThatForgets(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		b.accounts(t)
		d := b.ledger(t, txn.Options{})
		var want receipt
		for i := range 3 {
			g := guardOver(t, store.NewMemory(store.MemoryOptions{}), d)
			transfer := atmostonce.Func(g, "transfer", once.Policy{Key: byTransfer}, work{}.body(b, d, func(string) {}))
			for range 2 {
				r, err := transfer(t.Context(), transferIn{"7"})
				require.NoError(t, err)
				if i == 0 {
					want = r
				}
				require.Equal(t, want, r)
			}
		}
		require.Equal(t, 1, b.effects(t, "7"))
	})
}

// What the function does after the commit does not undo it; without a commit there is
// no result.
func TestTxn_GuardAnswersWhatWasCommitted(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		b.accounts(t)
		d := b.ledger(t, txn.Options{})
		g := guardOver(t, store.NewMemory(store.MemoryOptions{}), d)
		transfer := work{}.body(b, d, func(string) {})
		late := atmostonce.Func(g, "late", once.Policy{Key: byTransfer}, func(ctx context.Context, in transferIn) (receipt, error) {
			_, err := transfer(ctx, in)
			require.NoError(t, err)
			return receipt{}, errors.New("after the commit")
		})
		for range 2 {
			r, err := late(t.Context(), transferIn{"7"})
			require.NoError(t, err)
			require.Equal(t, "7", r.ID)
		}
		require.Equal(t, 1, b.effects(t, "7"))

		commits := false
		own := atmostonce.Func(g, "own", once.Policy{Key: byTransfer}, func(ctx context.Context, in transferIn) (receipt, error) {
			tx, err := b.db.BeginTx(ctx, nil)
			require.NoError(t, err)
			r, err := b.transfer(ctx, tx, in.ID, "a", "b")
			require.NoError(t, err)
			require.NoError(t, d.Done(ctx, tx, r))
			if commits {
				return receipt{}, tx.Commit()
			}
			return r, tx.Rollback()
		})
		_, err := own(t.Context(), transferIn{"8"})
		require.Error(t, err, "it was rolled back")
		require.Zero(t, b.effects(t, "8"))
		commits = true
		for range 2 {
			r, err := own(t.Context(), transferIn{"8"})
			require.NoError(t, err, "the next one runs at once")
			require.Equal(t, "8", r.ID)
		}
		require.Equal(t, 1, b.effects(t, "8"))
	})
}

func TestTxn_GuardedSteps(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		b.accounts(t)
		d := b.ledger(t, txn.Options{})
		g := guardOver(t, store.NewMemory(store.MemoryOptions{}), d)
		boom, runs := errors.New("boom"), 0
		both := atmostonce.Func(g, "both", once.Policy{Key: byTransfer}, func(ctx context.Context, in transferIn) (receipt, error) {
			runs++
			for _, name := range []string{"there", "back"} {
				if name == "back" && runs == 1 {
					return receipt{}, once.NotDone(boom)
				}
				_, err := atmostonce.Step(ctx, name, func(ctx context.Context) (receipt, error) {
					return txn.Do(ctx, d, func(ctx context.Context, tx *sql.Tx) (receipt, error) {
						return b.transfer(ctx, tx, name, "a", "b")
					})
				}, once.Policy{InDoubt: d.Decides()})
				if err != nil {
					return receipt{}, err
				}
			}
			return receipt{ID: in.ID}, nil
		})
		require.Eventually(t, func() bool { _, err := both(t.Context(), transferIn{"7"}); return err == nil }, time.Minute, time.Millisecond)
		require.Equal(t, 1, b.effects(t, "there"))
		require.Equal(t, 1, b.effects(t, "back"))
	})
}

// The role of a program may do no more than it needs.
func TestTxnOpen_ARoleWithoutRights(t *testing.T) {
	t.Parallel()
	b := newPostgresBusiness(t)
	b.db = b.again(t)
	b.ledger(t, txn.Options{})
	b.exec(t, "GRANT SELECT ON atmostonce_ledger TO pg_monitor")
	b.db.SetMaxOpenConns(1)
	b.exec(t, "SET ROLE pg_monitor")
	_, err := txn.Open(t.Context(), b.db, txn.Options{})
	require.ErrorIs(t, err, txn.ErrUnfit)
	require.ErrorContains(t, err, "permission denied")
	b.exec(t, "RESET ROLE")
	b.exec(t, "GRANT SELECT, INSERT, UPDATE ON atmostonce_effects TO pg_monitor")
	b.exec(t, "SET ROLE pg_monitor")
	_, err = txn.Open(t.Context(), b.db, txn.Options{})
	require.NoError(t, err)
}
