//go:build linux || darwin

package store_test

import (
	"testing"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/storetest"
)

// One handle of four is in a process of its own, or each is, and these die by SIGKILL.
// Nothing here is about what the disk keeps.
func TestFile_Linearizable(t *testing.T) {
	t.Parallel()
	for name, every := range map[string]int{"one process of its own": 4, "four processes": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Histories(t, func(t *testing.T) storetest.Harness {
				dir, opened := memoryDir(t), 0
				return storetest.Harness{
					Open: func(tb testing.TB) store.Store {
						if opened++; opened%every == 1%every {
							return startRemote(tb, dir)
						}
						return openFile(tb, dir)
					},
					Die:         dieFile,
					LeaseByLock: true,
				}
			}, shortened(*histories))
		})
	}
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
