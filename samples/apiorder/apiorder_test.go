package main

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/samples/internal/stage"
)

const book, lamp = `{"Item": "book", "Cents": 1200}`, `{"Item": "lamp", "Cents": 9900}`

func TestOrders_OneChargePerIdempotencyKey(t *testing.T) {
	t.Parallel()
	s, err := stage.Open(t.Context(), t.TempDir(), t.Output())
	require.NoError(t, err)
	t.Cleanup(s.Close)
	url, err := start(t.Context(), s)
	require.NoError(t, err)

	const callers = 5
	var statuses [callers]int
	var answers [callers][]byte
	var errs [callers]error
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() { statuses[i], answers[i], errs[i] = post(t.Context(), url, "ann", "k1", book) })
	}
	all.Wait()
	for i := range callers {
		require.NoError(t, errs[i])
		require.Equal(t, 200, statuses[i], "%s", answers[i])
		require.Equal(t, answers[0], answers[i])
	}
	charges(t, s, 1)

	status, answer, err := post(t.Context(), url, "ann", "k1", book)
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.Equal(t, answers[0], answer, "later, the same answer")

	status, _, err = post(t.Context(), url, "ann", "k1", lamp)
	require.NoError(t, err)
	require.Equal(t, 422, status, "another body")
	charges(t, s, 1)

	for _, caller := range [][2]string{{"bob", "k1"}, {"ann", "k2"}} {
		status, _, err = post(t.Context(), url, caller[0], caller[1], book)
		require.NoError(t, err)
		require.Equal(t, 200, status)
	}
	charges(t, s, 3)

	status, _, err = post(t.Context(), url, "ann", "", book)
	require.NoError(t, err)
	require.Equal(t, 400, status, "no key")
}

// charges asserts how many charges are on the ledger, each under a key of its
// own.
func charges(t *testing.T, s *stage.Stage, n int) {
	t.Helper()
	charged, err := s.Charged()
	require.NoError(t, err)
	require.Len(t, charged, n)
	for key, times := range charged {
		require.Equal(t, 1, times, key)
	}
}
