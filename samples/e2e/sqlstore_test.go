package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/internal/dbserver"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/sqlstore"
)

// The core of the guard with its records in PostgreSQL. The server is one for all tests;
// each has a database of its own.
var (
	postgresStarted atomic.Pointer[dbserver.Server]
	sharedPostgres  = sync.OnceValues(func() (*dbserver.Server, error) {
		s, err := dbserver.Postgres(context.Background())
		postgresStarted.Store(s)
		return s, err
	})
	databases atomic.Int64
)

func closePostgres() {
	if s := postgresStarted.Load(); s != nil {
		if err := s.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

func openSQL(dsn string) (*sqlstore.Store, *sql.DB, error) {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return nil, nil, err
	}
	s, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Options{})
	return s, db, err
}

// newSQLScene is a scene whose store is in PostgreSQL, where other processes find it, too.
func newSQLScene(t *testing.T) *scene {
	t.Helper()
	server, err := sharedPostgres()
	require.NoError(t, err)
	_, admin, err := openSQL(server.DSN("postgres"))
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close()) }()
	name := fmt.Sprintf("e2e_%d", databases.Add(1))
	_, err = admin.ExecContext(t.Context(), "CREATE DATABASE "+name)
	require.NoError(t, err)

	opened, db, err := openSQL(server.DSN(name))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, opened.Migrate(t.Context()))
	s := newScene(t, client.Options{})
	s.store, s.postgres = opened, server.DSN(name)
	return s
}

func TestSQLStore_ReconcilesAfterAKill(t *testing.T) {
	t.Parallel()
	for end, before := range map[string]bool{"charged": false, "not charged": true} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			s := newSQLScene(t)
			s.served(s.crash("Reconcile", before, doomedCall, nil))
			s.count(1, charged)
			s.count(1, asked)
			require.Equal(t, before, s.record(store.Succeeded).Origin == store.Clean)
		})
	}
}

func TestSQLStore_HoldsADoubtForTheOperator(t *testing.T) {
	t.Parallel()
	s := newSQLScene(t)
	run := s.crash("Hold", false, doomedCall, nil)
	require.True(t, once.MayHaveHappened(s.held(run, once.InDoubt)))
	s.resolve(s.record(store.InDoubt), store.Succeeded, receipt{ID: "found by hand"})
	require.Equal(t, "found by hand", s.verdict(run).Receipt.ID)
	s.count(1, charged)
}

func TestSQLStore_ServesResetsAndDuplicates(t *testing.T) {
	t.Parallel()
	s := newSQLScene(t)
	s.work(perOrder, s.charge)
	run := s.start("first", "one", call{})
	s.served(run)
	s.served(s.reset(run))
	s.served(s.start("second", "one", call{}))
	s.count(1, charged)

	v := s.verdict(s.start("third", "one", call{Input: charge{Order: "order-1", Cents: 99}}))
	require.Equal(t, once.Mismatch, v.Why.Reason)
	s.count(1, charged)
}

func TestSQLStore_WakesWhoWaits(t *testing.T) {
	t.Parallel()
	s, finish := newSQLScene(t), make(chan struct{})
	s.work(waits(once.Hold), s.zombie(finish))
	owner := s.start("owner", "one", call{})
	s.eventually(func() bool { return len(s.ledger.lines(charged)) == 1 }, "the effect")
	s.work(waits(once.Hold), s.charge)
	waiters := []client.WorkflowRun{s.start("second", "one", call{Heartbeat: 10 * time.Second}), s.start("third", "one", call{Heartbeat: 10 * time.Second})}
	for _, w := range waiters {
		s.waited(w, 1, 0)
	}
	close(finish)
	for _, run := range append(waiters, owner) {
		s.served(run)
	}
	s.count(1, charged)
}
