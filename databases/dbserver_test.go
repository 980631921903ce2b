package databases_test

import (
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/internal/dbserver"
)

// What was acknowledged before the kill is there after it.
func TestServer_KeepsWhatItAcknowledgedOverAKill(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		driver, admin string
		start         starter
	}{{"pgx", "postgres", dbserver.Postgres}, {"mysql", "", dbserver.MariaDB}} {
		t.Run(c.driver, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, c.start)
			db := openDB(t, c.driver, newDatabase(t, c.driver, s, c.admin))
			_, err := db.ExecContext(t.Context(), "CREATE TABLE told (n INT PRIMARY KEY)")
			require.NoError(t, err)
			for n := range 5 {
				_, err := db.ExecContext(t.Context(), "INSERT INTO told SELECT MAX(n) FROM (SELECT 0 AS n UNION SELECT n + 1 FROM told) AS all_of_it")
				require.NoError(t, err, s.Log())
				s.Kill()
				require.Error(t, db.PingContext(t.Context()))
				require.NoError(t, s.Restart(t.Context()))
				var count int
				require.NoError(t, ask(t, db, "SELECT COUNT(*) FROM told").Scan(&count))
				require.Equal(t, n+1, count)
			}
		})
	}
}

func TestServer_PromotesAReplica(t *testing.T) {
	t.Parallel()
	primary := startServer(t, dbserver.Postgres)
	replica, err := primary.Replica(t.Context(), "second")
	require.NoError(t, err)
	closeAfter(t, replica)
	db := openDB(t, "pgx", replica.DSN("postgres"))
	var standby bool
	require.NoError(t, ask(t, db, "SELECT pg_is_in_recovery()").Scan(&standby))
	require.True(t, standby)
	primary.Kill()
	require.NoError(t, replica.Promote(t.Context()))
	require.NoError(t, ask(t, db, "SELECT pg_is_in_recovery()").Scan(&standby))
	require.False(t, standby)
}

func TestServer_IsReachedThroughPgBouncer(t *testing.T) {
	t.Parallel()
	s, dsn := newPostgres(t)
	pooler, err := dbserver.PgBouncer(t.Context(), s)
	require.NoError(t, err)
	closeAfter(t, pooler)
	var name string
	require.NoError(t, ask(t, openDB(t, "pgx", dsn), "SELECT current_database()").Scan(&name))
	require.NoError(t, ask(t, openDB(t, "pgx", pooler.DSN(name)+"&default_query_exec_mode=simple_protocol"), "SELECT current_database()").Scan(&name))
}

// ask runs a query of one row; a connection that a dead server left is tried again.
func ask(t *testing.T, db *sql.DB, query string) *sql.Row {
	t.Helper()
	require.Eventually(t, func() bool { return db.PingContext(t.Context()) == nil }, 10*time.Second, 10*time.Millisecond)
	return db.QueryRowContext(t.Context(), query)
}
