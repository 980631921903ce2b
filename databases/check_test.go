package databases_test

import (
	"database/sql"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/internal/dbserver"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/sqlstore"
)

func TestSQL_ChecksTheTable(t *testing.T) {
	t.Parallel()
	eachSQL(t, func(t *testing.T, k sqlKind) {
		db := openDB(t, k.driver, k.dsn(t))
		s := k.over(t, db)

		err := s.Check(t.Context())
		require.ErrorIs(t, err, store.ErrUnsafe)
		require.ErrorContains(t, err, "Migrate")
		require.ErrorContains(t, err, "atmostonce_records")
		_, err = s.Acquire(t.Context(), sqlBid("k", "a"))
		require.ErrorIs(t, err, store.ErrUnsafe, "a call makes no table")

		// A runner of one's own.
		for _, m := range s.Migrations() {
			for _, statement := range m.Statements {
				_, err := db.ExecContext(t.Context(), statement)
				require.NoError(t, err)
			}
		}
		requireUsable(t, s.Check(t.Context()))
		require.NoError(t, s.Migrate(t.Context()), "there is nothing to do")
		_, err = s.Acquire(t.Context(), sqlBid("k", "a"))
		require.NoError(t, err)

		_, err = db.ExecContext(t.Context(), "UPDATE atmostonce_records SET version = 2 WHERE state = 'schema'")
		require.NoError(t, err)
		require.ErrorIs(t, s.Check(t.Context()), store.ErrVersion)
		require.ErrorIs(t, s.Migrate(t.Context()), store.ErrVersion)
		_, err = db.ExecContext(t.Context(), "DELETE FROM atmostonce_records WHERE state = 'schema'")
		require.NoError(t, err)
		err = s.Check(t.Context())
		require.ErrorIs(t, err, store.ErrUnsafe, "an older table")
		require.ErrorContains(t, err, "version 0")
	})
}

// requireUsable asserts that a check found nothing worse than what these servers lack.
func requireUsable(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		require.ErrorIs(t, err, store.ErrUnverified)
		require.ErrorContains(t, err, "log_bin")
	}
}

// Two processes that start at once may both migrate.
func TestSQL_MigratesOnceOfMany(t *testing.T) {
	t.Parallel()
	eachSQL(t, func(t *testing.T, k sqlKind) {
		dsn := k.dsn(t)
		results := make(chan error)
		for range 8 {
			s := k.over(t, openDB(t, k.driver, dsn))
			go func() { results <- s.Migrate(t.Context()) }()
		}
		for range 8 {
			require.NoError(t, <-results)
		}
		requireUsable(t, k.over(t, openDB(t, k.driver, dsn)).Check(t.Context()))
	})
}

// Each right that is missing is found by Check, and by the call that needs it, and no
// right to define anything is needed.
func TestSQL_ChecksRights(t *testing.T) {
	t.Parallel()
	for _, k := range sqlKinds[:2] {
		t.Run(string(k.dialect), func(t *testing.T) {
			t.Parallel()
			dsn := k.dsn(t)
			admin := openDB(t, k.driver, dsn)
			k.open(t, dsn)
			role := fmt.Sprintf("role%d", databases.Add(1))
			define, grantee, drop := "CREATE ROLE %s LOGIN", role, "DROP OWNED BY %[1]s; DROP ROLE %[1]s"
			if k.dialect == sqlstore.MySQL {
				define, grantee, drop = "CREATE USER %s@'127.0.0.1'", role+"@'127.0.0.1'", "DROP USER %s@'127.0.0.1'"
			}
			exec(t, admin, fmt.Sprintf(define, role))
			t.Cleanup(func() { _, _ = admin.Exec(fmt.Sprintf(drop, role)) })
			as := strings.NewReplacer("postgres@", role+"@", "root@", role+"@").Replace(dsn)
			for _, rights := range []string{"", "SELECT", "SELECT, INSERT", "SELECT, INSERT, UPDATE"} {
				if rights != "" {
					exec(t, admin, "GRANT "+rights+" ON atmostonce_records TO "+grantee)
				}
				s := k.over(t, openDB(t, k.driver, as))
				err := s.Check(t.Context())
				if rights == "" && k.dialect == sqlstore.MySQL {
					require.Error(t, err, "it may not even connect")
					continue
				}
				require.ErrorIs(t, err, store.ErrDenied, rights)
				require.ErrorContains(t, err, "needs SELECT, INSERT, UPDATE and DELETE on")
				if !strings.Contains(rights, "INSERT") {
					_, err = s.Acquire(t.Context(), sqlBid("k", "a"))
					require.ErrorIs(t, err, store.ErrDenied)
				}
			}
			exec(t, admin, "GRANT SELECT, INSERT, UPDATE, DELETE ON atmostonce_records TO "+grantee)
			s := k.over(t, openDB(t, k.driver, as))
			requireUsable(t, s.Check(t.Context()))
			require.NoError(t, s.Migrate(t.Context()), "there is nothing to define")
			b := grant(t, s, "k")
			_, err := s.Settle(t.Context(), b, success("1"))
			require.NoError(t, err)
		})
	}
}

