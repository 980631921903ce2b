package databases_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/sqlstore"
)

// A call whose reply is lost is repeated by its caller, and gets the answer that was lost.
func TestSQL_LostReply(t *testing.T) {
	t.Parallel()
	for _, k := range sqlKinds[:2] {
		for _, verb := range []string{"Acquire", "Settle", "Release", "Takeover", "Resolve"} {
			t.Run(string(k.dialect)+"/"+verb, func(t *testing.T) {
				t.Parallel()
				ctx, dsn := t.Context(), k.dsn(t)
				direct := k.open(t, dsn)
				var armed atomic.Bool
				proxy := newDropProxy(t, serverOf(t, k).Addr(), func(request []byte) bool {
					return isWrite(request) && armed.CompareAndSwap(true, false)
				})
				s := k.over(t, openDB(t, k.driver, proxy.through(dsn)))
				b, from, revision := sqlBid("k", "a"), store.Record{}, uint64(1)
				if verb != "Acquire" {
					b.Fence = must(t)(s.Acquire(ctx, b)).Fence
					revision++
				}
				if verb == "Takeover" || verb == "Resolve" {
					from = must(t)(s.Settle(ctx, b, store.Outcome{State: store.InDoubt}))
					b = sqlBid("k", "b")
					revision++
				}
				call := map[string]func() (store.Record, error){
					"Acquire":  func() (store.Record, error) { return s.Acquire(ctx, b) },
					"Settle":   func() (store.Record, error) { return s.Settle(ctx, b, success("1")) },
					"Release":  func() (store.Record, error) { return s.Release(ctx, b) },
					"Takeover": func() (store.Record, error) { return s.Takeover(ctx, b, from) },
					"Resolve": func() (store.Record, error) {
						return s.Resolve(ctx, "k", from, store.Resolution{ID: "r", To: store.Failed, By: store.ByOperator, TTL: time.Hour})
					},
				}[verb]

				armed.Store(true)
				_, err := call()
				require.Error(t, err, "the reply is lost")
				require.EqualValues(t, 1, proxy.dropped.Load())
				r := must(t)(call())
				require.Equal(t, revision, r.Revision, "the call was applied once")
				stored := must(t)(direct.Load(ctx, "k"))
				stored.Now = r.Now
				require.Equal(t, stored, r)
				if verb == "Acquire" || verb == "Takeover" {
					require.True(t, r.Owned(b.Owner))
				}
			})
		}
	}
}

// Records of many keys live while replies are lost: one owner at a time, every settle heard,
// and nothing written twice.
func TestSQL_LostReplies(t *testing.T) {
	t.Parallel()
	for _, k := range sqlKinds[:2] {
		t.Run(string(k.dialect), func(t *testing.T) {
			t.Parallel()
			dsn := k.dsn(t)
			direct := k.open(t, dsn)
			proxy := newDropProxy(t, serverOf(t, k).Addr(), func(request []byte) bool { return isWrite(request) && rand.IntN(5) == 0 })
			s := k.over(t, openDB(t, k.driver, proxy.through(dsn)))
			ctx := t.Context()
			var lives sync.WaitGroup
			for worker := range 4 {
				lives.Go(func() {
					for i := range 40 {
						key := fmt.Sprint(worker, "/", i)
						a, b := sqlBid(key, "a"), sqlBid(key, "b")
						r := insist(t, func() (store.Record, error) { return s.Acquire(ctx, a) })
						if !r.Owned("a") {
							t.Errorf("%s: %v of %v", key, r.State, r.Owner)
						}
						a.Fence = r.Fence
						if r := insist(t, func() (store.Record, error) { return s.Acquire(ctx, b) }); r.Fence != a.Fence {
							t.Errorf("%s: a second grant", key)
						}
						insist(t, func() (store.Record, error) { return s.Settle(ctx, a, success(key)) })
						r = insist(t, func() (store.Record, error) { return s.Acquire(ctx, b) })
						if string(r.Outcome.Data) != key || r.Revision != 2 || len(r.History) != 0 {
							t.Errorf("%s: %+v", key, r)
						}
					}
				})
			}
			lives.Wait()
			n := 0
			for r, err := range direct.List(ctx, store.Query{}) {
				require.NoError(t, err)
				require.Equal(t, store.Succeeded, r.State)
				n++
			}
			require.Equal(t, 160, n)
			require.Positive(t, proxy.dropped.Load())
		})
	}
}

