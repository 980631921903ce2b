package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/samples/internal/stage"
)

func TestWebhook_ChargesOncePerEvent(t *testing.T) {
	t.Parallel()
	s, err := stage.Open(t.Context(), t.TempDir(), t.Output())
	require.NoError(t, err)
	t.Cleanup(s.Close)

	require.NoError(t, play(t.Context(), s))
	charged, err := s.Charged()
	require.NoError(t, err)
	require.Equal(t, map[string]int{"evt-1": 1, "evt-2": 1}, charged)
}
