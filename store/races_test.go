package store_test

import (
	"flag"
	"testing"

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
