package storetest

import (
	"testing"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// A testCase is one part of the contract. why is printed when it fails.
type testCase struct {
	name string
	why  string
	run  func(k *kit)
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
