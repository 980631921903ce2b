package databases_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/internal/dbserver"
	"github.com/atmostonce/atmostonce/internal/effect"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/txn"
)

// business is a database of a program: accounts, and a ledger of effects.
type business struct {
	db      *sql.DB
	dialect txn.Dialect
	driver  string
	dsn     string
	again   func(t *testing.T) *sql.DB // another pool of connections to it
}

// onEach runs f over a database of each kind, which is the test's own and has neither
// tables nor a ledger.
func onEach(t *testing.T, f func(t *testing.T, b *business)) {
	t.Helper()
	for name, open := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t)
			b.db = b.again(t)
			f(t, b)
		})
	}
}

var kinds = map[string]func(t *testing.T) *business{
	"SQLite": newSQLiteBusiness, "PostgreSQL": newPostgresBusiness, "PgBouncer": newPooledBusiness, "MariaDB": newMariaDBBusiness,
}

func newSQLiteBusiness(t *testing.T) *business {
	t.Helper()
	return sqliteAt(filepath.Join(t.TempDir(), "business.db"))
}

func sqliteAt(path string) *business {
	return serverBusiness(txn.SQLite, "file:"+path+"?_pragma=busy_timeout(100)&_pragma=journal_mode(wal)")
}

// pooled are the settings of pgx for a pooler that keeps no sessions.
const pooled = "&default_query_exec_mode=simple_protocol"

func newPostgresBusiness(t *testing.T) *business {
	t.Helper()
	_, dsn := newPostgres(t)
	hasty(t, dsn)
	return serverBusiness(txn.PostgreSQL, dsn)
}

// hasty has the database look for deadlocks soon, of which some tests make many.
func hasty(t *testing.T, dsn string) {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	_, err = openDB(t, "pgx", dsn).ExecContext(t.Context(), "ALTER DATABASE "+u.Path[1:]+" SET deadlock_timeout = '20ms'")
	require.NoError(t, err)
}

// sharedPgBouncer is before the PostgreSQL that tests share.
var sharedPgBouncer = sync.OnceValues(share(func(ctx context.Context, settings ...string) (*dbserver.Server, error) {
	s, err := sharedPostgres()
	if err != nil {
		return nil, err
	}
	return dbserver.PgBouncer(ctx, s, settings...)
}))

// newPooledBusiness is a PostgreSQL behind PgBouncer, in transaction mode.
func newPooledBusiness(t *testing.T) *business {
	t.Helper()
	_, dsn := newPostgres(t)
	hasty(t, dsn)
	bouncer, err := sharedPgBouncer()
	require.NoError(t, err)
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	u.Host = bouncer.Addr()
	return serverBusiness(txn.PostgreSQL, u.String()+pooled)
}

func newMariaDBBusiness(t *testing.T) *business {
	t.Helper()
	_, dsn := newMariaDB(t)
	return serverBusiness(txn.MySQL, dsn)
}

func serverBusiness(d txn.Dialect, dsn string) *business {
	driver := map[txn.Dialect]string{txn.PostgreSQL: "pgx", txn.MySQL: "mysql", txn.SQLite: "sqlite"}[d]
	return &business{dialect: d, driver: driver, dsn: dsn, again: func(t *testing.T) *sql.DB {
		t.Helper()
		db := openDB(t, driver, dsn)
		db.SetMaxOpenConns(12)
		return db
	}}
}

// ledger opens the ledger of the business, and makes its tables.
func (b *business) ledger(t *testing.T, o txn.Options) *txn.DB {
	t.Helper()
	o.Apply = true
	return b.ledgerOf(t, b.db, o)
}

func (b *business) ledgerOf(t *testing.T, db *sql.DB, o txn.Options) *txn.DB {
	t.Helper()
	d, err := txn.Open(t.Context(), db, o)
	require.NoError(t, err)
	return d
}

// exec changes the database beside the ledger; its parameters are ?.
func (b *business) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	_, err := b.db.ExecContext(t.Context(), b.numbered(query), args...)
	require.NoError(t, err)
}

func (b *business) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, b.db.QueryRowContext(t.Context(), b.numbered(query), args...).Scan(&n))
	return n
}

func (b *business) numbered(query string) string { return numbered(b.dialect, query) }

func numbered(d txn.Dialect, query string) string {
	if d != txn.PostgreSQL {
		return query
	}
	for i := 1; strings.Contains(query, "?"); i++ {
		query = strings.Replace(query, "?", fmt.Sprintf("$%d", i), 1)
	}
	return query
}

