package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

func TestFile_RefusesUnsafeFileSystems(t *testing.T) {
	t.Parallel()
	_, err := store.NewFile("/proc/self", store.FileOptions{})
	require.ErrorIs(t, err, store.ErrUnsafe)
	require.ErrorContains(t, err, "/proc/self is on file system type 0x9fa0")
	require.ErrorContains(t, err, "AnyFileSystem")

	_, err = store.NewFile("/proc/self", anywhere)
	require.ErrorIs(t, err, store.ErrInvalid)
	require.NotErrorIs(t, err, store.ErrUnsafe, "its own files are there")
}
