package storetest

import (
	"context"
	"math"
	"testing"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

// refusal runs histories on s until one is refused, and returns what that said.
func refusal(t *testing.T, n int, s store.Store) (string, *tally) {
	t.Helper()
	var sum tally
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		histories(n, &sum).check(r, Harness{Open: func(testing.TB) store.Store { return s }})
	}()
	<-done
	return r.failure, &sum
}

func TestHistories_RefusesBrokenStores(t *testing.T) {
	t.Parallel()
	for name, b := range breakages {
		if !b.histories {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := b.make()
			s.Memory = store.NewMemory(store.MemoryOptions{})
			why, sum := refusal(t, 1000, s)
			require.Contains(t, why, "is explained by no order of the calls about "+theKey)
			require.Contains(t, why, "The contract: ")
			t.Logf("after %d histories: %s", sum.histories.Load(), why)
		})
	}
}

func TestHistories_AcceptsMemory(t *testing.T) {
	t.Parallel()
	why, sum := refusal(t, 20, store.NewMemory(store.MemoryOptions{}))
	require.Empty(t, why)
	require.EqualValues(t, 20, sum.histories.Load())
	require.Greater(t, sum.calls.Load(), int64(2000))
	require.Positive(t, sum.unanswered.Load())
	require.Equal(t, sum.lost.Load(), sum.unanswered.Load())
}

// A store that answers nothing is not thereby right.
func TestHistories_RefusesSilence(t *testing.T) {
	t.Parallel()
	why, _ := refusal(t, 1, &broken{
		Memory: store.NewMemory(store.MemoryOptions{}),
		acquire: func(context.Context, *store.Memory, store.Bid) (store.Record, error) {
			return store.Record{}, context.DeadlineExceeded
		},
	})
	require.Contains(t, why, "were not answered: context deadline exceeded")
}

// An error that says that a call was refused is none that histories can explain.
func TestHistories_RefusesCorruption(t *testing.T) {
	t.Parallel()
	why, _ := refusal(t, 10, &broken{
		Memory: store.NewMemory(store.MemoryOptions{}),
		renew: func(context.Context, *store.Memory, store.Bid) (store.Record, error) {
			return store.Record{}, store.ErrCorrupt
		},
	})
	require.Contains(t, why, "store: record is corrupt")
}

// An owner that got no answer may be given up where locks show its death, and
// nowhere else.
func TestModel_GivesUpAnOwnerWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	a := store.Bid{Key: theKey, Owner: "a", Lease: longLease, TTL: longTTL}
	b := a
	b.Owner = "b"
	marked := answer{view: view{State: store.InDoubt, Owner: "a", Marked: true}, fence: 1, revision: 2}
	calls := []porcupine.Operation{
		{Input: call{verb: "Acquire", key: theKey, bid: a}, Call: 1, Output: answer{silent: true}, Return: math.MaxInt64},
		{Input: call{verb: "Acquire", key: theKey, bid: b}, Call: 2, Output: marked, Return: 3},
	}
	for byLock, m := range map[bool]porcupine.Model{false: model, true: lockedModel} {
		require.Equal(t, byLock, porcupine.CheckOperations(m, calls))
		require.Equal(t, byLock, porcupine.CheckOperations((&history{kit: &kit{h: Harness{LeaseByLock: byLock}}}).model(), calls))
	}
}
