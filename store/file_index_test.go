//go:build linux || darwin

package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// putOpen writes three records of each open state, and others, and returns the keys
// of each state in the order of their listing.
func putOpen(t *testing.T, f *File) map[State][]string {
	t.Helper()
	want := map[State][]string{}
	for i := range 3 {
		for _, state := range []State{Running, InDoubt, Pending, Succeeded, Tombstone} {
			b := testBid(fmt.Sprint(state, i), "a")
			_, err := f.Acquire(t.Context(), b)
			require.NoError(t, err)
			switch state {
			case Running:
			case Tombstone:
				_, err = f.Release(t.Context(), b)
			default:
				_, err = f.Settle(t.Context(), b, Outcome{State: state})
			}
			require.NoError(t, err)
			want[state] = append(want[state], b.Key)
		}
	}
	return want
}

func listKeys(t *testing.T, f *File, state State) []string {
	t.Helper()
	keys := []string{}
	for r, err := range f.List(t.Context(), Query{State: state}) {
		require.NoError(t, err)
		keys = append(keys, r.Key)
	}
	return keys
}

func requireOpen(t *testing.T, f *File, want map[State][]string) {
	t.Helper()
	for _, state := range []State{Running, InDoubt, Pending} {
		require.Equal(t, want[state], listKeys(t, f, state))
	}
}

// What is open is found by every handle, whoever wrote it, and however it was opened.
func TestFile_ListsWhatIsOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, other := newFile(t, dir), newFile(t, dir)
	want := putOpen(t, f)
	for _, f := range []*File{f, other, newFile(t, dir)} {
		requireOpen(t, f, want)
	}
	r, err := other.Load(t.Context(), "in_doubt1")
	require.NoError(t, err)
	_, err = other.Resolve(t.Context(), "in_doubt1", r, Resolution{ID: "1", To: Failed, By: ByOperator, TTL: time.Hour})
	require.NoError(t, err)
	want[InDoubt] = []string{"in_doubt0", "in_doubt2"}
	for _, f := range []*File{f, other, newFile(t, dir)} {
		requireOpen(t, f, want)
	}
}

func TestFile_ListsByDigest(t *testing.T) {
	t.Parallel()
	f := newFile(t, t.TempDir())
	putOpen(t, f)
	for _, n := range []int{1, 2, 31, 32, 33, 64} {
		var keys []string
		for r, err := range f.List(t.Context(), Query{Digest: digest("in_doubt1")[:n]}) {
			require.NoError(t, err)
			keys = append(keys, r.Key)
		}
		require.Contains(t, keys, "in_doubt1", "%d digits", n)
		require.True(t, n < 31 || len(keys) == 1)
	}
	for _, prefix := range []string{"x", strings.Repeat("x", 64), strings.Repeat("0", 64), digest("k") + "0"} {
		for r, err := range f.List(t.Context(), Query{Digest: prefix}) {
			require.Fail(t, "found", "%v %v", r, err)
		}
	}
}
