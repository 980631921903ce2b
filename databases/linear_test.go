package databases_test

import (
	"context"
	"database/sql"
	"flag"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/internal/dbserver"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/sqlstore"
	"github.com/atmostonce/atmostonce/store/storetest"
)

// histories is raised by make histories.
var histories = flag.Int("histories", 50, "how many `histories` of each store are checked")

// Of every other handle, one in forty statements that write loses its reply.
func TestSQL_Linearizable(t *testing.T) {
	t.Parallel()
	eachSQL(t, func(t *testing.T, k sqlKind) {
		dsn := k.dsn(t)
		lossy := dsn
		if k.dialect != sqlstore.SQLite {
			proxy := newDropProxy(t, serverOf(t, k).Addr(), func(request []byte) bool { return isWrite(request) && rand.IntN(40) == 0 })
			lossy = proxy.through(dsn)
			t.Cleanup(func() { require.Positive(t, proxy.dropped.Load()) })
		}
		storetest.Histories(t, func(t *testing.T) storetest.Harness { return k.harness(t, dsn, lossy) }, *histories)
	})
}

// Transactions of the pooler have any of its connections.
func TestSQL_LinearizableThroughPgBouncer(t *testing.T) {
	t.Parallel()
	k := sqlKinds[0]
	pooled := through(t, k.dsn(t))
	storetest.Histories(t, func(t *testing.T) storetest.Harness { return k.harness(t, pooled) }, *histories)
}

// The server is killed, and started again, while the calls are made.
func TestSQL_LinearizableOverKills(t *testing.T) {
	t.Parallel()
	for _, k := range sqlKinds[:2] {
		t.Run(string(k.dialect), func(t *testing.T) {
			t.Parallel()
			start, admin, settings := dbserver.Postgres, "postgres", []string(nil)
			if k.dialect == sqlstore.MySQL {
				// Without a binary log, others see what a kill may lose.
				start, admin, settings = dbserver.MariaDB, "", []string{"log-bin=binary", "sync-binlog=1"}
			}
			s := startServer(t, start, settings...)
			dsn := newDatabase(t, k.driver, s, admin)
			o := sqlstore.Options{Prefix: "killed_"}
			owner, err := sqlstore.New(openDB(t, k.driver, dsn), k.dialect, o)
			require.NoError(t, err)
			require.NoError(t, owner.Migrate(t.Context()))

			stop := make(chan struct{})
			var killer sync.WaitGroup
			var kills atomic.Int32
			killer.Go(func() {
				for {
					if err := s.Restart(context.WithoutCancel(t.Context())); err != nil {
						t.Error(err)
						return
					}
					kills.Add(1)
					select {
					case <-stop:
						return
					case <-time.After(time.Duration(50+rand.IntN(200)) * time.Millisecond):
					}
				}
			})
			t.Cleanup(func() {
				close(stop)
				killer.Wait()
				t.Logf("%d kills", kills.Load())
				require.Positive(t, kills.Load())
			})
			storetest.Histories(t, func(*testing.T) storetest.Harness {
				return storetest.Harness{Open: func(tb testing.TB) store.Store {
					tb.Helper()
					db := openDB(tb, k.driver, dsn)
					s, err := sqlstore.New(db, k.dialect, o)
					require.NoError(tb, err)
					return patient{s, db}
				}}
			}, 15)
		})
	}
}

// patient waits for the server before a call, and makes it once.
type patient struct {
	store.Store
	db *sql.DB
}

func (p patient) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	p.wait(ctx)
	return p.Store.Acquire(ctx, b)
}

func (p patient) Renew(ctx context.Context, b store.Bid) (store.Record, error) {
	p.wait(ctx)
	return p.Store.Renew(ctx, b)
}

func (p patient) Settle(ctx context.Context, b store.Bid, o store.Outcome) (store.Record, error) {
	p.wait(ctx)
	return p.Store.Settle(ctx, b, o)
}

func (p patient) Release(ctx context.Context, b store.Bid) (store.Record, error) {
	p.wait(ctx)
	return p.Store.Release(ctx, b)
}

func (p patient) Takeover(ctx context.Context, b store.Bid, from store.Record) (store.Record, error) {
	p.wait(ctx)
	return p.Store.Takeover(ctx, b, from)
}

func (p patient) Resolve(ctx context.Context, key string, from store.Record, r store.Resolution) (store.Record, error) {
	p.wait(ctx)
	return p.Store.Resolve(ctx, key, from, r)
}

func (p patient) Load(ctx context.Context, key string) (store.Record, error) {
	p.wait(ctx)
	return p.Store.Load(ctx, key)
}

func (p patient) wait(ctx context.Context) {
	for ctx.Err() == nil && p.db.PingContext(ctx) != nil {
		<-time.After(5 * time.Millisecond)
	}
}
