//go:build linux || darwin

package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func newFile(tb testing.TB, dir string) *File {
	tb.Helper()
	f, err := NewFile(dir, FileOptions{AnyFileSystem: true})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, f.Close()) })
	return f
}

func testBid(key, owner string) Bid {
	return Bid{Key: key, Owner: owner, Lease: time.Minute, TTL: time.Hour, Began: true}
}

var testSuccess = Outcome{State: Succeeded, Data: []byte("42"), Context: "json"}

// failAt makes f's writes fail once they have come to point, until it is
// called. It counts the writes that came to their end.
func failAt(f *File, point string, err error) (mend func(), written *int) {
	written = new(int)
	f.dir.step = func(at string) error {
		if at == point {
			return err
		}
		if at == "dirsync" {
			*written++
		}
		return nil
	}
	return func() { point = "" }, written
}

var errDisk = errors.New("the disk failed")

func TestFile_FailedWriteLeavesTheOldRecord(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"create", "write", "fsync"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f, other := newFile(t, dir), newFile(t, dir)
			b := testBid("k", "a")
			_, err := f.Acquire(t.Context(), b)
			require.NoError(t, err)

			mend, _ := failAt(f, point, errDisk)
			_, err = f.Settle(t.Context(), b, testSuccess)
			require.ErrorIs(t, err, errDisk)
			r, err := other.Acquire(t.Context(), testBid("k", "b"))
			require.NoError(t, err)
			require.True(t, r.Owned("a"), "alive while its outcome is not written")
			require.NoFileExists(t, strings.TrimSuffix(locate(dir, "k").path, recordExt)+tempExt,
				"a file that could not be synced is not synced again")

			mend()
			r, err = f.Settle(t.Context(), b, testSuccess)
			require.NoError(t, err)
			require.Equal(t, Succeeded, r.State)
		})
	}
}

func TestFile_FailedGrantHoldsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, other := newFile(t, dir), newFile(t, dir)
	failAt(f, "write", syscall.ENOSPC)
	_, err := f.Acquire(t.Context(), testBid("k", "a"))
	require.ErrorIs(t, err, ErrFull)
	require.Empty(t, f.claims.held)

	r, err := other.Acquire(t.Context(), testBid("k", "b"))
	require.NoError(t, err)
	require.True(t, r.Owned("b"))
}

// A grant that is in place, but not durable, must not be confirmed by its
// repetition: after a power failure nobody would know of it.
func TestFile_RepetitionMakesDurable(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"rename", "dirsync"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			f := newFile(t, t.TempDir())
			b := testBid("k", "a")
			mend, written := failAt(f, point, errDisk)
			for range 2 {
				_, err := f.Acquire(t.Context(), b)
				require.ErrorIs(t, err, errDisk)
			}
			require.Empty(t, f.claims.held, "nobody knows that it may have been granted")
			_, err := f.Load(t.Context(), "k")
			require.ErrorIs(t, err, errDisk, "what is told must be true after a power failure")
			for _, err := range f.List(t.Context(), Query{}) {
				require.ErrorIs(t, err, errDisk)
			}
			require.Zero(t, *written)

			mend()
			for range 2 {
				r, err := f.Acquire(t.Context(), b)
				require.NoError(t, err)
				require.True(t, r.Owned("a"))
			}
			require.Equal(t, 1, *written)
		})
	}
}

func TestFile_FullDiskIsNotCertainAboutAnUnsureRecord(t *testing.T) {
	t.Parallel()
	f := newFile(t, t.TempDir())
	failAt(f, "rename", errDisk)
	_, err := f.Acquire(t.Context(), testBid("k", "a"))
	require.ErrorIs(t, err, errDisk)
	failAt(f, "write", syscall.ENOSPC)
	_, err = f.Acquire(t.Context(), testBid("k", "a"))
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NotErrorIs(t, err, ErrFull, "the first call may have been applied")
}

