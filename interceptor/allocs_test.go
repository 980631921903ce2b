package interceptor_test

import (
	"context"
	"math"
	"reflect"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
)

// What a task allocates over one of the SDK alone, on a store in memory and without
// observers, is a number that does not depend on the machine. The limits are what is
// measured under the race detector, which adds one to some. A test that fails here asks
// whether what was added is needed for each call.
func TestActivity_AllocatesNoMoreThanItDid(t *testing.T) { //nolint:paralleltest // it counts allocations
	body := func(context.Context, charge) (receipt, error) { return receipt{ID: "r"}, nil }
	n := 0
	task := func(env *testsuite.TestActivityEnvironment, name string, order func() string) func() {
		return func() {
			_, err := env.ExecuteActivity(name, charge{Order: order(), Cents: 1200})
			require.NoError(t, err)
		}
	}
	same := func() string { return "7" }
	next := func() string { n++; return strconv.Itoa(1000 + n) }
	more := 0.0
	if _, newer := reflect.TypeFor[sdkactivity.Info]().FieldByName("NexusSerializationContext"); newer {
		more = 3 // SDK 1.51, also for what is not marked
	}
	base := fewestAllocations(task(tasks(body, worker.Options{}), "ChargeCard", same))
	for _, path := range []struct {
		what, activity string
		order          func() string
		most           float64
	}{
		{"not marked", "Other", same, 9},
		{"a first run", "ChargeCard", next, 43},
		{"a duplicate", "ChargeCard", same, 17},
	} {
		guarded := guardedTasks(t, body) // anew: what the SDK allocates goes by the number of the task
		assert.LessOrEqual(t, fewestAllocations(task(guarded, path.activity, path.order))-base, path.most+more, path.what)
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
