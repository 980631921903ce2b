package databases_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/txn"
)

// BenchmarkTxn compares a transactional effect with the business transaction alone, taking
// turns over one pool: two accounts are updated in PostgreSQL, which syncs at each commit to
// the disk of TMPDIR. It reports medians of the time for one effect, and the medians of the
// ratios of each turn.
func BenchmarkTxn(b *testing.B) {
	const most = 16
	k := sqlKinds[0]
	db := openDB(b, k.driver, k.dsn(b))
	db.SetMaxOpenConns(most)
	db.SetMaxIdleConns(most)
	ctx := b.Context()
	exec := func(query string) {
		_, err := db.ExecContext(ctx, query)
		require.NoError(b, err)
	}
	exec("CREATE TABLE accounts (id int PRIMARY KEY, cents bigint NOT NULL)")
	exec("INSERT INTO accounts SELECT n, 0 FROM generate_series(0, 9999) n")
	d, err := txn.Open(ctx, db, txn.Options{Apply: true})
	require.NoError(b, err)
	g, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), atmostonce.Options{
		Logger: slog.New(slog.DiscardHandler), Defaults: once.Policy{OnDuplicate: once.Wait, InDoubt: d.Decides()},
	})
	require.NoError(b, err)

	move := func(ctx context.Context, tx *sql.Tx, n int) (receipt, error) {
		for i, cents := range []int{-1, 1} { // never the accounts of another one at work
			if _, err := tx.ExecContext(ctx, "UPDATE accounts SET cents = cents + $1 WHERE id = $2", cents, (2*n+i)%10000); err != nil {
				return receipt{}, err
			}
		}
		return receipt{ID: fmt.Sprint(n), Of: "4711-2026-01-02-a"}, nil
	}
	do := func(ctx context.Context, n int) (receipt, error) {
		return txn.Do(ctx, d, func(ctx context.Context, tx *sql.Tx) (receipt, error) { return move(ctx, tx, n) })
	}
	guarded := atmostonce.Func(g, "transfer", once.Policy{Key: byTransfer}, func(ctx context.Context, in transferIn) (receipt, error) {
		var n int
		if _, err := fmt.Sscan(in.ID, &n); err != nil {
			return receipt{}, err
		}
		return do(ctx, n)
	})
	kinds := []func(n int) error{
		func(n int) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if _, err := move(ctx, tx, n); err != nil {
				return errors.Join(err, tx.Rollback())
			}
			return tx.Commit()
		},
		func(n int) error { _, err := do(callOf(fmt.Sprint(n)).in(ctx), n); return err },
		func(n int) error { _, err := guarded(ctx, transferIn{fmt.Sprint(n)}); return err },
	}
	made := 0
	for _, atOnce := range []int{1, most} {
		b.Run(fmt.Sprintf("%d at once", atOnce), func(b *testing.B) {
			const each = 20
			turn := func(f func(n int) error) float64 {
				from := made
				made += each * atOnce
				errs := make([]error, atOnce)
				begun := time.Now()
				together(atOnce, func(i int) {
					for j := range each {
						errs[i] = errors.Join(errs[i], f(from+j*atOnce+i))
					}
				})
				took := time.Since(begun)
				require.NoError(b, errors.Join(errs...))
				return float64(took.Microseconds()) / float64(each*atOnce)
			}
			times, ratios, turns := make([][]float64, len(kinds)), make([][]float64, len(kinds)), 0
			for b.Loop() {
				took := make([]float64, len(kinds))
				for i := range kinds {
					i = (i + turns) % len(kinds)
					took[i] = turn(kinds[i])
				}
				turns++
				for i := range kinds {
					times[i], ratios[i] = append(times[i], took[i]), append(ratios[i], took[i]/took[0])
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(times[0]), "bare-µs")
			for i, name := range []string{"Do", "Func"} {
				b.ReportMetric(median(times[i+1]), name+"-µs")
				b.ReportMetric(median(ratios[i+1]), name+"-x")
			}
		})
	}
}
