//go:build linux || darwin

package store

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Wherever the writer of a line is killed, its record is as it was before.
func TestFile_CutOffLineIsRemoved(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	f := newFile(t, dir)
	requireWorks(t, f, "settled")
	_, err := f.Acquire(t.Context(), testBid("k", "a"))
	require.NoError(t, err)
	path := segmentsIn(t, dir)[0]
	before, err := os.Stat(path)
	require.NoError(t, err)
	_, err = f.Settle(t.Context(), testBid("k", "a"), testSuccess)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for n := int(before.Size()); n < len(whole); n++ {
		require.NoError(t, os.WriteFile(path, whole[:n], 0o600))
		f, err := NewFile(dir, FileOptions{AnyFileSystem: true})
		require.NoError(t, err)
		r, err := f.Load(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, Running, r.State, "%d bytes of %d", n, len(whole))
		r, err = f.Acquire(t.Context(), testBid("k", "b"))
		require.NoError(t, err)
		require.Equal(t, InDoubt, r.State)
		r, err = f.Load(t.Context(), "settled")
		require.NoError(t, err)
		require.Equal(t, testSuccess, r.Outcome)
		require.NoError(t, f.Close())
	}
}

// crashState is what is known of a store at a moment: what its files have, how much of
// that is certain to be on the disk, and what was answered.
type crashState struct {
	point    string
	files    map[string][]byte
	last     string // the segment of which not all is certain
	certain  int64
	named    bool   // the name of the last segment is
	removed  string // the name of a segment that may come back
	answered map[string]int
}

// How far a key has come.
const (
	knownAbsent = iota
	knownRunning
	knownSettled
)

// observed has a store used by several callers, and collects its states at each step.
func observed(t *testing.T, dir string, f *File, rounds int) (states []crashState) {
	t.Helper()
	var mu sync.Mutex
	answered := map[string]int{}
	removed := map[string][]byte{}
	step := func(point string) error {
		mu.Lock()
		defer mu.Unlock()
		s := crashState{point: point, files: map[string][]byte{}, answered: maps.Clone(answered)}
		for _, path := range segmentsIn(t, dir) {
			content, err := os.ReadFile(path)
			if err != nil {
				continue
			}
			s.files[filepath.Base(path)] = content
			if s.last = filepath.Base(path); len(content) > 0 {
				removed[s.last] = content
			}
		}
		f.log.mu.Lock()
		to := f.log.to
		f.log.mu.Unlock()
		first := int64(bytes.IndexByte(s.files[s.last], '\n') + 1)
		if s.certain = first; segmentName(to.segment) == s.last {
			s.certain, s.named = max(first, to.size), to.named
		}
		if n := segmentNumber(slices.Min(slices.Collect(maps.Keys(s.files)))); n > 1 {
			if content, seen := removed[segmentName(n-1)]; seen && point == "create" {
				s.removed = segmentName(n - 1)
				s.files[s.removed] = content
			}
		}
		states = append(states, s)
		return nil
	}
	f.dir.step.Store(&step)
	var all sync.WaitGroup
	for caller := range 4 {
		all.Go(func() {
			for i := range rounds {
				key := fmt.Sprintf("k%d-%d", caller, i)
				note := func(known int, err error) {
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						answered[key] = known
					}
				}
				_, err := f.Acquire(t.Context(), testBid(key, "a"))
				note(knownRunning, err)
				_, err = f.Settle(t.Context(), testBid(key, "a"), testSuccess)
				note(knownSettled, err)
				if caller == 0 && i%5 == 4 {
					inLog(t, f, func(l *log) {
						if err := l.rotate(); err == nil && i%10 == 9 {
							_ = l.merge(clock())
						}
					})
				}
			}
		})
	}
	all.Wait()
	f.dir.step.Store(nil)
	return states
}

// lost are what a power failure may leave of the end of a file: any part of what is not
// certain, by sectors.
func lost(r *rand.Rand, content []byte, certain int64) []byte {
	content = bytes.Clone(content)
	tail := content[certain:]
	if len(tail) == 0 {
		return content
	}
	switch r.IntN(4) {
	case 0: // all of it has come
		return content
	case 1: // it is cut off
		return content[:int(certain)+r.IntN(len(tail))]
	case 2: // it was never written, but the file has its size
		clear(tail)
	}
	const sector = 64 // smaller than any disk's, so that more may be lost
	for at := 0; at < len(tail); at += sector {
		if r.IntN(2) == 0 {
			clear(tail[at:min(at+sector, len(tail))])
		}
	}
	return content
}

