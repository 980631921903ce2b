//go:build linux || darwin

package store

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ahead sets the host's clock, as a record sees it: it expired long ago.
func ahead(t *testing.T, f *File, key string) {
	t.Helper()
	inLog(t, f, func(l *log) {
		e := l.index.entries[idOf(key)]
		text, err := l.lineAt(e)
		require.NoError(t, err)
		r, claim, err := decodeLine(text)
		require.NoError(t, err)
		r.Expires = r.Expires.AddDate(-2, 0, 0)
		_, err = f.records.write(l, &stored{Record: r, claim: claim, line: e})
		require.NoError(t, err)
	})
}

// stillRunning checks that nobody takes the record of a living owner for expired.
func stillRunning(t *testing.T, f *File, owner string) {
	t.Helper()
	for range 2 {
		r, err := f.Load(t.Context(), "k")
		require.NoError(t, err)
		require.True(t, r.Owned(owner), "%s of %s", r.State, r.Owner)
		listed := 0
		for r, err := range f.List(t.Context(), Query{State: Running}) {
			require.NoError(t, err)
			require.True(t, r.Owned(owner))
			listed++
		}
		require.Equal(t, 1, listed)
		mergeAll(t, f)
		newFile(t, f.dir.path) // looks at claims
	}
	r, err := f.Acquire(t.Context(), testBid("k", "other"))
	require.NoError(t, err)
	require.True(t, r.Owned(owner), "%s of %s", r.State, r.Owner)
	require.True(t, r.Expires.After(r.Now), "the question was contact")
}

func TestFile_LivingOwnerDoesNotExpire(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	owner, other := newFile(t, dir), newFile(t, dir)
	b := testBid("k", "a")
	_, err := owner.Acquire(t.Context(), b)
	require.NoError(t, err)
	for _, f := range []*File{other, owner} {
		ahead(t, owner, "k")
		stillRunning(t, f, "a")
	}
	ahead(t, owner, "k")
	r, err := owner.Renew(t.Context(), b)
	require.NoError(t, err)
	require.True(t, r.Expires.After(r.Now))
	ahead(t, owner, "k")
	r, err = owner.Settle(t.Context(), b, testSuccess)
	require.NoError(t, err)
	require.False(t, r.Forgotten)

	ahead(t, owner, "k")
	r, err = other.Load(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, Absent, r.State, "what is settled does")
	require.Equal(t, "k", r.Key)
}

func TestFile_StoppedOwnerDoesNotExpire(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFile(t, dir)
	owner := startChild(t, "contend", "child", dir)
	owner.ask(t, "k")
	require.Equal(t, "true <nil>", owner.hear(t))
	require.NoError(t, owner.cmd.Process.Signal(syscall.SIGSTOP))
	ahead(t, f, "k")
	stillRunning(t, f, "child")

	ahead(t, f, "k")
	owner.kill()
	r, err := f.Acquire(t.Context(), testBid("k", "b"))
	require.NoError(t, err)
	require.True(t, r.Owned("b"), "a dead owner's record is remembered for its TTL")
	require.Less(t, time.Since(r.Claimed), time.Minute)
}

// An owner that cannot be asked after may live: its record does not expire.
func TestFile_UnreadableClaimDoesNotExpire(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, other := newFile(t, dir), newFile(t, dir)
	_, err := f.Acquire(t.Context(), testBid("k", "a"))
	require.NoError(t, err)
	ahead(t, f, "k")
	claim := claimOf(t, f, "k")
	require.NoError(t, os.Rename(claim, claim+".aside"))
	require.NoError(t, os.Symlink(claim, claim)) // which nobody can open
	_, err = other.Acquire(t.Context(), testBid("k", "b"))
	require.ErrorIs(t, err, syscall.ELOOP)
	_, err = other.Load(t.Context(), "k")
	require.ErrorIs(t, err, syscall.ELOOP)
	for _, err := range other.List(t.Context(), Query{}) {
		require.ErrorIs(t, err, syscall.ELOOP)
	}
	inLog(t, other, func(l *log) {
		require.NoError(t, l.rotate())
		require.ErrorIs(t, l.merge(clock()), syscall.ELOOP)
	})

	require.NoError(t, os.Remove(claim))
	require.NoError(t, os.Rename(claim+".aside", claim))
	stillRunning(t, other, "a")
}
