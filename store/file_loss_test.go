//go:build linux || darwin

package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

func TestFile_RemovedDirectoryComesBackAndIsReported(t *testing.T) {
	t.Parallel()
	for name, use := range map[string]func(*testing.T, *store.File){
		"acquire": func(t *testing.T, f *store.File) { t.Helper(); acquired(t, f, "k", "b") },
		"settle": func(t *testing.T, f *store.File) {
			t.Helper()
			r, err := f.Settle(t.Context(), fileBid("k", "b"), success)
			require.NoError(t, err)
			require.True(t, r.Forgotten)
		},
		"renew": func(t *testing.T, f *store.File) {
			t.Helper()
			_, err := f.Renew(t.Context(), fileBid("k", "a"))
			require.ErrorIs(t, err, store.ErrGone)
		},
		"load": func(t *testing.T, f *store.File) {
			t.Helper()
			r, err := f.Load(t.Context(), "k")
			require.NoError(t, err)
			require.Equal(t, store.Absent, r.State)
		},
		"nothing": func(*testing.T, *store.File) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f, other := openFile(t, dir), openFile(t, dir)
			acquired(t, f, "k", "a")
			for _, f := range []*store.File{f, other} {
				require.NoError(t, f.Check(t.Context()))
			}
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "log")))

			use(t, f)
			for _, f := range []*store.File{f, other} {
				err := f.Check(t.Context())
				require.ErrorIs(t, err, store.ErrForgot)
				require.ErrorContains(t, err, dir)
				require.NoError(t, f.Check(t.Context()), "told once")
			}
			require.DirExists(t, filepath.Join(dir, "log"))
			_, err := f.Settle(t.Context(), fileBid("k", "a"), success)
			require.NotErrorIs(t, err, os.ErrNotExist)
		})
	}
}

func TestFile_RemovedLockIsReported(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := openFile(t, dir)
	acquired(t, f, "k", "a")
	require.NoError(t, os.Remove(filepath.Join(dir, "lock")))
	r, err := f.Acquire(t.Context(), fileBid("k", "b"))
	require.NoError(t, err)
	require.True(t, r.Owned("a"))
	require.ErrorIs(t, f.Check(t.Context()), store.ErrForgot)
	require.NoError(t, f.Check(t.Context()))
}

// A directory that is empty anew, at the place of the old one.
func TestFile_ReplacedDirectoryIsReported(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := openFile(t, dir)
	acquired(t, f, "k", "a")
	require.NoError(t, f.Check(t.Context()))
	log := filepath.Join(dir, "log")
	require.NoError(t, os.Rename(log, log+"-old"))
	require.NoError(t, os.Mkdir(log, 0o700))
	acquired(t, f, "k", "b")
	require.ErrorIs(t, f.Check(t.Context()), store.ErrForgot)
}

// A log of which a part is missing says so also to who opens it.
func TestFile_MissingSegmentIsReported(t *testing.T) {
	t.Parallel()
	for _, missing := range []int{0, 1} {
		dir := t.TempDir()
		f := openFile(t, dir)
		acquired(t, f, "k", "a")
		store.Rotate(t, f)
		acquired(t, f, "l", "a")
		store.Rotate(t, f)
		acquired(t, f, "m", "a")
		require.NoError(t, os.Remove(filesIn(t, dir, ".log")[missing]))
		again := openFile(t, dir)
		require.ErrorIs(t, again.Check(t.Context()), store.ErrForgot)
		require.NoError(t, again.Check(t.Context()), "told once")
		r, err := again.Load(t.Context(), "m")
		require.NoError(t, err)
		require.True(t, r.Owned("a"))
	}
}

// A store that was opened when nothing was wrong has nothing to report, whoever
// else opens it at the same time.
func TestFile_OpeningAtOnceReportsNoLoss(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			f, err := store.NewFile(dir, anywhere)
			if err == nil {
				_, err = f.Acquire(t.Context(), fileBid(fmt.Sprint(i), "a"))
			}
			if err == nil {
				err = f.Check(t.Context())
			}
			if err == nil {
				err = f.Close()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// Whatever an operator removes meanwhile, no two callers get the key.
func TestFile_RemovalWhileCallersContend(t *testing.T) {
	t.Parallel()
	const callers = 4
	dir := memoryDir(t)
	handles := make([]*store.File, callers)
	for i := range handles {
		handles[i] = openFile(t, dir)
	}
	acquired(t, handles[0], "k", "warm")
	deadline := time.Now().Add(2 * time.Second)
	for round := 0; time.Now().Before(deadline); round++ {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		for os.RemoveAll(filepath.Join(dir, "log")) != nil { // somebody made a file meanwhile
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		granted := map[string]uint64{}
		for i, f := range handles {
			owner := fmt.Sprintf("%d-%d", round, i)
			all.Go(func() {
				r, err := f.Acquire(ctx, fileBid("k", owner))
				if err == nil && r.Owned(owner) {
					mu.Lock()
					defer mu.Unlock()
					granted[owner] = r.Fence
				}
			})
		}
		all.Go(func() { // what is removed is only the lock: the records stay
			_ = os.Remove(filepath.Join(dir, "lock"))
		})
		all.Wait()
		cancel()
		require.LessOrEqual(t, len(granted), 1, "round %d", round)
	}
}
