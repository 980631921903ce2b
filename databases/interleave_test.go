package databases_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/sqlstore"
)

// interleaved returns a store of the database before whose first statement that has that
// word meanwhile is called once it is armed.
func (k sqlKind) interleaved(t *testing.T, dsn, word string) (s *sqlstore.Store, arm func(meanwhile func())) {
	t.Helper()
	var do func()
	db, _ := k.counting(t, dsn, func(query string) {
		if f := do; f != nil && strings.Contains(query, word) {
			do = nil
			f()
		}
	})
	db.SetMaxOpenConns(1)
	return k.over(t, db), func(meanwhile func()) { do = meanwhile }
}

// Between the moment in which a call has read a row and that in which it writes, somebody else
// writes: the call decides again.
func TestSQL_WritesOnlyOverWhatItHasRead(t *testing.T) {
	t.Parallel()
	eachSQL(t, func(t *testing.T, k sqlKind) {
		ctx, dsn := t.Context(), k.dsn(t)
		rival := k.open(t, dsn)
		forever := func(key string) store.Bid {
			b := sqlBid(key, "owner of "+key)
			b.TTL = store.Forever
			return b
		}

		t.Run("a duplicate's contact", func(t *testing.T) {
			s, arm := k.interleaved(t, dsn, "SET version")
			grant(t, rival, "touched")
			arm(func() { must(t)(rival.Settle(ctx, forever("touched"), success("1"))) })
			b := sqlBid("touched", "b")
			b.TTL = 2 * time.Hour
			r := must(t)(s.Acquire(ctx, b))
			require.Equal(t, store.Succeeded, r.State)
			require.Zero(t, r.Expires, "what was promised is not taken back")
			require.Zero(t, must(t)(rival.Load(ctx, "touched")).Expires)
		})
		t.Run("a mark", func(t *testing.T) {
			s, arm := k.interleaved(t, dsn, "SET version")
			a := sqlBid("marked", "owner of marked")
			a.Lease = time.Millisecond
			must(t)(rival.Acquire(ctx, a))
			<-time.After(3 * time.Millisecond)
			arm(func() { must(t)(rival.Settle(ctx, a, success("1"))) })
			require.Equal(t, store.Succeeded, must(t)(s.Acquire(ctx, sqlBid("marked", "b"))).State)
		})
		t.Run("a remembered claim", func(t *testing.T) {
			s, arm := k.interleaved(t, dsn, "SET version")
			a := grant(t, s, "resolved")
			arm(func() {
				from := must(t)(rival.Load(ctx, "resolved"))
				must(t)(rival.Resolve(ctx, "resolved", from, store.Resolution{ID: "r", To: store.Failed, By: store.ByOperator, TTL: time.Hour, Force: true}))
			})
			r, err := s.Settle(ctx, a, success("1"))
			require.ErrorIs(t, err, store.ErrConflict)
			require.Equal(t, store.Failed, r.State)
		})
		t.Run("a claim of a key without a record", func(t *testing.T) {
			s, arm := k.interleaved(t, dsn, "INSERT INTO")
			arm(func() { grant(t, rival, "claimed") })
			r := must(t)(s.Acquire(ctx, sqlBid("claimed", "b")))
			require.Equal(t, "owner of claimed", r.Owner)
		})
		t.Run("a sweep", func(t *testing.T) {
			s, arm := k.interleaved(t, dsn, "DELETE FROM")
			a := sqlBid("swept", "owner of swept")
			a.TTL = time.Millisecond
			must(t)(rival.Acquire(ctx, a))
			<-time.After(3 * time.Millisecond)
			arm(func() { grant(t, rival, "swept") })
			_, err := s.Sweep(ctx)
			require.NoError(t, err)
			require.Equal(t, store.Running, must(t)(rival.Load(ctx, "swept")).State)
		})
	})
}

// A claim that a process remembers expires as any other.
func TestSQL_ForgetsARememberedClaim(t *testing.T) {
	t.Parallel()
	eachSQL(t, func(t *testing.T, k sqlKind) {
		s := k.open(t, k.dsn(t))
		a := sqlBid("k", "a")
		a.TTL = 2 * time.Millisecond
		a.Fence = must(t)(s.Acquire(t.Context(), a)).Fence
		<-time.After(5 * time.Millisecond)
		_, err := s.Renew(t.Context(), a)
		require.ErrorIs(t, err, store.ErrGone)
		a.TTL = time.Hour
		require.True(t, must(t)(s.Settle(t.Context(), a, success("1"))).Forgotten)

		b := sqlBid("k2", "a")
		b.TTL = 2 * time.Millisecond
		b.Fence = must(t)(s.Acquire(t.Context(), b)).Fence
		<-time.After(5 * time.Millisecond)
		b.TTL = time.Hour
		require.True(t, must(t)(s.Settle(t.Context(), b, success("1"))).Forgotten)
	})
}

// Forever may be said by a renewal and by a settle, and is not taken back.
func TestSQL_KeepsForeverWhatAnOwnerSays(t *testing.T) {
	t.Parallel()
	eachSQL(t, func(t *testing.T, k sqlKind) {
		s := k.open(t, k.dsn(t))
		for _, verb := range []string{"renew", "settle"} {
			b := grant(t, s, verb)
			b.TTL = store.Forever
			if verb == "renew" {
				require.Zero(t, must(t)(s.Renew(t.Context(), b)).Expires)
			}
			require.Zero(t, must(t)(s.Settle(t.Context(), b, success("1"))).Expires, verb)
			require.Zero(t, must(t)(s.Load(t.Context(), verb)).Expires, verb)
			b.TTL = time.Hour
			require.Zero(t, must(t)(s.Acquire(t.Context(), b)).Expires, verb)
		}
	})
}

// The clock goes on within a transaction, which a pooler or a driver may have opened.
func TestSQL_AsksTheClockNotTheTransaction(t *testing.T) {
	t.Parallel()
	k := sqlKinds[0]
	dsn := k.dsn(t)
	k.open(t, dsn)
	for _, statement := range []string{"look", "claim", "settle"} {
		db, _ := k.counting(t, dsn, nil)
		db.SetMaxOpenConns(1)
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		_, err = conn.ExecContext(t.Context(), "BEGIN")
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		s := k.over(t, db)
		first := must(t)(s.Load(t.Context(), "k")).Now
		<-time.After(2 * time.Millisecond)
		var r store.Record
		switch statement {
		case "look":
			r = must(t)(s.Load(t.Context(), "k"))
		case "claim":
			r = must(t)(s.Acquire(t.Context(), sqlBid(statement, "a")))
		case "settle":
			b := grant(t, s, statement)
			<-time.After(2 * time.Millisecond)
			r = must(t)(s.Settle(t.Context(), b, success("1")))
			require.True(t, r.Settled.After(r.Claimed))
		}
		require.True(t, r.Now.After(first), statement)
	}
}