// TestFile_PowerFailure tries what a power failure may leave at every step of several
// callers: nothing that was answered is lost, and nothing is corrupt.
func TestFile_PowerFailure(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	f := newFile(t, dir)
	states := observed(t, dir, f, 30)
	require.Greater(t, len(states), 100)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // no secret
	for _, s := range states {
		for range 3 {
			s.judge(t, r)
		}
	}
}

func (s crashState) judge(t *testing.T, r *rand.Rand) {
	t.Helper()
	dir := memoryDir(t)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Mkdir(filepath.Join(dir, logName), 0o700))
	for name, content := range s.files {
		if name == s.last {
			if !s.named && r.IntN(2) == 0 {
				continue
			}
			content = lost(r, content, s.certain)
		}
		if name == s.removed && r.IntN(2) == 0 {
			continue
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, logName, name), ofAnotherRun(t, content), 0o600))
	}
	f, err := NewFile(dir, FileOptions{AnyFileSystem: true})
	require.NoError(t, err, s.point)
	defer f.Close()
	for _, again := range []bool{false, true} {
		if again { // and once more, with all that was read
			require.NoError(t, f.Close())
			f, err = NewFile(dir, FileOptions{AnyFileSystem: true})
			require.NoError(t, err, s.point)
		}
		for key, known := range s.answered {
			r, err := f.Load(t.Context(), key)
			require.NoError(t, err, "%s: %s", s.point, key)
			is := map[State]int{Absent: knownAbsent, Running: knownRunning, Succeeded: knownSettled}[r.State]
			require.GreaterOrEqual(t, is, known, "%s: %s was answered", s.point, key)
			if is == knownSettled {
				require.Equal(t, testSuccess, r.Outcome)
			}
		}
		_, err := f.Acquire(t.Context(), testBid("new", "a"))
		require.NoError(t, err)
	}
	for r, err := range f.List(t.Context(), Query{State: Running}) {
		require.NoError(t, err)
		if r.Key != "new" {
			r, err = f.Acquire(t.Context(), testBid(r.Key, "b"))
			require.NoError(t, err)
			require.Equal(t, InDoubt, r.State, "never a second effect")
		}
	}
}

// ofAnotherRun returns a segment as one that was written before the host started.
func ofAnotherRun(t *testing.T, content []byte) []byte {
	t.Helper()
	first, rest, _ := bytes.Cut(content, []byte("\n"))
	words := strings.Fields(string(first))
	require.Len(t, words, 8)
	words[3] = strings.Repeat("x", len(words[3]))
	return append(sealed([]byte(strings.Join(words[:7], " "))), rest...)
}

// What a sync that failed was about is written anew, for all handles, before anybody
// hears of it, and does not count where it was.
func TestFile_FailedSyncIsWrittenAnew(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	f, other := newFile(t, dir), newFile(t, dir)
	requireWorks(t, f, "before")
	mend, _ := failAt(f, "fsync", errDisk)
	_, err := f.Acquire(t.Context(), testBid("k", "a"))
	require.ErrorIs(t, err, errDisk)
	certain := f.log.to.size
	mend()
	for _, f := range []*File{other, f} {
		r, err := f.Acquire(t.Context(), testBid("k", "b"))
		require.NoError(t, err)
		require.Equal(t, InDoubt, r.State, "its owner knows of nothing")
	}
	requireWorks(t, f, "after")
	requireWorks(t, other, "after that")

	paths := segmentsIn(t, dir)
	require.Len(t, paths, 2)
	content, err := os.ReadFile(paths[0])
	require.NoError(t, err)
	clear(content[certain:]) // as if the kernel had lost it
	require.NoError(t, os.WriteFile(paths[0], content, 0o600))
	again := newFile(t, dir)
	for key, want := range map[string]State{"before": Succeeded, "k": InDoubt, "after": Succeeded, "after that": Succeeded} {
		for _, f := range []*File{f, other, again} {
			r, err := f.Load(t.Context(), key)
			require.NoError(t, err, key)
			require.Equal(t, want, r.State, key)
		}
	}
}