// insist repeats a call until it is answered.
func insist(t *testing.T, call func() (store.Record, error)) store.Record {
	t.Helper()
	for {
		r, err := call()
		if err == nil || errors.Is(err, store.ErrSuperseded) || t.Context().Err() != nil {
			return r
		}
	}
}

func must(t *testing.T) func(store.Record, error) store.Record {
	return func(r store.Record, err error) store.Record {
		t.Helper()
		require.NoError(t, err)
		return r
	}
}

// A pool of one connection is enough for a hundred callers: no call asks for a second
// one while it holds one, and a listing holds none while its caller calls.
func TestSQL_OneConnectionServesAHundredCallers(t *testing.T) {
	t.Parallel()
	eachSQL(t, func(t *testing.T, k sqlKind) {
		db := openDB(t, k.driver, k.dsn(t))
		db.SetMaxOpenConns(1)
		s := k.over(t, db)
		require.NoError(t, s.Migrate(t.Context()))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var callers sync.WaitGroup
		var granted atomic.Int32
		for i := range 100 {
			callers.Go(func() {
				b := sqlBid(fmt.Sprint(i%10), fmt.Sprint("owner", i))
				r, err := s.Acquire(ctx, b)
				if err != nil {
					t.Error(err)
					return
				}
				if !r.Owned(b.Owner) {
					return
				}
				granted.Add(1)
				b.Fence = r.Fence
				_, err = s.Renew(ctx, b)
				_, err2 := s.Settle(ctx, b, success("1"))
				if err := errors.Join(err, err2); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		require.EqualValues(t, 10, granted.Load())
		for r, err := range s.List(ctx, store.Query{}) {
			require.NoError(t, err)
			must(t)(s.Load(ctx, r.Key))
		}
		_, err := s.Sweep(ctx)
		require.NoError(t, err)
	})
}

// A call that meets a row that somebody has locked ends with its context, and finds what
// became of the row afterwards.
func TestSQL_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	eachSQL(t, func(t *testing.T, k sqlKind) {
		dsn := k.dsn(t)
		s := k.open(t, dsn)
		b := grant(t, s, "k")
		locker := openDB(t, k.driver, dsn)
		tx, err := locker.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(t.Context(), "UPDATE atmostonce_records SET fence = fence")
		require.NoError(t, err)

		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		begun := time.Now()
		_, err = s.Settle(ctx, b, success("1"))
		require.Error(t, err)
		require.Less(t, time.Since(begun), 8*time.Second)
		require.NoError(t, tx.Rollback())

		r := must(t)(s.Settle(t.Context(), b, success("1")))
		require.Equal(t, store.Succeeded, r.State)
		require.EqualValues(t, 2, r.Revision, "it was applied once")
		_, err = s.Acquire(ctx, sqlBid("k2", "a"))
		require.Error(t, err)
		for _, err := range s.List(ctx, store.Query{}) {
			require.Error(t, err)
		}
	})
}

// The database's own timeouts end a call with an error that says so.
func TestSQL_ReportsTheDatabasesTimeouts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		k      sqlKind
		option string
	}{
		{sqlKinds[0], "&lock_timeout=50"},
		{sqlKinds[0], "&statement_timeout=50"},
		{sqlKinds[1], "?innodb_lock_wait_timeout=1"},
	} {
		t.Run(strings.Trim(c.option, "&?"), func(t *testing.T) {
			t.Parallel()
			dsn := c.k.dsn(t)
			plain := c.k.open(t, dsn)
			s := c.k.over(t, openDB(t, c.k.driver, dsn+c.option))
			b := grant(t, s, "k")
			tx, err := openDB(t, c.k.driver, dsn).BeginTx(t.Context(), nil)
			require.NoError(t, err)
			_, err = tx.ExecContext(t.Context(), "UPDATE atmostonce_records SET fence = fence")
			require.NoError(t, err)
			_, err = s.Settle(t.Context(), b, success("1"))
			require.ErrorContains(t, err, "timeout")
			for _, verdict := range []error{store.ErrSuperseded, store.ErrConflict, store.ErrInvalid, store.ErrCorrupt, store.ErrFull} {
				require.NotErrorIs(t, err, verdict)
			}
			require.NoError(t, tx.Rollback())
			must(t)(s.Settle(t.Context(), b, success("1")))
			require.Equal(t, store.Succeeded, must(t)(plain.Load(t.Context(), "k")).State)
		})
	}
}

