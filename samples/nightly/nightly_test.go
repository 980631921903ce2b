package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/samples/internal/stage"
)

func TestNightly_MailsOncePerDate(t *testing.T) {
	t.Parallel()
	s, err := stage.Open(t.Context(), t.TempDir(), t.Output())
	require.NoError(t, err)
	t.Cleanup(s.Close)

	require.NoError(t, play(t.Context(), s))
	mailed, err := s.Charged()
	require.NoError(t, err)
	require.Equal(t, map[string]int{"2026-01-31": 1, "2026-02-01": 1}, mailed)
}
