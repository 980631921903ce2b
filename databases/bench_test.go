package databases_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/sqlstore"
)

// guardBid is a bid as the guard makes it.
func guardBid(key string) store.Bid {
	const input = "9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab"
	return store.Bid{
		Key: key, Owner: rand.Text(), Lease: time.Minute, TTL: 30 * 24 * time.Hour, Deadline: 10 * time.Minute, Began: true,
		Info: store.Info{
			Activity: "ChargeCard", Input: input, Match: input, Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
			Holder: store.Holder{
				Namespace: "default", WorkflowID: "order-4711", RunID: "0198d1c4-2c1b-7a53-9d0e-8f2f3f0a6f10", ActivityID: "5",
				Scheduled: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), Attempt: 1, Worker: "4242@payments-7d9f",
				OriginalRunID: "0198d1c4-2c1b-7a53-9d0e-8f2f3f0a6f10", Occurrence: 1,
			},
		},
	}
}

var guardDone = store.Outcome{
	State: store.Succeeded, Data: []byte("\n8\n\x16\n\bencoding\x12\njson/plain\x12\x1e{\"receipt\":\"4711-2026-01-02-a\"}"),
	Context: `{"Namespace":"default","WorkflowID":"order-4711","WorkflowType":"Order","ActivityType":"ChargeCard","TaskQueue":"payments","IsLocal":false}`,
}

// BenchmarkSQL compares the store with bare statements over the same pool, taking turns, so
// that a busy machine slows both down: a first run with an INSERT and an UPDATE of a row as
// long in a table with a primary key, a duplicate with one SELECT. It reports medians, and
// the median of the ratios of each turn.
func BenchmarkSQL(b *testing.B) {
	for _, k := range sqlKinds {
		b.Run(string(k.dialect), func(b *testing.B) {
			dsn := k.dsn(b)
			if k.dialect == sqlstore.MySQL {
				dsn += "?interpolateParams=true"
			}
			db := openDB(b, k.driver, dsn)
			s := k.over(b, db)
			require.NoError(b, s.Migrate(b.Context()))
			bare := newBare(b, k, db)
			ctx, n := b.Context(), 0
			key := func() string { n++; return fmt.Sprintf("v1/default/w:order-4711/ChargeCard/%d", n) }
			first := func() error {
				bid := guardBid(key())
				r, err := s.Acquire(ctx, bid)
				if err != nil {
					return err
				}
				bid.Fence = r.Fence
				_, err = s.Settle(ctx, bid, guardDone)
				return err
			}
			require.NoError(b, first())
			same := fmt.Sprintf("v1/default/w:order-4711/ChargeCard/%d", n)
			duplicate := func() error {
				r, err := s.Acquire(ctx, guardBid(same))
				if err == nil && r.State != store.Succeeded {
					err = fmt.Errorf("the record is %s", r.State)
				}
				return err
			}
			require.NoError(b, bare.first(ctx, same))
			b.Run("first", func(b *testing.B) {
				compare(b, func() error { return bare.first(ctx, key()) }, first)
			})
			b.Run("duplicate", func(b *testing.B) {
				compare(b, func() error { return bare.duplicate(ctx, same) }, duplicate)
			})
		})
	}
}

// BenchmarkSQLBytes reports what a settled record takes of PostgreSQL's disk, with its indexes.
func BenchmarkSQLBytes(b *testing.B) {
	const n = 20_000
	k := sqlKinds[0]
	db := openDB(b, k.driver, k.dsn(b))
	s := k.over(b, db)
	require.NoError(b, s.Migrate(b.Context()))
	for i := range n {
		bid := guardBid(fmt.Sprintf("v1/default/w:order-4711/ChargeCard/%d", i))
		r, err := s.Acquire(b.Context(), bid)
		require.NoError(b, err)
		bid.Fence = r.Fence
		_, err = s.Settle(b.Context(), bid, guardDone)
		require.NoError(b, err)
	}
	_, err := db.ExecContext(b.Context(), "VACUUM FULL atmostonce_records")
	require.NoError(b, err)
	for b.Loop() {
		continue // it was measured above
	}
	var size int64
	require.NoError(b, db.QueryRowContext(b.Context(), "SELECT pg_total_relation_size('atmostonce_records')").Scan(&size))
	b.ReportMetric(float64(size)/n, "B/record")
}

// compare takes turns.
func compare(b *testing.B, bare, ours func() error) {
	b.Helper()
	const each = 20
	var bares, all, ratios []float64
	turn := func(f func() error) float64 {
		begun := time.Now()
		for range each {
			if err := f(); err != nil {
				b.Fatal(err)
			}
		}
		return float64(time.Since(begun).Microseconds()) / each
	}
	for b.Loop() {
		x, y := turn(bare), turn(ours)
		bares, all, ratios = append(bares, x), append(all, y), append(ratios, y/x)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(bares), "bare-µs")
	b.ReportMetric(median(all), "µs")
	b.ReportMetric(median(ratios), "x")
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// bare is a table of one's own, with statements that are as short as can be.
type bare struct {
	db                     *sql.DB
	insert, update, choose string
	held, done             []byte
}

func newBare(b *testing.B, k sqlKind, db *sql.DB) bare {
	b.Helper()
	x := bare{
		db: db, insert: "INSERT INTO bare (k, v) VALUES (?, ?)", update: "UPDATE bare SET v = ? WHERE k = ?", choose: "SELECT v FROM bare WHERE k = ?",
		held: make([]byte, 700), done: make([]byte, 950), // about what records take
	}
	kind := map[sqlstore.Dialect]string{sqlstore.PostgreSQL: "bytea", sqlstore.MySQL: "blob", sqlstore.SQLite: "blob"}[k.dialect]
	if k.dialect == sqlstore.PostgreSQL {
		x.insert, x.update, x.choose = "INSERT INTO bare (k, v) VALUES ($1, $2)", "UPDATE bare SET v = $1 WHERE k = $2", "SELECT v FROM bare WHERE k = $1"
	}
	_, err := db.ExecContext(b.Context(), "CREATE TABLE bare (k varchar(200) PRIMARY KEY, v "+kind+")")
	require.NoError(b, err)
	for _, v := range [][]byte{x.held, x.done} {
		_, err := rand.Read(v) // it is not to be compressed
		require.NoError(b, err)
	}
	return x
}

func (x bare) first(ctx context.Context, key string) error {
	if _, err := x.db.ExecContext(ctx, x.insert, key, x.held); err != nil {
		return err
	}
	_, err := x.db.ExecContext(ctx, x.update, x.done, key)
	return err
}

func (x bare) duplicate(ctx context.Context, key string) error {
	var v []byte
	return x.db.QueryRowContext(ctx, x.choose, key).Scan(&v)
}
