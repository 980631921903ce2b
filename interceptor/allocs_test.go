package interceptor_test

import (
	"context"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
)

// What a task allocates over one of the SDK alone, on a store in memory and without
// observers, is a number that does not depend on the machine. The limits are what is
// measured, and a few more for pools that are emptied at the wrong time. A test that
// fails here asks whether what was added is needed for each call.
func TestActivity_AllocatesNoMoreThanItDid(t *testing.T) { //nolint:paralleltest // it counts allocations
	body := func(context.Context, charge) (receipt, error) { return receipt{ID: "r"}, nil }
	bare, guarded, n := tasks(body, worker.Options{}), guardedTasks(t, body), 0
	slack := 0.0
	allocated := func(env *testsuite.TestActivityEnvironment, name string, order func() string) float64 {
		return testing.AllocsPerRun(200, func() {
			_, err := env.ExecuteActivity(name, charge{Order: order(), Cents: 1200})
			require.NoError(t, err)
		})
	}
	same := func() string { return "7" }
	next := func() string { n++; return strconv.Itoa(1000 + n) }
	if losesPooled() {
		t.Log("the race detector has pools lose a part of what they are given: the limits are higher")
		slack = 6
	}
	base := allocated(bare, "ChargeCard", same)
	for _, path := range []struct {
		what, activity string
		order          func() string
		most           float64
	}{
		{"not marked", "Other", same, 9},
		{"a first run", "ChargeCard", next, 49},
		{"a duplicate", "ChargeCard", same, 23},
	} {
		_, err := guarded.ExecuteActivity(path.activity, charge{Order: path.order(), Cents: 1200})
		require.NoError(t, err)
		assert.LessOrEqual(t, allocated(guarded, path.activity, path.order)-base, path.most+slack, path.what)
	}
}

// losesPooled reports whether pools lose a part of what they are given, as under the race
// detector.
func losesPooled() bool {
	pool := sync.Pool{New: func() any { return new([64]byte) }}
	return testing.AllocsPerRun(100, func() {
		for range 100 {
			pool.Put(pool.Get())
		}
	}) > 1
}