// What loses records is refused, and each refusal names the setting.
func TestSQL_ChecksTheServersSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		k       sqlKind
		setting string
		want    error
		says    string
	}{
		{sqlKinds[0], "fsync=off", store.ErrUnsafe, "fsync is off"},
		{sqlKinds[0], "synchronous_commit=off", store.ErrUnsafe, "synchronous_commit is off"},
		{sqlKinds[0], "full_page_writes=off", store.ErrUnverified, "full_page_writes is off"},
		{sqlKinds[0], "default_transaction_read_only=on", store.ErrUnsafe, "default_transaction_read_only"},
		{sqlKinds[1], "innodb-flush-log-at-trx-commit=2", store.ErrUnsafe, "innodb_flush_log_at_trx_commit is 2"},
		{sqlKinds[1], "read-only=1", store.ErrUnsafe, "read-only"},
		{sqlKinds[1], "innodb-doublewrite=0", store.ErrUnverified, "innodb_doublewrite is off"},
		{sqlKinds[1], "skip-log-bin", store.ErrUnverified, "log_bin is off"},
	} {
		t.Run(c.setting, func(t *testing.T) {
			t.Parallel()
			start, database := dbserver.Postgres, "postgres"
			if c.k.dialect == sqlstore.MySQL {
				start, database = dbserver.MariaDB, "mysql"
			}
			server := startServer(t, start, c.setting)
			db := openDB(t, c.k.driver, server.DSN(database))
			s := c.k.over(t, db)
			if !strings.Contains(c.setting, "read") {
				require.NoError(t, s.Migrate(t.Context()))
			}
			err := s.Check(t.Context())
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestSQL_ChecksSQLite(t *testing.T) {
	t.Parallel()
	k := sqlKinds[2]
	for _, c := range []struct {
		change, to string
		says       string
	}{
		{"synchronous(FULL)", "synchronous(NORMAL)", "PRAGMA synchronous is 1"},
		{"journal_mode(WAL)", "journal_mode(MEMORY)", "PRAGMA journal_mode is memory"},
		{"busy_timeout(10000)", "query_only(1)", "query_only"},
	} {
		t.Run(c.to, func(t *testing.T) {
			t.Parallel()
			dsn := newSQLite(t)
			made := openDB(t, k.driver, dsn)
			require.NoError(t, k.over(t, made).Migrate(t.Context()))
			require.NoError(t, made.Close(), "the last connection leaves the journal's mode")
			err := k.over(t, openDB(t, k.driver, strings.Replace(dsn, c.change, c.to, 1))).Check(t.Context())
			require.ErrorIs(t, err, store.ErrUnsafe)
			require.ErrorContains(t, err, c.says)
		})
	}
	t.Run("read-only file", func(t *testing.T) {
		t.Parallel()
		dsn := newSQLite(t)
		require.NoError(t, openDB(t, k.driver, dsn).Close())
		s := k.open(t, dsn)
		requireUsable(t, s.Check(t.Context()))
		reader := k.over(t, openDB(t, k.driver, dsn+"&mode=ro"))
		_, err := reader.Acquire(t.Context(), sqlBid("k", "a"))
		require.ErrorIs(t, err, store.ErrUnsafe)
	})
}

// A DSN that leads nowhere ends in an error that is not a verdict.
func TestSQL_AnswersAWrongDSN(t *testing.T) {
	t.Parallel()
	_, postgres := newPostgres(t)
	_, maria := newMariaDB(t)
	for _, c := range []struct {
		k   sqlKind
		dsn string
	}{
		{sqlKinds[0], strings.Replace(postgres, "postgres@", "nobody@", 1)},
		{sqlKinds[0], strings.Replace(postgres, "/test", "/no_test", 1)},
		{sqlKinds[0], "postgres://postgres@127.0.0.1:1/x?sslmode=disable"},
		{sqlKinds[1], strings.Replace(maria, "root@", "nobody@", 1)},
		{sqlKinds[1], strings.Replace(maria, "/test", "/no_test", 1)},
		{sqlKinds[1], "root@tcp(127.0.0.1:1)/x"},
		{sqlKinds[2], "file:" + t.TempDir() + string(os.PathSeparator) + "no/db"},
	} {
		s := c.k.over(t, openDB(t, c.k.driver, c.dsn))
		_, err := s.Acquire(t.Context(), sqlBid("k", "a"))
		require.Error(t, err, c.dsn)
		require.NotErrorIs(t, err, store.ErrCorrupt)
		require.NotErrorIs(t, err, store.ErrInvalid)
		require.Error(t, s.Check(t.Context()))
		require.Error(t, s.Migrate(t.Context()))
		for _, err := range s.List(t.Context(), store.Query{}) {
			require.Error(t, err)
		}
	}
}

func TestSQL_RefusesWhatIsNoName(t *testing.T) {
	t.Parallel()
	db := openDB(t, "sqlite", newSQLite(t))
	for _, o := range []sqlstore.Options{
		{Prefix: `a"; DROP TABLE x; --`}, {Schema: "a.b"}, {Prefix: "1"}, {Schema: "é"}, {Prefix: strings.Repeat("a", 41)},
	} {
		_, err := sqlstore.New(db, sqlstore.PostgreSQL, o)
		require.ErrorIs(t, err, store.ErrInvalid, "%+v", o)
	}
	_, err := sqlstore.New(db, "oracle", sqlstore.Options{})
	require.ErrorIs(t, err, store.ErrInvalid)
	_, err = sqlstore.New(nil, sqlstore.PostgreSQL, sqlstore.Options{})
	require.ErrorIs(t, err, store.ErrInvalid)
	_, err = sqlstore.New(db, sqlstore.SQLite, sqlstore.Options{Schema: "main"})
	require.ErrorIs(t, err, store.ErrInvalid)
}

// The table may be in another schema than that of the connection.
func TestSQL_KeepsToItsSchema(t *testing.T) {
	t.Parallel()
	for _, k := range sqlKinds[:2] {
		t.Run(string(k.dialect), func(t *testing.T) {
			t.Parallel()
			db := openDB(t, k.driver, k.dsn(t))
			schema := fmt.Sprintf("Select%d", databases.Add(1)) // a name that needs quotes
			quoted := `"` + schema + `"`
			if k.dialect == sqlstore.MySQL {
				quoted = "`" + schema + "`"
			}
			exec(t, db, "CREATE SCHEMA "+quoted)
			s, err := sqlstore.New(db, k.dialect, sqlstore.Options{Schema: schema, Prefix: "User_"})
			require.NoError(t, err)
			require.NoError(t, s.Migrate(t.Context()))
			requireUsable(t, s.Check(t.Context()))
			grant(t, s, "k")
			require.NoError(t, s.Clear(t.Context()))
			requireUsable(t, s.Check(t.Context()))
		})
	}
}

func exec(t *testing.T, db *sql.DB, statement string, args ...any) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), statement, args...)
	require.NoError(t, err, statement)
}

func sqlBid(key, owner string) store.Bid {
	return store.Bid{Key: key, Owner: owner, Lease: time.Minute, TTL: time.Hour, Began: true, Info: store.Info{Activity: "ChargeCard"}}
}

func success(data string) store.Outcome {
	return store.Outcome{State: store.Succeeded, Data: []byte(data), Context: "json"}
}

// grant returns a claim that has the key.
func grant(t *testing.T, s store.Store, key string) store.Bid {
	t.Helper()
	b := sqlBid(key, "owner of "+key)
	r, err := s.Acquire(t.Context(), b)
	require.NoError(t, err)
	require.True(t, r.Owned(b.Owner))
	b.Fence = r.Fence
	return b
}
