package atmostonce_test

import (
	"math"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
)

// What a call allocates, on a store in memory and without observers, is a number that
// does not depend on the machine. The limits are what is measured under the race detector,
// which adds one.
func TestFunc_AllocatesNoMoreThanItDid(t *testing.T) { //nolint:paralleltest // it counts allocations
	for policy, most := range map[once.DuplicatePolicy]struct{ first, duplicate float64 }{
		once.Return: {27, 21}, once.Wait: {33, 23},
	} {
		charge := atmostonce.Func(newGuard(t, atmostonce.Options{}), "charge", under(func(p *once.Policy) { p.OnDuplicate = policy }), echo)
		n := 0
		call := func(id string) {
			_, err := charge(t.Context(), event{ID: id})
			require.NoError(t, err)
		}
		assert.LessOrEqual(t, fewestAllocations(func() { n++; call(strconv.Itoa(1000 + n)) }), most.first, policy)
		assert.LessOrEqual(t, fewestAllocations(func() { call("7") }), most.duplicate, policy)
	}
}

// fewestAllocations returns how many allocations a call of f makes: those of the cheapest of
// many. In others a pool had lost what it was given, which the race detector has them do, or
// a map has grown. What comes first is cheaper, since the texts of small numbers are there.
func fewestAllocations(f func()) float64 {
	for range 300 {
		f()
	}
	fewest := math.Inf(1)
	for range 100 {
		fewest = min(fewest, testing.AllocsPerRun(1, f))
	}
	return fewest
}
