package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/samples/internal/stage"
)

func TestMain(m *testing.M) {
	if os.Getenv(isWorker) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestPayAll_PaysEachWageOnceAcrossADeploymentAndAKill(t *testing.T) {
	t.Parallel()
	s, err := stage.Open(t.Context(), t.TempDir(), t.Output())
	require.NoError(t, err)
	t.Cleanup(s.Close)

	require.NoError(t, play(t.Context(), s))
	paid, err := s.Charged()
	require.NoError(t, err)
	require.Len(t, paid, 300)
	for wage, times := range paid {
		require.Equal(t, 1, times, wage)
	}
}
