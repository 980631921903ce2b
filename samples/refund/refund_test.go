package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/samples/internal/stage"
)

func TestSaga_ChargesAndRefundsOnceEach(t *testing.T) {
	t.Parallel()
	s, err := stage.Open(t.Context(), t.TempDir(), t.Output())
	require.NoError(t, err)
	t.Cleanup(s.Close)

	require.NoError(t, play(t.Context(), s))
	ledger, err := s.Charged()
	require.NoError(t, err)
	require.Equal(t, map[string]int{
		"order-1": 2, // and once more after it was reopened
		"order-2": 1,

		"refund of ch_1": 1, // of order-1
		"refund of ch_3": 1, // of order-2
	}, ledger)
}
