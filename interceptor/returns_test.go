package interceptor_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// A store in memory is written to on the goroutine of the call. What these tests are
// about goes its way beside the call all the same.

func TestMemory_AWriteThatFindsNoRoomIsRepeatedUntilItDoes(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]error{"settle": nil, "release": once.NotDone(errNetwork)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := store.NewMemory(store.MemoryOptions{MaxRecords: 1})
				g := underDefaults(t, s, once.Policy{})
				began := time.Now()
				_, err := execute(t, g, func(context.Context, charge) (receipt, error) {
					s.Clear()
					_, err := s.Acquire(t.Context(), store.Bid{Key: "another", Owner: "n", Lease: time.Minute, TTL: time.Hour})
					assert.NoError(t, err) //nolint:testifylint // require may end only the goroutine of the test, and this is the body's
					go func() {
						later(time.Second)
						s.Clear()
					}()
					return receipt{ID: "r"}, fail
				}, order(7))
				require.Equal(t, fail == nil, err == nil)
				require.GreaterOrEqual(t, time.Since(began), time.Second, "the answer waits for its record")
				require.Less(t, time.Since(began), 5*time.Second)
				require.Contains(t, []store.State{store.Succeeded, store.Tombstone}, only(t, s).State)
			})
		})
	}
}

func TestMemory_AConflictIsNotedOnce(t *testing.T) {
	t.Parallel()
	s, notices := memory(), newWatch(observe.KindNotice)
	o := options(once.Mark(once.Policy{}, "ChargeCard"))
	o.Observers = []observe.Observer{notices}
	_, err := execute(t, newGuard(t, s, o), func(context.Context, charge) (receipt, error) {
		decide(t, s, store.Failed)
		return receipt{ID: "r"}, nil
	}, order(7))
	require.NoError(t, err)
	require.Equal(t, observe.Conflict, receive(t, notices.ended).Notice)
	require.Empty(t, notices.ended)
	conflicts := 0
	for _, turn := range only(t, s).History {
		if turn.What == store.TurnConflict {
			conflicts++
		}
	}
	require.Equal(t, 1, conflicts)
}
