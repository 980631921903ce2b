package cli

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/internal/dbserver"
	"github.com/atmostonce/atmostonce/store/sqlstore"
)

// newDatabaseServer returns a server of the test's own.
func newDatabaseServer(t *testing.T, start func(context.Context, ...string) (*dbserver.Server, error)) *dbserver.Server {
	t.Helper()
	s, err := start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// Every kind of database, as a process of its own: what is in doubt there is listed,
// shown and decided.
func TestSQL_IsOpenedByURL(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(t *testing.T) (driver, dsn, address string, d sqlstore.Dialect){
		"SQLite": func(t *testing.T) (string, string, string, sqlstore.Dialect) {
			t.Helper()
			file := filepath.Join(t.TempDir(), "a b?c%20.db")
			escaped := strings.NewReplacer("%", "%25", " ", "%20", "?", "%3F").Replace(file)
			return "sqlite", "file:" + escaped + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)", "sqlite:" + escaped, sqlstore.SQLite
		},
		"PostgreSQL": func(t *testing.T) (string, string, string, sqlstore.Dialect) {
			t.Helper()
			s := newDatabaseServer(t, dbserver.Postgres)
			return "pgx", s.DSN("postgres"), "postgres://postgres:s3cret@" + s.Addr() + "/postgres?sslmode=disable", sqlstore.PostgreSQL
		},
		"MariaDB": func(t *testing.T) (string, string, string, sqlstore.Dialect) {
			t.Helper()
			s := newDatabaseServer(t, dbserver.MariaDB)
			return "mysql", s.DSN("mysql"), "mysql://root@" + s.Addr() + "/mysql", sqlstore.MySQL
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			driver, dsn, address, dialect := begin(t)
			db, err := sql.Open(driver, dsn)
			require.NoError(t, err)
			defer db.Close()
			s, err := sqlstore.New(db, dialect, sqlstore.Options{Prefix: "ours_"})
			require.NoError(t, err)
			require.NoError(t, s.Migrate(t.Context()))
			doubt(t, s, bidOf("1"))
			doubt(t, s, bidOf("2"))
			query := "?"
			if strings.Contains(address, "?") {
				query = "&"
			}
			run := func(code int, prefix string, args ...string) string {
				t.Helper()
				r := tooled(t, []string{"ATMOSTONCE_STORE=" + address + query + "prefix=" + prefix}, args...)
				require.Equal(t, code, r.code, "%v: %s%s", args, r.out, r.err)
				require.NotContains(t, r.out+r.err, "s3cret")
				return r.out + r.err
			}
			require.Contains(t, run(0, "ours_", "list"), "2 in doubt")
			require.Contains(t, run(0, "ours_", "show", digestOf("1")), "order-1")
			require.Contains(t, run(0, "ours_", "resolve", digestOf("1"), "--failed", "x", "--reason", "INC-1", "--yes"), "in doubt → failed")
			require.Contains(t, run(0, "ours_", "list"), "1 in doubt")
			require.Regexp(t, `(ok|unknown) +store `, run(0, "ours_", "doctor"))
			require.Contains(t, run(1, "other_", "doctor"), "other_", "it says which table is not there")
			require.Contains(t, run(1, "other_", "list"), "other_")
		})
	}
}

// A file that is not there is not made: it would say that nothing is in doubt.
func TestSQL_MakesNoFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "none.db")
	r := tooled(t, nil, "list", "--store", "sqlite:"+file)
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, "no such file")
	require.NoFileExists(t, file)
	require.Contains(t, tooled(t, nil, "list", "--store", "sqlite:"+t.TempDir()).err, "it is no file")
}
