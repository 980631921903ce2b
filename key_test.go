package atmostonce_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// Stores remember these: docs/stability.md promises them.
func TestFunc_KeysAreStable(t *testing.T) {
	t.Parallel()
	s := store.NewMemory(store.MemoryOptions{})
	g := newGuardOver(t, s, atmostonce.Options{})
	_, err := atmostonce.Func(g, "charge", byID, echo)(t.Context(), event{ID: "7"})
	require.NoError(t, err)
	_, err = atmostonce.Func(g, "charge", once.Policy{}, echo)(t.Context(), event{ID: "7", Note: "x"})
	require.NoError(t, err)
	_, err = atmostonce.Do(t.Context(), g, "report", "2026-01-02", func(context.Context) (int, error) { return 1, nil })
	require.NoError(t, err)
	var all []string
	for r, err := range s.List(t.Context(), store.Query{}) {
		require.NoError(t, err)
		all = append(all, r.Key)
	}
	require.ElementsMatch(t, []string{
		"v1/functions/n/charge/k:7",
		"v1/functions/n/charge/h:4eedeca1302b81e18d12f7f56598d68c16aca7cd1c2fa9620092b88e5ad64e86",
		"v1/functions/n/report/k:2026-01-02",
	}, all)
}
