package databases_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/sqlstore"
)

// countingConnector counts the statements of a driver's connections.
type countingConnector struct {
	driver.Connector
	statements *atomic.Int64
	before     func(query string) // each statement; nil: nothing
}

func (c countingConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	return countingConn{conn, c.statements, c.before}, err
}

// countingConn counts; a transaction or a prepared statement is more than one.
type countingConn struct {
	driver.Conn
	statements *atomic.Int64
	before     func(query string)
}

func (c countingConn) count(query string) {
	if !strings.Contains(query, "expires <=") { // a sweep comes by chance
		c.statements.Add(1)
	}
	if c.before != nil {
		c.before(query)
	}
}

func (c countingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.count(query)
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c countingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.count(query)
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c countingConn) Prepare(query string) (driver.Stmt, error) {
	c.statements.Add(100)
	return c.Conn.Prepare(query)
}

func (c countingConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	c.statements.Add(100)
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
}

// counting returns a pool whose statements are counted, and before each of which before is
// called.
func (k sqlKind) counting(t *testing.T, dsn string, before func(query string)) (*sql.DB, *atomic.Int64) {
	t.Helper()
	if k.dialect == sqlstore.MySQL {
		dsn += "?interpolateParams=true"
	}
	plain := openDB(t, k.driver, dsn)
	d := plain.Driver()
	var connector driver.Connector = dsnConnector{d, dsn}
	if with, ok := d.(driver.DriverContext); ok {
		var err error
		connector, err = with.OpenConnector(dsn)
		require.NoError(t, err)
	}
	n := new(atomic.Int64)
	db := sql.OpenDB(countingConnector{connector, n, before})
	t.Cleanup(func() { _ = db.Close() })
	return db, n
}

type dsnConnector struct {
	driver driver.Driver
	dsn    string
}

func (c dsnConnector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }
func (c dsnConnector) Driver() driver.Driver                        { return c.driver }

// The documentation's table of statements.
func TestSQL_TakesSoManyStatements(t *testing.T) {
	t.Parallel()
	want := map[sqlstore.Dialect]map[string]int64{
		sqlstore.PostgreSQL: {
			"claim": 1, "renewal": 1, "settle": 1, "duplicate": 1, "release": 2, "claim of a tombstone": 2,
			"settle by another process": 2, "takeover": 2, "resolve": 2, "look": 1, "listing": 1,
		},
		sqlstore.MySQL: {
			"claim": 2, "renewal": 2, "settle": 2, "duplicate": 1, "release": 2, "claim of a tombstone": 2,
			"settle by another process": 2, "takeover": 2, "resolve": 2, "look": 1, "listing": 1,
		},
	}
	want[sqlstore.SQLite] = want[sqlstore.MySQL]
	eachSQL(t, func(t *testing.T, k sqlKind) {
		ctx := t.Context()
		db, n := k.counting(t, k.dsn(t), nil)
		s, other := k.over(t, db), k.over(t, db)
		require.NoError(t, s.Migrate(ctx))
		got := map[string]int64{}
		count := func(name string, call func() (store.Record, error)) store.Record {
			n.Store(0)
			r := must(t)(call())
			got[name] = n.Load()
			return r
		}
		acquire := func(b store.Bid) func() (store.Record, error) {
			return func() (store.Record, error) { return s.Acquire(ctx, b) }
		}
		settle := func(s store.Store, b store.Bid, o store.Outcome) func() (store.Record, error) {
			return func() (store.Record, error) { return s.Settle(ctx, b, o) }
		}
		a := sqlBid("1", "a")
		a.Fence = count("claim", acquire(a)).Fence
		for range 2 {
			count("renewal", func() (store.Record, error) { return s.Renew(ctx, a) })
		}
		count("settle", settle(s, a, success("1")))
		count("duplicate", acquire(sqlBid("1", "b")))
		b := grant(t, s, "2")
		count("release", func() (store.Record, error) { return s.Release(ctx, b) })
		c := sqlBid("2", "c")
		c.Fence = count("claim of a tombstone", acquire(c)).Fence
		r := count("settle by another process", settle(other, c, store.Outcome{State: store.InDoubt}))
		r = count("takeover", func() (store.Record, error) { return s.Takeover(ctx, sqlBid("2", "d"), r) })
		count("resolve", func() (store.Record, error) {
			return s.Resolve(ctx, "2", r, store.Resolution{ID: "r", To: store.Failed, By: store.ByOperator, TTL: a.TTL, Force: true})
		})
		count("look", func() (store.Record, error) { return s.Load(ctx, "2") })
		n.Store(0)
		for _, err := range s.List(ctx, store.Query{}) {
			require.NoError(t, err)
		}
		got["listing"] = n.Load()
		require.Equal(t, want[k.dialect], got)
	})
}
