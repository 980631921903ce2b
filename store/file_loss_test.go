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

// shardOf is the directory of the only record in dir.
func shardOf(t *testing.T, dir string) string {
	t.Helper()
	records := filesIn(t, dir, ".json")
	require.Len(t, records, 1)
	return filepath.Dir(records[0])
}

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
			shard := shardOf(t, dir)
			require.NoError(t, os.RemoveAll(shard))

			use(t, f)
			for _, f := range []*store.File{f, other} {
				err := f.Check(t.Context())
				require.ErrorIs(t, err, store.ErrForgot)
				require.ErrorContains(t, err, shard)
				require.ErrorContains(t, err, "in 1 of its 256 directories")
				require.NoError(t, f.Check(t.Context()), "told once")
			}
			require.DirExists(t, shard)
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
	require.NoError(t, os.Remove(filepath.Join(shardOf(t, dir), "lock")))
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
	shard := shardOf(t, dir)
	require.NoError(t, os.Rename(shard, shard+"-old"))
	require.NoError(t, os.Mkdir(shard, 0o700))
	acquired(t, f, "k", "b")
	require.ErrorIs(t, f.Check(t.Context()), store.ErrForgot)
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
	shard := shardOf(t, dir)
	deadline := time.Now().Add(2 * time.Second)
	for round := 0; time.Now().Before(deadline); round++ {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		require.NoError(t, os.RemoveAll(shard))
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
			_ = os.Remove(filepath.Join(shard, "lock"))
		})
		all.Wait()
		cancel()
		require.LessOrEqual(t, len(granted), 1, "round %d", round)
	}
}
