//go:build linux || darwin

package store_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/storetest"
)

// Tests do not outlive the host: they may be on a file system in memory.
var anywhere = store.FileOptions{AnyFileSystem: true}

func openFile(tb testing.TB, dir string) *store.File {
	tb.Helper()
	f, err := store.NewFile(dir, anywhere)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, f.Close()) })
	return f
}

func TestFile_SaysItsKind(t *testing.T) {
	t.Parallel()
	var s store.Store = openFile(t, t.TempDir())
	require.Equal(t, "file", s.(store.Kinded).Kind())
	require.True(t, s.(store.OwnerWatcher).SeesDeath())
}

func fileBid(key, owner string) store.Bid {
	return store.Bid{Key: key, Owner: owner, Lease: time.Minute, TTL: time.Hour, Began: true}
}

// acquired returns a claim that has the key.
func acquired(tb testing.TB, f *store.File, key, owner string) store.Bid {
	tb.Helper()
	b := fileBid(key, owner)
	r, err := f.Acquire(tb.Context(), b)
	require.NoError(tb, err)
	require.True(tb, r.Owned(owner), "%s of %s", r.State, r.Owner)
	b.Fence = r.Fence
	return b
}

var success = store.Outcome{State: store.Succeeded, Data: []byte("42"), Context: "json"}

// filesIn returns the paths of the files with that extension below dir.
func filesIn(tb testing.TB, dir, ext string) []string {
	tb.Helper()
	var found []string
	require.NoError(tb, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ext {
			found = append(found, path)
		}
		return err
	}))
	return found
}

func TestFile_Conforms(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Harness {
		dir := t.TempDir()
		return storetest.Harness{
			Open: func(tb testing.TB) store.Store { return openFile(tb, dir) },
			Die: func(tb testing.TB, s store.Store, _ time.Duration) {
				tb.Helper()
				require.NoError(tb, s.(*store.File).Close())
			},
			LeaseByLock: true,
		}
	})
}

func TestFile_TwoHandlesInOneProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, second := openFile(t, dir), openFile(t, dir)
	acquired(t, first, "k", "a")

	r, err := second.Acquire(t.Context(), fileBid("k", "b"))
	require.NoError(t, err)
	require.True(t, r.Owned("a"))
	require.Equal(t, r.Now.Add(time.Minute), r.LeaseEnd, "the hint for when to ask again")

	require.NoError(t, first.Close())
	r, err = second.Acquire(t.Context(), fileBid("k", "b"))
	require.NoError(t, err)
	require.Equal(t, store.InDoubt, r.State)
	require.True(t, r.Marked)
	require.Empty(t, filesIn(t, dir, ".claim"))
}

func TestFile_LockOutlivesLease(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, second := openFile(t, dir), openFile(t, dir)
	b := fileBid("k", "a")
	b.Lease = time.Millisecond
	r, err := first.Acquire(t.Context(), b)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return time.Now().After(r.LeaseEnd) }, time.Second, time.Millisecond)

	r, err = second.Acquire(t.Context(), fileBid("k", "b"))
	require.NoError(t, err)
	require.True(t, r.Owned("a"))
}

func TestFile_ClaimEndsWithItsRun(t *testing.T) {
	t.Parallel()
	end := func(o store.State) func(*testing.T, *store.File, store.Bid) {
		return func(t *testing.T, f *store.File, b store.Bid) {
			t.Helper()
			_, err := f.Settle(t.Context(), b, store.Outcome{State: o})
			require.NoError(t, err)
		}
	}
	for name, end := range map[string]func(*testing.T, *store.File, store.Bid){
		"succeeded": end(store.Succeeded), "failed": end(store.Failed), "doubt": end(store.InDoubt), "pending": end(store.Pending),
		"released": func(t *testing.T, f *store.File, b store.Bid) {
			t.Helper()
			_, err := f.Release(t.Context(), b)
			require.NoError(t, err)
		},
		"superseded": func(t *testing.T, f *store.File, b store.Bid) {
			t.Helper()
			r, err := f.Load(t.Context(), b.Key)
			require.NoError(t, err)
			_, err = f.Resolve(t.Context(), b.Key, r, store.Resolution{ID: "1", To: store.Failed, By: store.ByOperator, TTL: time.Hour, Force: true})
			require.NoError(t, err)
			_, err = f.Renew(t.Context(), b)
			require.ErrorIs(t, err, store.ErrSuperseded)
		},
		"forgotten": func(t *testing.T, f *store.File, b store.Bid) {
			t.Helper()
			require.NoError(t, f.Clear(t.Context()))
			_, err := f.Renew(t.Context(), b)
			require.ErrorIs(t, err, store.ErrGone)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f := openFile(t, dir)
			b := acquired(t, f, "k", "a")
			require.Equal(t, 1, store.Claims(f))
			end(t, f, b)
			require.Zero(t, store.Claims(f))
			acquired(t, f, "l", "b")
			require.Len(t, filesIn(t, dir, ".claim"), 1, "its slot serves for the next one")
		})
	}
}

