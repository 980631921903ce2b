package store_test

import (
	"flag"
	"testing"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/storetest"
)

// histories is raised by make histories.
var histories = flag.Int("histories", 200, "how many `histories` of each store are checked")

// On the real clock, where leases end while others call.
func TestMemory_Linearizable(t *testing.T) {
	t.Parallel()
	storetest.Histories(t, func(*testing.T) storetest.Harness {
		m := store.NewMemory(store.MemoryOptions{})
		return storetest.Harness{Open: func(testing.TB) store.Store { return m }}
	}, shortened(*histories))
}

// shortened returns a tenth of n with -short, for make check.
func shortened(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}
