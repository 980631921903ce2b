package redisstore_test

import (
	"context"
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
	"github.com/atmostonce/atmostonce/store/storetest"
)

var (
	// histories is raised by make histories.
	histories = flag.Int("histories", 200, "how many `histories` of each store are checked")
	races     = flag.Int("races", 1000, "how many `races` of each decision with each rival are run on each store")
)

// brittleConn breaks before one of a hundred replies.
type brittleConn struct {
	net.Conn
}

func (c brittleConn) Read(p []byte) (int, error) {
	if rand.IntN(100) == 0 {
		_ = c.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return c.Conn.Read(p)
}

// Each handle has its own connections. Those of every other one break.
func TestRedis_Linearizable(t *testing.T) {
	t.Parallel()
	addr := startRedis(t)
	storetest.Histories(t, func(t *testing.T) storetest.Harness {
		opened := 0
		return storetest.Harness{Open: func(tb testing.TB) store.Store {
			client := dialRedis(tb, addr, func(o *redis.Options) {
				if opened++; opened%2 == 0 {
					return
				}
				o.MaxRetries = -1
				o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
					conn, err := new(net.Dialer).DialContext(ctx, network, addr)
					return brittleConn{conn}, err
				}
			})
			s, err := redisstore.New(client, redisstore.Options{Prefix: t.Name() + ":"})
			require.NoError(tb, err)
			return s
		}}
	}, *histories)
}

func TestRedis_Races(t *testing.T) {
	t.Parallel()
	addr := startRedis(t)
	storetest.Races(t, func(t *testing.T) storetest.Harness {
		return storetest.Harness{Open: func(tb testing.TB) store.Store {
			s, err := redisstore.New(dialRedis(tb, addr), redisstore.Options{Prefix: t.Name() + ":"})
			require.NoError(tb, err)
			return s
		}}
	}, *races)
}
