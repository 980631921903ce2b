package store_test

import (
	"flag"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/storetest"
)

var races = flag.Int("races", 1000, "how many `races` of each decision with each rival are run on each store")

// On the real clock.
func TestMemory_Races(t *testing.T) {
	t.Parallel()
	storetest.Races(t, func(*testing.T) storetest.Harness {
		m := store.NewMemory(store.MemoryOptions{})
		return storetest.Harness{Open: func(testing.TB) store.Store { return m }}
	}, *races)
}

func TestRedis_Races(t *testing.T) {
	t.Parallel()
	addr := startRedis(t)
	storetest.Races(t, func(t *testing.T) storetest.Harness {
		return storetest.Harness{Open: func(tb testing.TB) store.Store {
			s, err := store.NewRedis(dialRedis(tb, addr), store.RedisOptions{Prefix: t.Name() + ":"})
			require.NoError(tb, err)
			return s
		}}
	}, *races)
}