// An owner that cannot be asked after may live: nothing is decided about it.
func TestFile_UnreadableClaimIsNotADeadOwner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, other := newFile(t, dir), newFile(t, dir)
	_, err := f.Acquire(t.Context(), testBid("k", "a"))
	require.NoError(t, err)
	claim := locate(dir, "k").claim("a")
	require.NoError(t, os.Rename(claim, claim+".aside"))
	require.NoError(t, os.Symlink(claim, claim)) // which nobody can open
	for range 2 {
		_, err = other.Acquire(t.Context(), testBid("k", "b"))
		require.ErrorIs(t, err, syscall.ELOOP)
		require.ErrorContains(t, err, "cannot tell whether the owner lives")
	}
	other.sweeper.sweep(locate("", "k").shard, clock())
	r, err := other.Load(t.Context(), "k")
	require.NoError(t, err)
	require.True(t, r.Owned("a"))

	require.NoError(t, os.Rename(claim+".aside", claim))
	r, err = other.Acquire(t.Context(), testBid("k", "b"))
	require.NoError(t, err)
	require.True(t, r.Owned("a"))
	_, err = f.Settle(t.Context(), testBid("k", "a"), testSuccess)
	require.NoError(t, err)
}

// keysOfOneShard returns n keys whose records are in one directory.
func keysOfOneShard(n int) []string {
	keys := []string{"k"}
	for i := 0; len(keys) < n; i++ {
		if key := fmt.Sprint("k", i); locate("", key).shard == locate("", "k").shard {
			keys = append(keys, key)
		}
	}
	return keys
}

func TestFile_SweepRemovesOnlyWhatIsOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFile(t, dir)
	keys := keysOfOneShard(5 + sweepLimit)
	for i, key := range keys {
		b := testBid(key, "a")
		if i >= 5 {
			b.TTL = time.Millisecond
		}
		_, err := f.Acquire(t.Context(), b)
		require.NoError(t, err)
		if i != 0 {
			_, err = f.Settle(t.Context(), b, Outcome{State: []State{Succeeded, Failed, InDoubt, Pending}[i%4]})
			require.NoError(t, err)
		}
	}
	left := strings.TrimSuffix(locate(dir, "k").path, recordExt)
	for _, name := range []string{left + tempExt, left + ".dead" + claimExt} {
		require.NoError(t, os.WriteFile(name, nil, 0o600))
	}
	corrupt := filepath.Join(filepath.Dir(left), strings.Repeat("f", 64)+recordExt)
	require.NoError(t, os.WriteFile(corrupt, nil, 0o600))

	names := func() int {
		names, err := f.dir.namesOf(locate("", "k").shard)
		require.NoError(t, err)
		return len(names)
	}
	// Five records, one of them running, the corrupt one, the lock, a claim, and the
	// index of three states.
	require.Eventually(t, func() bool {
		newFile(t, dir)
		return names() == 5+3+3
	}, 10*time.Second, time.Millisecond)
	require.FileExists(t, corrupt)
	for _, key := range keys[:5] {
		r, err := f.Load(t.Context(), key)
		require.NoError(t, err)
		require.NotEqual(t, Absent, r.State)
	}
	r, err := newFile(t, dir).Acquire(t.Context(), testBid("k", "b"))
	require.NoError(t, err)
	require.True(t, r.Owned("a"), "the sweep left a live claim alone")
}

func TestFile_WritesSweepTheirShard(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFile(t, dir)
	keys := keysOfOneShard(4 * sweepEvery)
	for _, key := range keys {
		b := testBid(key, "a")
		b.TTL = time.Millisecond
		_, err := f.Settle(t.Context(), b, testSuccess)
		require.NoError(t, err)
	}
	paths, err := f.dir.recordsOf(locate("", "k").shard)
	require.NoError(t, err)
	require.Less(t, len(paths), 2*sweepEvery)
}
