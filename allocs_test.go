package atmostonce_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
)

// What a call allocates, on a store in memory and without observers, is a number that
// does not depend on the machine. The limits are what is measured, and a few more for
// pools that are emptied at the wrong time.
func TestFunc_AllocatesNoMoreThanItDid(t *testing.T) { //nolint:paralleltest // it counts allocations
	for policy, most := range map[once.DuplicatePolicy]struct{ first, duplicate float64 }{
		once.Return: {30, 23}, once.Wait: {34, 27},
	} {
		charge := atmostonce.Func(newGuard(t, atmostonce.Options{}), "charge", under(func(p *once.Policy) { p.OnDuplicate = policy }), echo)
		n := 0
		call := func(id string) {
			_, err := charge(t.Context(), event{ID: id})
			require.NoError(t, err)
		}
		call("7")
		assert.LessOrEqual(t, testing.AllocsPerRun(200, func() { n++; call(strconv.Itoa(1000 + n)) }), most.first, policy)
		assert.LessOrEqual(t, testing.AllocsPerRun(200, func() { call("7") }), most.duplicate, policy)
	}
}
