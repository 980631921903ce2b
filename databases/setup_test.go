package databases_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/internal/dbserver"
)

// The servers that tests share: each has a database of its own there. A test that kills
// or changes a server starts its own.
var (
	shared = struct {
		sync.Mutex
		servers []*dbserver.Server
	}{}
	sharedPostgres = sync.OnceValues(share(dbserver.Postgres))
	sharedMariaDB  = sync.OnceValues(share(dbserver.MariaDB))
)

// starter starts a server.
type starter = func(ctx context.Context, settings ...string) (*dbserver.Server, error)

func share(start starter) func() (*dbserver.Server, error) {
	return func() (*dbserver.Server, error) {
		s, err := start(context.Background())
		if err == nil {
			shared.Lock()
			defer shared.Unlock()
			shared.servers = append(shared.servers, s)
		}
		return s, err
	}
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, s := range shared.servers {
		if err := s.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

var databases atomic.Int64

// newPostgres returns the server that tests share, and a new database there.
func newPostgres(tb testing.TB) (s *dbserver.Server, dsn string) {
	tb.Helper()
	s, err := sharedPostgres()
	require.NoError(tb, err)
	return s, newDatabase(tb, "pgx", s, "postgres")
}

// newMariaDB returns the server that tests share, and a new database there.
func newMariaDB(tb testing.TB) (s *dbserver.Server, dsn string) {
	tb.Helper()
	s, err := sharedMariaDB()
	require.NoError(tb, err)
	return s, newDatabase(tb, "mysql", s, "")
}

// startServer starts a server of the test's own.
func startServer(tb testing.TB, start starter, settings ...string) *dbserver.Server {
	tb.Helper()
	s, err := start(tb.Context(), settings...)
	require.NoError(tb, err)
	closeAfter(tb, s)
	return s
}

func closeAfter(tb testing.TB, s *dbserver.Server) {
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
}

// newDatabase makes a database on the server and returns its DSN.
func newDatabase(tb testing.TB, driver string, s *dbserver.Server, admin string) string {
	tb.Helper()
	name := fmt.Sprintf("test%d", databases.Add(1))
	db := openDB(tb, driver, s.DSN(admin))
	_, err := db.ExecContext(tb.Context(), "CREATE DATABASE "+name)
	require.NoError(tb, errors.Join(err, db.Close()))
	return s.DSN(name)
}

// openDB returns a pool that the test closes.
func openDB(tb testing.TB, driver, dsn string) *sql.DB {
	tb.Helper()
	db, err := sql.Open(driver, dsn)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = db.Close() })
	return db
}
