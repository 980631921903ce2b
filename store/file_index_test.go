//go:build linux || darwin

package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
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
	for _, state := range openStates {
		require.Equal(t, want[state], listKeys(t, f, state))
	}
}

// entriesOf returns the digests that the index of a state has.
func entriesOf(t *testing.T, dir string, state State) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "??", string(state), "*"))
	require.NoError(t, err)
	return paths
}

func TestFile_ListsWhatWasOpenBeforeTheIndex(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(t *testing.T, f *File){
		"a directory of programs without an index": func(t *testing.T, f *File) {
			t.Helper()
			for n := range shards {
				for _, state := range openStates {
					require.NoError(t, os.RemoveAll(filepath.Join(f.dir.shardDir(n), string(state))))
				}
			}
			require.NoError(t, os.Remove(f.index.markPath()))
		},
		"a start of the host that lost entries": func(t *testing.T, f *File) {
			t.Helper()
			loseEntries(t, f)
			require.NoError(t, os.WriteFile(f.index.markPath(), []byte("an earlier run 1\n"), 0o600))
		},
		"a mark that was not written to its end": func(t *testing.T, f *File) {
			t.Helper()
			loseEntries(t, f)
			require.NoError(t, os.WriteFile(f.index.markPath(), nil, 0o600))
		},
		"a directory of the index that is gone": func(t *testing.T, f *File) {
			t.Helper()
			require.NoError(t, os.RemoveAll(filepath.Dir(entryOf(locate(f.dir.path, "running0").path, Running))))
			// And comes back with the next claim.
			_, err := f.Acquire(t.Context(), testBid("running0", "a"))
			require.NoError(t, err)
			require.NoError(t, os.RemoveAll(filepath.Dir(entryOf(locate(f.dir.path, "in_doubt1").path, InDoubt))))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFile(t, t.TempDir())
			want := putOpen(t, f)
			requireOpen(t, f, want)
			lose(t, f)
			requireOpen(t, newFile(t, f.dir.path), want)
			requireOpen(t, f, want)

			// From now on no record is looked at that has no entry.
			loseEntries(t, f)
			require.Empty(t, listKeys(t, f, InDoubt))
			require.NoError(t, f.Reindex(t.Context()))
			requireOpen(t, f, want)
		})
	}
}

func loseEntries(t *testing.T, f *File) {
	t.Helper()
	for _, state := range openStates {
		for _, path := range entriesOf(t, f.dir.path, state) {
			require.NoError(t, os.Remove(path))
		}
	}
}

// What was copied elsewhere, or the host does not name its runs: all is looked at.
func TestFile_CopiedMarkSaysNothing(t *testing.T) {
	t.Parallel()
	f := newFile(t, t.TempDir())
	want := putOpen(t, f)
	requireOpen(t, f, want)
	dir := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.CopyFS(dir, os.DirFS(f.dir.path)))
	other := newFile(t, dir)
	loseEntries(t, other)
	requireOpen(t, other, want)
}

// An entry without its record is removed by the listing that meets it.
func TestFile_ListPutsTheIndexRight(t *testing.T) {
	t.Parallel()
	f := newFile(t, t.TempDir())
	want := putOpen(t, f)
	requireOpen(t, f, want)
	for _, key := range []string{"in_doubt0", "succeeded0", "nothing"} {
		for _, state := range openStates {
			require.NoError(t, f.index.enlist(locate(f.dir.path, key).path, state))
		}
	}
	requireOpen(t, f, want)
	for _, state := range openStates {
		require.Len(t, entriesOf(t, f.dir.path, state), 3)
	}
	r, err := f.Load(t.Context(), "in_doubt0")
	require.NoError(t, err)
	_, err = f.Resolve(t.Context(), "in_doubt0", r, Resolution{ID: "r", To: Failed, By: ByOperator, TTL: testBid("", "").TTL})
	require.NoError(t, err)
	require.Len(t, entriesOf(t, f.dir.path, InDoubt), 2)
	require.NoError(t, f.Clear(t.Context()))
	for _, state := range openStates {
		require.Empty(t, entriesOf(t, f.dir.path, state))
	}
}