// accounts makes the tables of the business: a and b have 1000 each, and each transfer
// has a row.
func (b *business) accounts(t *testing.T) {
	t.Helper()
	engine := ""
	if b.dialect == txn.MySQL {
		engine = " ENGINE=InnoDB"
	}
	b.exec(t, "CREATE TABLE accounts (name varchar(10) NOT NULL PRIMARY KEY, cents bigint NOT NULL)"+engine)
	b.exec(t, "CREATE TABLE transfers (id varchar(80) NOT NULL, cents bigint NOT NULL)"+engine)
	b.exec(t, "INSERT INTO accounts (name, cents) VALUES ('a', 1000), ('b', 1000)")
}

// effects is how often the transfer took place.
func (b *business) effects(t *testing.T, id string) int {
	t.Helper()
	return b.count(t, "SELECT count(*) FROM transfers WHERE id = ?", id)
}

func (b *business) sum(t *testing.T) int {
	t.Helper()
	return b.count(t, "SELECT sum(cents) FROM accounts")
}

type receipt struct{ ID, Of string }

// transfer moves a cent from one account to the other one, and has a row of it.
func (b *business) transfer(ctx context.Context, x txn.Executor, id, from, to string) (receipt, error) {
	for _, s := range []struct {
		query string
		args  []any
	}{
		{"UPDATE accounts SET cents = cents - 1 WHERE name = ?", []any{from}},
		{"UPDATE accounts SET cents = cents + 1 WHERE name = ?", []any{to}},
		{"INSERT INTO transfers (id, cents) VALUES (?, 1)", []any{id}},
	} {
		if _, err := x.ExecContext(ctx, b.numbered(s.query), s.args...); err != nil {
			return receipt{}, fmt.Errorf("transfer: %w", err)
		}
	}
	return receipt{ID: id}, nil
}

// guarded stands in for the guard of a call: it answers as the guard does once the body
// has ended.
type guarded struct {
	effect.Call
	committed []effect.Outcome
	wrote     bool
	find      func(context.Context, effect.Run) (effect.Outcome, error)
}

var owners atomic.Int64

// keyOf is a key as the guard's are.
func keyOf(id string) string { return fmt.Sprintf("%064x", id) }

// callOf returns a call of the effect with that ID, under a claim of its own. Its policy
// goes by no ledger; see decidedBy.
func callOf(id string) *guarded {
	g := &guarded{}
	g.Call = effect.Call{
		Key: keyOf(id), Owner: fmt.Sprintf("owner%d", owners.Add(1)), Match: "match", Guarded: true, Out: reflect.TypeFor[receipt](),
		Encode: func(_ context.Context, result any) (effect.Outcome, error) {
			g.wrote = true
			data, err := json.Marshal(result)
			return effect.Outcome{Data: data, Context: "json"}, err
		},
		Decode: func(_ context.Context, o effect.Outcome, ptr any) error {
			if o.Context != "json" {
				return fmt.Errorf("context %q", o.Context)
			}
			return json.Unmarshal(o.Data, ptr)
		},
		Committed: func(o effect.Outcome) error {
			g.committed = append(g.committed, o)
			return nil
		},
	}
	return g
}

// decidedBy has the call's policy go by d.
func (g *guarded) decidedBy(d *txn.DB) *guarded {
	g.Ledger, g.find = d.ID(), d.Decide
	return g
}

func (g *guarded) in(ctx context.Context) context.Context { return effect.NewContext(ctx, &g.Call) }

// run is the run of the call, as the guard's record has it.
func (g *guarded) run() effect.Run {
	return effect.Run{Key: g.Key, Generation: g.Generation, Owner: g.Owner, Match: g.Match}
}

var errUncommitted = errors.New("the effect was not committed")

// body runs f as the body of the call, and answers as the guard.
func (g *guarded) body(ctx context.Context, f func(ctx context.Context) (receipt, error)) (r receipt, err error) {
	r, err = f(g.in(ctx))
	if len(g.committed) == 0 && g.wrote && g.find != nil {
		o, found := g.find(context.WithoutCancel(ctx), g.run())
		switch {
		case found == nil:
			g.committed = append(g.committed, o)
		case errors.Is(found, effect.ErrNotDone):
			return receipt{}, errors.Join(errUncommitted, err)
		default:
			return receipt{}, once.MaybeDone(errors.Join(found, err))
		}
	}
	if len(g.committed) > 0 {
		err = g.Decode(ctx, g.committed[0], &r)
	}
	return r, err
}

// do makes the transfer with that ID under the call.
func (b *business) do(ctx context.Context, d *txn.DB, g *guarded, id string) (receipt, error) {
	return txn.Do(g.in(ctx), d, func(ctx context.Context, tx *sql.Tx) (receipt, error) {
		r, err := b.transfer(ctx, tx, id, "a", "b")
		r.Of = g.Owner
		return r, err
	})
}

// together runs f n times at once.
func together(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
}
