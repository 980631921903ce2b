//go:build linux || darwin

package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFile_NotifiesOfItsOwnWritesAtOnce(t *testing.T) {
	t.Parallel()
	f := openFile(t, t.TempDir())
	b := acquired(t, f, "k", "a")
	changed := make(chan struct{}, 1)
	stop := f.Notify("k", changed)
	defer stop()
	_, err := f.Settle(t.Context(), b, success)
	require.NoError(t, err)
	require.Len(t, changed, 1)
}

func TestFile_NotifiesOfWhatAnotherHandleHasWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, other := openFile(t, dir), openFile(t, dir)
	b := acquired(t, other, "k", "a")
	changed, again := make(chan struct{}, 1), make(chan struct{}, 1)
	stop := f.Notify("k", changed)
	defer f.Notify("k", again)()
	_, err := other.Settle(t.Context(), b, success)
	require.NoError(t, err)
	<-changed
	<-again
	stop()
	require.NoError(t, other.Clear(t.Context()))
	<-again
	require.Empty(t, changed)
}
