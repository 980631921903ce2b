//go:build linux || darwin

package store_test

import (
	"testing"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/storetest"
)

// One handle of four is in a process of its own, and dies by SIGKILL. Nothing
// here is about what the disk keeps.
func TestFile_Linearizable(t *testing.T) {
	t.Parallel()
	storetest.Histories(t, func(t *testing.T) storetest.Harness {
		dir, opened := memoryDir(t), 0
		return storetest.Harness{
			Open: func(tb testing.TB) store.Store {
				if opened++; opened%4 == 1 {
					return startRemote(tb, dir)
				}
				return openFile(tb, dir)
			},
			Die:         dieFile,
			LeaseByLock: true,
		}
	}, shortened(*histories))
}

func memoryDir(tb testing.TB) string {
	tb.Helper()
	return store.MemoryDir(tb)
}

// Each handle is one of several in this process.
func TestFile_Races(t *testing.T) {
	t.Parallel()
	storetest.Races(t, func(t *testing.T) storetest.Harness {
		dir := memoryDir(t)
		return storetest.Harness{Open: func(tb testing.TB) store.Store { return openFile(tb, dir) }, LeaseByLock: true}
	}, *races)
}
