// Package storetest checks that a [store.Store] keeps its contract.
//
// A store that passes [Run] can be given to a guard. Every case that fails says
// which part of the contract it is about and why that part is there.
package storetest

import (
	"context"
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

// Run holds the stores of newHarness to the contract, each case in a parallel
// subtest. newHarness is called once for each case; the data of the harnesses
// must not touch.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	for _, group := range suite() {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range group.cases {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.checkAround(t, newHarness(t))
				})
			}
		})
	}
}

type group struct {
	name  string
	cases []testCase
}

// A testCase is one part of the contract. why is printed when it fails.
type testCase struct {
	name string
	why  string
	run  func(k *kit)
}

func suite() []group {
	return []group{
		{"acquire", acquireCases},
		{"lease", leaseCases},
		{"settle", settleCases},
		{"release", releaseCases},
		{"takeover", takeoverCases},
		{"resolve", resolveCases},
		{"correct", correctCases},
		{"erase", eraseCases},
		{"late", lateCases},
		{"expiry", expiryCases},
		{"bytes", bytesCases},
		{"keys", keysCases},
		{"list", listCases},
		{"open", openCases},
		{"calls", callsCases},
		{"contention", contentionCases},
		{"races", raceCases},
		{"linear", linearCases},
	}
}

func (c testCase) checkAround(t *testing.T, h Harness) {
	t.Helper()
	if h.Around == nil {
		c.check(t, h)
		return
	}
	h.Around(t, func(t *testing.T) { c.check(t, h) })
}

func (c testCase) check(tb testing.TB, h Harness) {
	tb.Helper()
	if h.Pass == nil {
		h.Pass = func(_ testing.TB, d time.Duration) { <-time.After(d) }
	}
	if h.Die == nil {
		h.Die = func(tb testing.TB, _ store.Store, lease time.Duration) {
			tb.Helper()
			h.Pass(tb, lease+time.Millisecond)
		}
	}
	k := &kit{TB: tb, h: h, why: c.why}
	k.ctx, k.s = tb.Context(), k.open()
	c.run(k)
}

// A kit is what a case works with.
type kit struct {
	testing.TB
	h   Harness
	why string
	ctx context.Context
	s   store.Store // the first handle
}
