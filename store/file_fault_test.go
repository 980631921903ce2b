//go:build linux || darwin

package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
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
// called. It counts the syncs that came to their end.
func failAt(f *File, point string, err error) (mend func(), synced *atomic.Int32) {
	synced = new(atomic.Int32)
	step := func(at string) error {
		if at == point {
			return err
		}
		if at == "fsync" {
			synced.Add(1)
		}
		return nil
	}
	f.dir.step.Store(&step)
	return func() {
		step := func(at string) error {
			if at == "fsync" {
				synced.Add(1)
			}
			return nil
		}
		f.dir.step.Store(&step)
	}, synced
}

var errDisk = errors.New("the disk failed")

func TestFile_FailedWriteIsRepeated(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"write", "fsync"} {
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
			if point == "write" {
				r, err := other.Acquire(t.Context(), testBid("k", "b"))
				require.NoError(t, err)
				require.True(t, r.Owned("a"), "alive while its outcome is not written")
			}

			mend()
			r, err := f.Settle(t.Context(), b, testSuccess)
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
	for _, point := range []string{"fsync", "dirsync"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			f := newFile(t, t.TempDir())
			b := testBid("k", "a")
			inLog(t, f, func(l *log) { require.NoError(t, l.rotate()) }) // a new name
			mend, synced := failAt(f, point, errDisk)
			failing := f.dir.step.Load()
			step := func(at string) error {
				if at == "begun" {
					return errDisk // nor can it be written anew
				}
				return (*failing)(at)
			}
			f.dir.step.Store(&step)
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
			before := synced.Load()

			mend()
			for range 2 {
				r, err := f.Acquire(t.Context(), b)
				require.NoError(t, err)
				require.True(t, r.Owned("a"))
			}
			require.Equal(t, before+1, synced.Load())
			require.Len(t, segmentsIn(t, f.dir.path), 3, "what was not synced is not synced again, but written anew")
		})
	}
}

// segmentsIn returns the paths of the segments of a store.
func segmentsIn(tb testing.TB, dir string) []string {
	tb.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, logName, "*"+segmentExt))
	require.NoError(tb, err)
	return paths
}

func TestFile_FullDiskIsNotCertainAboutAnUnsureRecord(t *testing.T) {
	t.Parallel()
	f := newFile(t, t.TempDir())
	failAt(f, "fsync", errDisk)
	_, err := f.Acquire(t.Context(), testBid("k", "a"))
	require.ErrorIs(t, err, errDisk)
	failAt(f, "begun", syscall.ENOSPC)
	_, err = f.Acquire(t.Context(), testBid("k", "a"))
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrFull, "the first call may have been applied")
}

// An owner that cannot be asked after may live: nothing is decided about it.
func TestFile_UnreadableClaimIsNotADeadOwner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, other := newFile(t, dir), newFile(t, dir)
	_, err := f.Acquire(t.Context(), testBid("k", "a"))
	require.NoError(t, err)
	claim := claimOf(t, f, "k")
	require.NoError(t, os.Rename(claim, claim+".aside"))
	require.NoError(t, os.Symlink(claim, claim)) // which nobody can open
	for range 2 {
		_, err = other.Acquire(t.Context(), testBid("k", "b"))
		require.ErrorIs(t, err, syscall.ELOOP)
		require.ErrorContains(t, err, "cannot tell whether the owner lives")
	}
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

// claimOf returns the path of the slot of a running record.
func claimOf(t *testing.T, f *File, key string) string {
	t.Helper()
	var claim string
	inLog(t, f, func(l *log) {
		r, err := f.records.find(l, key, clock())
		require.NoError(t, err)
		claim = f.claims.path(r.claim)
	})
	return claim
}

// inLog does something under the lock of the store.
func inLog(t *testing.T, f *File, do func(l *log)) {
	t.Helper()
	begun, done := make(chan *log), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- f.queue.ask(&request{ctx: context.WithoutCancel(t.Context()), job: func(l *log) (durable, error) {
			begun <- l
			<-done
			return durable{}, nil
		}})
	}()
	select {
	case l := <-begun:
		defer func() {
			close(done)
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
		do(l)
	case err := <-ended:
		require.NoError(t, err)
	}
}

// memoryDir returns a directory in memory where the host has one.
func memoryDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "atmostonce-") //nolint:usetesting // TempDir is on a disk
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
