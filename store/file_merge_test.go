//go:build linux || darwin

package store

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// mergeAll copies all that counts to a new segment.
func mergeAll(t *testing.T, f *File) {
	t.Helper()
	inLog(t, f, func(l *log) {
		require.NoError(t, l.rotate())
		for last := l.last().n; l.segments[0].n < last; {
			require.NoError(t, l.merge(clock()))
		}
	})
}

func TestFile_MergeKeepsWhatIsRemembered(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	f, other := newFile(t, dir), newFile(t, dir)
	want := putOpen(t, f)
	short := testBid("short", "a")
	short.TTL = time.Millisecond
	_, err := f.Settle(t.Context(), short, testSuccess)
	require.NoError(t, err)
	var ends uint32
	inLog(t, f, func(l *log) { ends = l.index.entries[idOf("short")].expires })
	loaded := map[string]Record{}
	for _, keys := range want {
		for _, key := range keys {
			loaded[key], err = f.Load(t.Context(), key)
			require.NoError(t, err)
		}
	}
	for range 3 {
		mergeAll(t, f)
		for _, f := range []*File{f, other, newFile(t, dir)} {
			requireOpen(t, f, want)
			for key, was := range loaded {
				r, err := f.Load(t.Context(), key)
				require.NoError(t, err)
				r.Now = was.Now
				require.Equal(t, was, r)
			}
			require.NoError(t, f.Check(t.Context()), "nobody has removed anything")
		}
	}
	require.Len(t, segmentsIn(t, dir), 1)
	require.Eventually(t, func() bool { return over(ends, clock()) }, 5*time.Second, time.Millisecond)
	mergeAll(t, f)
	inLog(t, f, func(l *log) { require.NotContains(t, l.index.entries, idOf("short")) })
	inLog(t, other, func(l *log) { require.NotContains(t, l.index.entries, idOf("short")) })
	_, err = f.Acquire(t.Context(), testBid("running0", "b"))
	require.NoError(t, err)
	require.Len(t, f.claims.held, 3, "the claims are still its")
}

// A store that is written to for long has twice as much on the disk as it remembers, at
// the most.
func TestFile_WritesTidyUp(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	f, other := newFile(t, dir), newFile(t, dir)
	o := Outcome{State: Succeeded, Data: []byte(strings.Repeat("x", 10_000))}
	for i := range 2000 {
		b := testBid(fmt.Sprint("k", i%20), fmt.Sprint("a", i))
		if i%2 == 0 { // its record ends with the second
			b.TTL, b.Key = time.Millisecond, fmt.Sprint("short", i)
		}
		_, err := []*File{f, other}[i/100%2].Settle(t.Context(), b, o)
		if i >= 20 && i%2 == 1 {
			require.ErrorIs(t, err, ErrConflict)
		} else {
			require.NoError(t, err)
		}
	}
	size := int64(0)
	for _, path := range segmentsIn(t, dir) {
		info, err := os.Stat(path)
		require.NoError(t, err)
		size += info.Size()
	}
	inLog(t, f, func(l *log) {
		require.Less(t, size, 2*l.index.remembered(clock())+3*mergeFrom, "of %d segments", len(l.segments))
	})
	for i := range 10 {
		r, err := newFile(t, dir).Load(t.Context(), fmt.Sprint("k", 2*i+1))
		require.NoError(t, err)
		require.Equal(t, o, r.Outcome)
	}
}

// A handle that slept while all that it knew was replaced reads the log anew.
func TestFile_SleeperReadsTheLogAnew(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	f, sleeper := newFile(t, dir), newFile(t, dir)
	_, err := sleeper.Settle(t.Context(), testBid("k", "a"), testSuccess)
	require.NoError(t, err)
	b := testBid("l", "a")
	_, err = sleeper.Acquire(t.Context(), b)
	require.NoError(t, err)
	for range 5 {
		mergeAll(t, f)
	}
	_, err = f.Settle(t.Context(), testBid("m", "a"), testSuccess)
	require.NoError(t, err)
	for _, key := range []string{"k", "m"} {
		r, err := sleeper.Acquire(t.Context(), testBid(key, "b"))
		require.NoError(t, err)
		require.Equal(t, testSuccess, r.Outcome)
	}
	_, err = sleeper.Settle(t.Context(), b, testSuccess)
	require.NoError(t, err)
	require.NoError(t, sleeper.Check(t.Context()))
}

// What was erased is not in the log any more.
func TestFile_ErasedRecordIsOverwritten(t *testing.T) {
	t.Parallel()
	for _, merged := range []bool{false, true} {
		dir := t.TempDir()
		f := newFile(t, dir)
		b := testBid("k", "a")
		b.Info.Holder.WorkflowID = "personal"
		_, err := f.Acquire(t.Context(), b)
		require.NoError(t, err)
		r, err := f.Settle(t.Context(), b, testSuccess)
		require.NoError(t, err)
		if merged {
			inLog(t, f, func(l *log) { require.NoError(t, l.rotate()) })
		}
		_, err = f.Resolve(t.Context(), "k", r, Resolution{ID: "1", To: Tombstone, Erase: true, By: ByOperator, Who: "me"})
		require.NoError(t, err)
		for _, path := range segmentsIn(t, dir) {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NotContains(t, string(text), "personal")
		}
		for _, f := range []*File{f, newFile(t, dir)} {
			r, err = f.Load(t.Context(), "k")
			require.NoError(t, err)
			require.Equal(t, Tombstone, r.State)
			inLog(t, f, func(l *log) { require.Empty(t, l.index.unknown) })
		}
	}
}
