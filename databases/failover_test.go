package databases_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/internal/dbserver"
	"github.com/atmostonce/atmostonce/store"
)

// The primary dies while its replica is cut off, which is promoted. What a synchronous
// set-up has acknowledged is there; an asynchronous one, the control, must lose
// something, and Check has said so.
func TestSQL_KeepsWhatAReplicaConfirmed(t *testing.T) {
	t.Parallel()
	k := sqlKinds[0]
	for _, c := range []struct {
		name        string
		settings    []string
		synchronous bool
	}{
		{"synchronous", []string{"synchronous_standby_names=second"}, true},
		{"asynchronous", nil, false},
		{"local", []string{"synchronous_standby_names=second", "synchronous_commit=local"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			primary := startServer(t, dbserver.Postgres)
			replica, err := primary.Replica(t.Context(), "second")
			require.NoError(t, err)
			closeAfter(t, replica)
			for _, setting := range c.settings {
				db := openDB(t, k.driver, primary.DSN("postgres"))
				exec(t, db, "ALTER SYSTEM SET "+quoteSetting(setting))
				exec(t, db, "SELECT pg_reload_conf()")
			}
			s := k.open(t, primary.DSN("postgres"))
			require.Eventually(t, func() bool {
				err = s.Check(t.Context())
				return (err == nil) == c.synchronous
			}, 10*time.Second, 20*time.Millisecond, "%v", err)
			if !c.synchronous {
				require.ErrorIs(t, err, store.ErrUnverified)
			}

			var acknowledged []string
			write := func(key string, limit time.Duration) {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				b := sqlBid(key, "a")
				r, err := s.Acquire(ctx, b)
				if err != nil {
					return
				}
				b.Fence = r.Fence
				if _, err = s.Settle(ctx, b, success(key)); err == nil {
					acknowledged = append(acknowledged, key)
				}
			}
			for i := range 20 {
				write(fmt.Sprint("before", i), 10*time.Second)
			}
			replica.Kill()
			for i := range 5 {
				write(fmt.Sprint("after", i), 300*time.Millisecond)
			}
			primary.Kill()
			require.NoError(t, replica.Restart(t.Context()))
			require.NoError(t, replica.Promote(t.Context()))

			promoted := k.over(t, openDB(t, k.driver, replica.DSN("postgres")))
			lost := 0
			for _, key := range acknowledged {
				if must(t)(promoted.Load(t.Context(), key)).State != store.Succeeded {
					lost++
				}
			}
			if c.synchronous {
				require.Len(t, acknowledged, 20, "without its replica the primary acknowledges nothing")
				require.Zero(t, lost)
			} else {
				require.Len(t, acknowledged, 25)
				require.GreaterOrEqual(t, lost, 5, "the control must lose")
			}
		})
	}
}

func quoteSetting(setting string) string {
	for i, c := range setting {
		if c == '=' {
			return setting[:i] + " TO '" + setting[i+1:] + "'"
		}
	}
	return setting
}

// A replica answers nothing of its own, and is named.
func TestSQL_RefusesAReplica(t *testing.T) {
	t.Parallel()
	k := sqlKinds[0]
	primary := startServer(t, dbserver.Postgres)
	s := k.open(t, primary.DSN("postgres"))
	b := grant(t, s, "k")
	replica, err := primary.Replica(t.Context(), "second")
	require.NoError(t, err)
	closeAfter(t, replica)
	r := k.over(t, openDB(t, k.driver, replica.DSN("postgres")))
	err = r.Check(t.Context())
	require.ErrorIs(t, err, store.ErrUnsafe)
	require.ErrorContains(t, err, "the server is a replica")
	_, err = r.Acquire(t.Context(), sqlBid("k", "b"))
	require.ErrorIs(t, err, store.ErrUnsafe)
	_, err = r.Settle(t.Context(), b, success("1"))
	require.ErrorIs(t, err, store.ErrUnsafe)
	_, err = r.Sweep(t.Context())
	require.ErrorIs(t, err, store.ErrUnsafe)
	require.ErrorIs(t, r.Clear(t.Context()), store.ErrUnsafe)
}
