package databases_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/internal/dbserver"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/sqlstore"
	"github.com/atmostonce/atmostonce/store/storetest"
)

// sqlKinds are the databases, with a new and empty one for each call.
var sqlKinds = []sqlKind{
	{sqlstore.PostgreSQL, "pgx", func(tb testing.TB) string {
		tb.Helper()
		_, dsn := newPostgres(tb)
		return dsn
	}},
	{sqlstore.MySQL, "mysql", func(tb testing.TB) string {
		tb.Helper()
		_, dsn := newMariaDB(tb)
		return dsn
	}},
	{sqlstore.SQLite, "sqlite", newSQLite},
}

type sqlKind struct {
	dialect sqlstore.Dialect
	driver  string
	dsn     func(tb testing.TB) string
}

// newSQLite returns the DSN of a new file, as durable as the documentation asks for.
func newSQLite(tb testing.TB) string {
	tb.Helper()
	return "file:" + filepath.Join(tb.TempDir(), "db") + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
}

// eachSQL runs f with each kind of database.
func eachSQL(t *testing.T, f func(t *testing.T, k sqlKind)) {
	t.Helper()
	for _, k := range sqlKinds {
		t.Run(string(k.dialect), func(t *testing.T) {
			t.Parallel()
			f(t, k)
		})
	}
}

// open returns a store in the database, with the table there.
func (k sqlKind) open(tb testing.TB, dsn string) *sqlstore.Store {
	tb.Helper()
	s := k.over(tb, openDB(tb, k.driver, dsn))
	require.NoError(tb, s.Migrate(tb.Context()))
	return s
}

func (k sqlKind) over(tb testing.TB, db *sql.DB) *sqlstore.Store {
	tb.Helper()
	s, err := sqlstore.New(db, k.dialect, sqlstore.Options{})
	require.NoError(tb, err)
	return s
}

// harness gives each case a table of its own in one database, of which each handle has a
// pool of its own, by one DSN after the other.
func (k sqlKind) harness(t *testing.T, dsns ...string) storetest.Harness {
	t.Helper()
	opened := 0
	o := sqlstore.Options{Prefix: fmt.Sprintf("case%d_", databases.Add(1))}
	return storetest.Harness{Open: func(tb testing.TB) store.Store {
		tb.Helper()
		db := openDB(tb, k.driver, dsns[opened%len(dsns)])
		db.SetMaxOpenConns(4)
		s, err := sqlstore.New(db, k.dialect, o)
		require.NoError(tb, err)
		if opened++; opened == 1 {
			require.NoError(tb, s.Migrate(tb.Context()))
		}
		return s
	}}
}

// serverOf returns the server that tests share.
func serverOf(tb testing.TB, k sqlKind) *dbserver.Server {
	tb.Helper()
	shared := sharedPostgres
	if k.dialect == sqlstore.MySQL {
		shared = sharedMariaDB
	}
	s, err := shared()
	require.NoError(tb, err)
	return s
}

func TestSQL_Store(t *testing.T) {
	t.Parallel()
	eachSQL(t, func(t *testing.T, k sqlKind) {
		dsn := k.dsn(t)
		storetest.Run(t, func(t *testing.T) storetest.Harness { return k.harness(t, dsn) })
	})
}

func TestSQL_StoreThroughPgBouncer(t *testing.T) {
	t.Parallel()
	k := sqlKinds[0]
	dsn := k.dsn(t)
	pooled := through(t, dsn)
	storetest.Run(t, func(t *testing.T) storetest.Harness { return k.harness(t, pooled) })
}

// through returns the DSN by which a database of the shared PostgreSQL is reached through
// PgBouncer.
func through(t *testing.T, dsn string) string {
	t.Helper()
	s := serverOf(t, sqlKinds[0])
	pooler, err := dbserver.PgBouncer(t.Context(), s)
	require.NoError(t, err)
	closeAfter(t, pooler)
	return strings.Replace(dsn, s.Addr(), pooler.Addr(), 1) + "&default_query_exec_mode=simple_protocol"
}