// Whatever isolation a role has by default, and however many call at once: one is granted,
// and nobody hears of a serialization failure.
func TestSQL_RetriesSerializationFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		k      sqlKind
		option string
	}{
		{sqlKinds[0], "&default_transaction_isolation=serializable"},
		{sqlKinds[0], "&default_transaction_isolation=repeatable%20read"},
		{sqlKinds[1], "?tx_isolation=%27SERIALIZABLE%27"}, // as MariaDB 10 and 11.0 call it
		{sqlKinds[1], "?tx_isolation=%27READ-COMMITTED%27"},
		{sqlKinds[2], ""},
	} {
		t.Run(string(c.k.dialect)+c.option, func(t *testing.T) {
			t.Parallel()
			dsn := c.k.dsn(t)
			c.k.open(t, dsn)
			s := c.k.over(t, openDB(t, c.k.driver, dsn+c.option))
			var grants, settled atomic.Int32
			var callers sync.WaitGroup
			for i := range 16 {
				callers.Go(func() {
					for round := range 20 {
						b := sqlBid(fmt.Sprint(round%4), fmt.Sprint(i, "/", round))
						r, err := s.Acquire(t.Context(), b)
						if err != nil {
							t.Error(err)
							return
						}
						if !r.Owned(b.Owner) {
							continue
						}
						grants.Add(1)
						b.Fence = r.Fence
						if round < 16 {
							_, err = s.Release(t.Context(), b)
						} else if _, err = s.Settle(t.Context(), b, success("1")); err == nil {
							settled.Add(1)
						}
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			callers.Wait()
			require.GreaterOrEqual(t, grants.Load(), settled.Load())
			for i := range 4 {
				r := must(t)(s.Load(t.Context(), fmt.Sprint(i)))
				require.Contains(t, []store.State{store.Succeeded, store.Tombstone}, r.State)
			}
			require.LessOrEqual(t, settled.Load(), int32(4), "one success for each key")
		})
	}
}

// Results of the size that guards let through, and the largest that a store keeps.
func TestSQL_KeepsLongResults(t *testing.T) {
	t.Parallel()
	eachSQL(t, func(t *testing.T, k sqlKind) {
		s := k.open(t, k.dsn(t))
		for _, size := range []int{2 << 20, store.MaxData} {
			key := fmt.Sprint(size)
			b := grant(t, s, key)
			data := bytes.Repeat([]byte("\x00\xff'\\\""), size/5+1)[:size]
			must(t)(s.Settle(t.Context(), b, store.Outcome{State: store.Succeeded, Data: data}))
			r := must(t)(s.Acquire(t.Context(), sqlBid(key, "b")))
			require.True(t, bytes.Equal(data, r.Outcome.Data))
		}
		b := grant(t, s, "over")
		_, err := s.Settle(t.Context(), b, store.Outcome{State: store.Succeeded, Data: make([]byte, store.MaxData+1)})
		require.ErrorIs(t, err, store.ErrInvalid)
		n := 0
		for _, err := range s.List(t.Context(), store.Query{State: store.Succeeded}) {
			require.NoError(t, err)
			n++
		}
		require.Equal(t, 2, n)
	})
}

// A row that somebody has changed is never taken for none, nor for another key's.
func TestSQL_RefusesWhatIsCorrupt(t *testing.T) {
	t.Parallel()
	eachSQL(t, func(t *testing.T, k sqlKind) {
		db := openDB(t, k.driver, k.dsn(t))
		s := k.over(t, db)
		require.NoError(t, s.Migrate(t.Context()))
		for _, c := range []struct {
			name, change string
			want         error
		}{
			{"cut", "UPDATE atmostonce_records SET record = substr(record, 1, 20)", store.ErrCorrupt},
			{"empty", "UPDATE atmostonce_records SET record = ''", store.ErrCorrupt},
			{"newer", "UPDATE atmostonce_records SET record = '~~~~~~~~'", store.ErrVersion},
			{"state", "UPDATE atmostonce_records SET state = 'done'", store.ErrCorrupt},
			{"other state", "UPDATE atmostonce_records SET state = 'pending'", store.ErrCorrupt},
			{"fence", "UPDATE atmostonce_records SET fence = 0", store.ErrCorrupt},
		} {
			require.NoError(t, s.Clear(t.Context()))
			key := c.name
			grant(t, s, key)
			exec(t, db, c.change+" WHERE state <> 'schema'")
			_, err := s.Acquire(t.Context(), sqlBid(key, "b"))
			require.ErrorIs(t, err, c.want, c.name)
			require.NotContains(t, err.Error(), "owner of")
			_, err = s.Settle(t.Context(), sqlBid(key, "c"), success("1"))
			require.ErrorIs(t, err, c.want, c.name)
			var errs []error
			for _, err := range s.List(t.Context(), store.Query{}) {
				errs = append(errs, err)
			}
			require.Len(t, errs, 1, c.name)
			require.ErrorIs(t, errs[0], c.want, c.name)
		}
		// One row in the place of another's.
		require.NoError(t, s.Clear(t.Context()))
		grant(t, s, "one")
		var digest []byte
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT digest FROM atmostonce_records WHERE state <> 'schema'").Scan(&digest))
		grant(t, s, "two")
		exec(t, db, "DELETE FROM atmostonce_records WHERE digest = "+k.argument(), digest)
		exec(t, db, "UPDATE atmostonce_records SET digest = "+k.argument()+" WHERE state <> 'schema'", digest)
		_, err := s.Load(t.Context(), "one")
		require.ErrorIs(t, err, store.ErrCorrupt)
	})
}

// argument stands for the first argument of a statement.
func (k sqlKind) argument() string {
	if k.dialect == sqlstore.PostgreSQL {
		return "$1"
	}
	return "?"
}

// Rows past their expiry go, a bounded number at a time, and no others; those that others
// work on are left, without a wait.
func TestSQL_SweepsWhatHasExpired(t *testing.T) {
	t.Parallel()
	eachSQL(t, func(t *testing.T, k sqlKind) {
		dsn := k.dsn(t)
		db := openDB(t, k.driver, dsn)
		s := k.over(t, db)
		require.NoError(t, s.Migrate(t.Context()))
		const old = 300
		for i := range old {
			grant(t, s, fmt.Sprint("old", i))
		}
		exec(t, db, "UPDATE atmostonce_records SET expires = 1 WHERE state <> 'schema'")
		grant(t, s, "kept")
		forever := sqlBid("forever", "a")
		forever.TTL = store.Forever
		must(t)(s.Acquire(t.Context(), forever))

		removed := 0
		for round := range 3 {
			if round == 1 && k.dialect == sqlstore.PostgreSQL {
				tx, err := openDB(t, k.driver, dsn).BeginTx(t.Context(), nil)
				require.NoError(t, err)
				_, err = tx.ExecContext(t.Context(), "UPDATE atmostonce_records SET fence = fence WHERE expires = 1")
				require.NoError(t, err)
				n, err := s.Sweep(t.Context())
				require.NoError(t, err)
				require.Zero(t, n, "the rows are locked")
				require.NoError(t, tx.Rollback())
			}
			n, err := s.Sweep(t.Context())
			require.NoError(t, err)
			require.LessOrEqual(t, n, 256)
			removed += n
		}
		var rows int
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM atmostonce_records").Scan(&rows))
		require.Equal(t, 3, rows, "the two that are kept, and the schema's")
		require.LessOrEqual(t, removed, old, "calls may have swept too")
	})
}

// New records have those that have expired removed, without anybody asking for it.
func TestSQL_SweepsByTheWay(t *testing.T) {
	t.Parallel()
	eachSQL(t, func(t *testing.T, k sqlKind) {
		db := openDB(t, k.driver, k.dsn(t))
		s := k.over(t, db)
		require.NoError(t, s.Migrate(t.Context()))
		grant(t, s, "old")
		exec(t, db, "UPDATE atmostonce_records SET expires = 1 WHERE state <> 'schema'")
		left := 1
		for i := 0; left > 0 && i < 5000; i++ {
			grant(t, s, fmt.Sprint(i))
			require.NoError(t, db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM atmostonce_records WHERE expires = 1").Scan(&left))
		}
		require.Zero(t, left)
	})
}