func TestFile_FullDiskForTheIndex(t *testing.T) {
	t.Parallel()
	f := newFile(t, t.TempDir())
	mend, _ := failAt(f, "enlist", syscall.ENOSPC)
	_, err := f.Acquire(t.Context(), testBid("k", "a"))
	require.ErrorIs(t, err, ErrFull)
	require.Empty(t, f.claims.held)
	mend()
	r, err := f.Acquire(t.Context(), testBid("k", "b"))
	require.NoError(t, err)
	require.True(t, r.Owned("b"))
	require.Equal(t, []string{"k"}, listKeys(t, f, Running))
}

// Wherever a process is killed, the index lacks nothing.
func TestFile_KilledWhileWritingLosesNoEntry(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"grant", "settle", "doubt"} {
		for _, point := range []string{"enlist", "create", "write", "fsync", "rename", "dirsync"} {
			if role == "settle" && point == "enlist" {
				continue // what is settled has no entry
			}
			t.Run(role+" "+point, func(t *testing.T) {
				t.Parallel()
				f := newFile(t, t.TempDir())
				requireOpen(t, f, map[State][]string{Running: {}, InDoubt: {}, Pending: {}})
				require.Error(t, startChild(t, role, point, f.dir.path).cmd.Wait())
				r, err := f.Load(t.Context(), "k")
				require.NoError(t, err)
				for _, state := range openStates {
					require.Equal(t, r.State == state, slices.Contains(listKeys(t, f, state), "k"), "%s of %s", state, r.State)
				}
			})
		}
	}
}

// What cannot be looked at may be open, so that the index is not complete; but it
// hides nothing else.
func TestFile_ReindexGoesOnBesideWhatItCannotRead(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]func(f *File) string{
		"a record": func(f *File) string { return locate(f.dir.path, "in_doubt0").path },
		"a directory of the index": func(f *File) string {
			return filepath.Dir(entryOf(locate(f.dir.path, "in_doubt0").path, InDoubt))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFile(t, t.TempDir())
			want := putOpen(t, f)
			loseEntries(t, f)
			require.NoFileExists(t, f.index.markPath())
			require.NoError(t, os.Chmod(path(f), 0o722))
			keys := []string{}
			for r, err := range f.List(t.Context(), Query{State: InDoubt}) {
				if err != nil {
					require.ErrorIs(t, err, ErrUnsafe)
					continue
				}
				keys = append(keys, r.Key)
			}
			require.Equal(t, want[InDoubt][1:], keys)
			require.ErrorIs(t, f.Reindex(t.Context()), ErrUnsafe)

			require.NoError(t, os.Chmod(path(f), 0o700))
			requireOpen(t, f, want)
		})
	}
}

// What is planted in place of the mark keeps no listing, and no other call, waiting.
func TestFile_PlantedMark(t *testing.T) {
	t.Parallel()
	for what, plant := range plants {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := newFile(t, t.TempDir())
			want := putOpen(t, f)
			outside := filepath.Join(t.TempDir(), "outside")
			require.NoError(t, os.WriteFile(outside, []byte(f.index.mark()), 0o600))
			plant(t, f.index.markPath(), outside)
			loseEntries(t, f)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			keys := []string{}
			for r, err := range f.List(ctx, Query{State: Running}) {
				if err != nil {
					require.Equal(t, "a directory", what, "anything else makes way: %v", err)
					require.ErrorIs(t, err, ErrUnsafe)
					require.ErrorContains(t, err, "move it away")
					continue
				}
				keys = append(keys, r.Key)
			}
			require.Equal(t, want[Running], keys)
		})
	}
}

// What is planted in place of a directory of the index is named, and stops only those
// who need it.
func TestFile_PlantedDirectoryOfTheIndex(t *testing.T) {
	t.Parallel()
	for what, plant := range plants {
		if what == "a directory" {
			continue
		}
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := newFile(t, t.TempDir())
			b := testBid("k", "a")
			outside := t.TempDir()
			path := filepath.Dir(entryOf(locate(f.dir.path, "k").path, Running))
			plant(t, path, outside)
			_, err := f.Acquire(t.Context(), b)
			require.ErrorIs(t, err, ErrUnsafe)
			require.ErrorContains(t, err, "move it away")
			require.Empty(t, f.claims.held)
			names, err := namesIn(outside)
			require.NoError(t, err)
			require.Empty(t, names)

			require.NoError(t, os.Remove(path))
			r, err := f.Acquire(t.Context(), b)
			require.NoError(t, err)
			require.True(t, r.Owned("a"))
		})
	}
}