func TestFile_RenewWritesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := openFile(t, dir)
	b := acquired(t, f, "k", "a")
	before, err := os.Stat(filesIn(t, dir, ".log")[0])
	require.NoError(t, err)

	r, err := f.Renew(t.Context(), b)
	require.NoError(t, err)
	require.Equal(t, r.Now.Add(b.Lease), r.LeaseEnd)
	after, err := os.Stat(filesIn(t, dir, ".log")[0])
	require.NoError(t, err)
	require.Equal(t, before.Size(), after.Size())

	b.TTL = 48 * time.Hour
	r, err = f.Renew(t.Context(), b)
	require.NoError(t, err)
	require.False(t, r.Expires.Before(r.Now.Add(b.TTL)), "a record outlives a run that is longer than it was promised")
	loaded, err := f.Load(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, r.Expires, loaded.Expires)
}

func TestFile_RenewHealsALostLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	owner, other := openFile(t, dir), openFile(t, dir)
	b := acquired(t, owner, "k", "a")
	wipe := func() {
		for _, path := range filesIn(t, dir, ".claim") {
			require.NoError(t, os.Remove(path))
		}
	}

	wipe()
	_, err := owner.Renew(t.Context(), b)
	require.NoError(t, err)
	r, err := other.Acquire(t.Context(), fileBid("k", "b"))
	require.NoError(t, err)
	require.True(t, r.Owned("a"), "renewed in time")

	wipe()
	r, err = other.Acquire(t.Context(), fileBid("k", "b"))
	require.NoError(t, err)
	require.True(t, r.Marked, "marked before the renewal")
	r, err = owner.Renew(t.Context(), b)
	require.NoError(t, err)
	require.True(t, r.Owned("a"), "taken back")
	r, err = other.Acquire(t.Context(), fileBid("k", "b"))
	require.NoError(t, err)
	require.True(t, r.Owned("a"), "and alive for others")
}

func TestFile_Modes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "store")
	acquired(t, openFile(t, dir), "k", "a")
	require.NoError(t, filepath.WalkDir(filepath.Dir(dir), func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		require.Equal(t, want, info.Mode().Perm(), path)
		return nil
	}))
}

func TestFile_NotADirectory(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err := store.NewFile(path, anywhere)
	require.ErrorContains(t, err, "not a directory")
	require.ErrorContains(t, err, path)
	_, err = store.NewFile(filepath.Join(path, "below"), anywhere)
	require.ErrorContains(t, err, "not a directory")
}

func TestFile_CheckSeesAnotherDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	f := openFile(t, dir)
	require.NoError(t, f.Check(t.Context()))

	require.NoError(t, os.Rename(dir, dir+"-moved"))
	require.ErrorIs(t, f.Check(t.Context()), store.ErrUnsafe)
	_, err := f.Acquire(t.Context(), fileBid("k", "a"))
	require.ErrorIs(t, err, fs.ErrNotExist, "a lost directory has no free keys")
	openFile(t, dir)
	require.ErrorIs(t, f.Check(t.Context()), store.ErrUnsafe)
}

func TestFile_Closed(t *testing.T) {
	t.Parallel()
	f := openFile(t, t.TempDir())
	b := acquired(t, f, "k", "a")
	require.NoError(t, f.Close())
	require.NoError(t, f.Close())
	_, err := f.Renew(t.Context(), b)
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = f.Load(t.Context(), "k")
	require.ErrorIs(t, err, fs.ErrClosed)
	for _, err := range f.List(t.Context(), store.Query{}) {
		require.ErrorIs(t, err, fs.ErrClosed)
	}
}

func TestFile_KeyThatIsNotText(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := openFile(t, dir)
	keys := []string{"\xff", "\xfe", "\ufffd", "a\xc3\x28"}
	for i, key := range keys {
		b := acquired(t, f, key, "a")
		o := success
		o.Data = []byte(fmt.Sprint(i))
		_, err := f.Settle(t.Context(), b, o)
		require.NoError(t, err)
	}
	var listed []string
	for r, err := range openFile(t, dir).List(t.Context(), store.Query{}) {
		require.NoError(t, err)
		require.Equal(t, keys[r.Outcome.Data[0]-'0'], r.Key)
		listed = append(listed, r.Key)
	}
	require.ElementsMatch(t, keys, listed)
}

func TestFile_WaitsNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := openFile(t, dir)
	acquired(t, f, "k", "a")
	other := flock.New(filepath.Join(dir, "lock"))
	require.NoError(t, other.Lock())

	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := f.Acquire(ctx, fileBid("k", "b"))
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	require.NoError(t, other.Unlock())
	r, err := f.Acquire(t.Context(), fileBid("k", "b"))
	require.NoError(t, err, "what gave up does not keep the lock")
	require.True(t, r.Owned("a"))
}
