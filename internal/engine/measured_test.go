package engine

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

// ownStore is a store of somebody's own that says its kind.
type ownStore struct{ store.Store }

func (ownStore) Kind() string { return "postgres" }

func TestStoreKind_IsWhatTheStoreSays(t *testing.T) {
	t.Parallel()
	memory := store.NewMemory(store.MemoryOptions{})
	require.Equal(t, "memory", kindOf(memory))
	require.Equal(t, "postgres", kindOf(ownStore{memory}))
	require.Equal(t, "other", kindOf(struct{ store.Store }{memory}), "it does not say")
}
