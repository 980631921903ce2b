package storetest

import (
	"testing"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// Harness is how the suite gets at a store. Each case asks for one of its own.
type Harness struct {
	// Open returns another handle on the same data, which is empty at first.
	// Open registers with tb.Cleanup what a handle needs for its end.
	Open func(tb testing.TB) store.Store

	// Die ends every running claim that was made through s, as the death of its
	// process would: once it has returned, an Acquire by anybody else marks the
	// doubt. lease is the lease of those claims; s is not used afterwards. If
	// nil, Die lets the lease pass.
	Die func(tb testing.TB, s store.Store, lease time.Duration)

	// Pass lets d pass on the store's clock. If nil, it waits for d.
	Pass func(tb testing.TB, d time.Duration)

	// LeaseByLock is set for a store that knows by other means than its clock
	// whether an owner lives: a lease that runs out then changes nothing, and a
	// renewal may write nothing.
	LeaseByLock bool

	// Around, if not nil, runs one case, f, for instance inside of a
	// testing/synctest bubble. Handles are opened within f.
	Around func(t *testing.T, f func(t *testing.T))
}
