package databases_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/internal/dbserver"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/txn"
)

// serverKinds start a server of the test's own, and a business there.
var serverKinds = map[string]func(t *testing.T) (*dbserver.Server, *business){
	"PostgreSQL": func(t *testing.T) (*dbserver.Server, *business) {
		t.Helper()
		// Commits take a while before they are written, and while they are.
		s := startServer(t, dbserver.Postgres, "commit_delay=20000", "commit_siblings=0")
		return s, serverBusiness(txn.PostgreSQL, newDatabase(t, "pgx", s, "postgres"))
	},
	"MariaDB": func(t *testing.T) (*dbserver.Server, *business) {
		t.Helper()
		s := startServer(t, dbserver.MariaDB)
		return s, serverBusiness(txn.MySQL, newDatabase(t, "mysql", s, ""))
	},
}

// persistent is a guarded transfer over the ledger d that is called until there is an answer.
func (b *business) persistent(t *testing.T, records store.Store, d *txn.DB) func(id string) error {
	t.Helper()
	g, err := atmostonce.New(records, atmostonce.Options{
		Lease: 300 * time.Millisecond, SettleDelay: time.Hour, HoldRetry: 50 * time.Millisecond,
		Defaults: once.Policy{OnDuplicate: once.Wait, InDoubt: d.Decides()},
	})
	require.NoError(t, err)
	w := work{Patience: time.Minute}
	transfer := atmostonce.Func(g, "transfer", once.Policy{Key: byTransfer}, w.body(b, d, func(string) {}))
	return func(id string) error {
		first, err := w.persist(t.Context(), transfer, id)
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		again, err := w.persist(t.Context(), transfer, id)
		if err == nil && (again != first || first.ID != id) {
			err = fmt.Errorf("%s: %v, and %v again", id, first, again)
		}
		return err
	}
}

// requireOnce says that each effect is there once, and that nothing is left in doubt.
func (b *business) requireOnce(t *testing.T, records store.Store, ids []string) {
	t.Helper()
	for _, id := range ids {
		require.Equal(t, 1, b.effects(t, id), id)
	}
	require.Equal(t, 2000, b.sum(t))
	settled := 0
	for r, err := range records.List(t.Context(), store.Query{}) {
		require.NoError(t, err)
		require.Equal(t, store.Succeeded, r.State, r.Key)
		settled++
	}
	require.Equal(t, len(ids), settled)
}

// The server is killed while commits are under way in it, again and again.
func TestTxn_AServerKilledInCommit(t *testing.T) {
	t.Parallel()
	for name, open := range serverKinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, b := open(t)
			b.db = b.again(t)
			b.accounts(t)
			b.ledger(t, txn.Options{})
			db, f := b.faulty(t)
			d := b.ledgerOf(t, db, txn.Options{})
			records := store.NewMemory(store.MemoryOptions{})
			inCommit := make(chan struct{})
			var lost, commits atomic.Int32
			f.set(func(tx *faultyTx) error {
				if commits.Add(1)%8 == 0 { // some must be made
					select {
					case inCommit <- struct{}{}:
					default:
					}
				}
				err := tx.Tx.Commit()
				if err != nil {
					lost.Add(1)
				}
				return err
			}, nil)
			own := &business{db: db, dialect: b.dialect}
			transfer := own.persistent(t, records, d)
			const n, enough, most = 8, 4, 500
			errs, made, over := make([]error, n), make([]int, n), make(chan struct{})
			go func() {
				defer close(over)
				together(n, func(i int) {
					for errs[i] == nil && lost.Load() < enough && made[i] < most {
						errs[i] = transfer(fmt.Sprint(i, "-", made[i]))
						made[i]++
					}
				})
			}()
			kills := 0
			for ended := false; !ended; {
				select {
				case <-over:
					ended = true
				case <-inCommit:
					<-time.After(time.Duration(rand.Int64N(int64(20 * time.Millisecond)))) // anywhere in it
					require.NoError(t, s.Restart(t.Context()))
					kills++
				}
			}
			require.NoError(t, errors.Join(errs...))
			t.Logf("%d kills, %d commits without an answer", kills, lost.Load())
			require.GreaterOrEqual(t, lost.Load(), int32(enough))
			b.db = b.again(t)
			var ids []string
			for i, n := range made {
				for j := range n {
					ids = append(ids, fmt.Sprint(i, "-", j))
				}
			}
			b.requireOnce(t, records, ids)
		})
	}
}

// The network loses what the server says to COMMIT, and with it the connection.
func TestTxn_TheAnswerToCommitIsDropped(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) *business{"PostgreSQL": newPostgresBusiness, "MariaDB": newMariaDBBusiness} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t)
			b.db = b.again(t)
			b.accounts(t)
			b.ledger(t, txn.Options{})
			shared := sharedPostgres
			if b.dialect == txn.MySQL {
				shared = sharedMariaDB
			}
			server, err := shared()
			require.NoError(t, err)
			var commits atomic.Int32
			proxy := newDropProxy(t, server.Addr(), func(request []byte) bool {
				return bytes.Contains(bytes.ToUpper(request), []byte("COMMIT")) && commits.Add(1)%3 == 0
			})
			far := serverBusiness(b.dialect, proxy.through(b.dsn))
			far.db = far.again(t)
			records := store.NewMemory(store.MemoryOptions{})
			transfer := far.persistent(t, records, far.ledgerOf(t, far.db, txn.Options{}))
			const n, each = 4, 8
			errs, ids := make([]error, n), make([]string, n*each)
			for i := range ids {
				ids[i] = fmt.Sprint(i)
			}
			together(n, func(i int) {
				for _, id := range ids[i*each:][:each] {
					errs[i] = errors.Join(errs[i], transfer(id))
				}
			})
			require.NoError(t, errors.Join(errs...))
			require.Greater(t, proxy.dropped.Load(), int32(n))
			b.requireOnce(t, records, ids)
		})
	}
}
