package storetest_test

import (
	"testing"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/storetest"
)

// Mine is a store of your own: this one passes each call on.
type Mine struct{ store.Store }

// A store of your own is held to the contract by a test of its package. The data is
// made anew for each case, which may open several handles on it.
func ExampleRun() {
	var t *testing.T // of func TestMine(t *testing.T)
	storetest.Run(t, func(*testing.T) storetest.Harness {
		data := store.NewMemory(store.MemoryOptions{})
		return storetest.Harness{Open: func(testing.TB) store.Store { return Mine{data} }}
	})
}
