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
	"testing/synctest"

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
	last     string
	certain  map[string]int64 // how much of each
	named    bool             // the name of the last segment is
	removed  []string         // the names of segments that may come back
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
	certain := map[string]int64{}
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
		f.log.shore.mu.Lock()
		to := f.log.shore.to
		f.log.shore.mu.Unlock()
		for name, content := range s.files {
			certain[name] = max(certain[name], int64(bytes.IndexByte(content, '\n')+1))
		}
		if name := segmentName(to.segment); s.files[name] != nil {
			certain[name] = max(certain[name], to.size)
			s.named = name == s.last && to.named
		}
		for name, content := range removed {
			if s.files[name] == nil {
				s.removed = append(s.removed, name)
				s.files[name], certain[name] = content, int64(len(content))
			}
		}
		s.certain = maps.Clone(certain)
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
		if name == s.last && !s.named && r.IntN(2) == 0 {
			continue
		}
		content = lost(r, content, s.certain[name])
		if slices.Contains(s.removed, name) && r.IntN(2) == 0 {
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
		require.NoError(t, f.Check(t.Context()), "%s: nobody has removed anything", s.point)
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
	certain := f.log.shore.to.size
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

// What lines say was durable is damage if it is not whole, also after a start of the host.
func TestFile_AdoptedDamageIsNoGap(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	f := newFile(t, dir)
	for _, key := range []string{"before", "k", "after", "last"} {
		requireWorks(t, f, key)
	}
	path := segmentsIn(t, dir)[0]
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	content = ofAnotherRun(t, content)
	damaged := bytes.Replace(content, []byte(`"key":"k","state":"succeeded"`), []byte(`"key":"k","state":"sacceeded"`), 1)
	require.NotEqual(t, content, damaged)
	again := memoryDir(t)
	require.NoError(t, os.Mkdir(filepath.Join(again, logName), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(again, logName, filepath.Base(path)), damaged, 0o600))
	f = newFile(t, again)
	_, err = f.Acquire(t.Context(), testBid("k", "b"))
	require.ErrorIs(t, err, ErrCorrupt)
	for _, key := range []string{"before", "after", "last"} {
		r, err := f.Load(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, testSuccess, r.Outcome, key)
	}
}

// Who has read more of the log than is there says so.
func TestFile_CutWhileOpenFreesNoKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFile(t, dir)
	requireWorks(t, f, "k")
	path := segmentsIn(t, dir)[0]
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, int64(len(content)/2)))
	for verb, call := range verbsOf(t.Context(), f, testBid("k", "b")) {
		_, err := call()
		require.ErrorIs(t, err, ErrCorrupt, verb)
		require.ErrorContains(t, err, path, verb)
	}
	left, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Len(t, left, len(content)/2, "it was left as it is")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	r, err := f.Acquire(t.Context(), testBid("k", "b"))
	require.NoError(t, err)
	require.Equal(t, testSuccess, r.Outcome)
}

// A slot serves for another claim only when the record of the one before says
// durably that it runs no more.
func TestFile_SlotIsFreeOnceThatIsDurable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFile(t, dir)
	_, err := f.Acquire(t.Context(), testBid("k", "a"))
	require.NoError(t, err)
	mend, _ := failAt(f, "fsync", errDisk)
	_, err = f.Settle(t.Context(), testBid("k", "a"), testSuccess)
	require.ErrorIs(t, err, errDisk)
	require.Len(t, f.claims.held, 1)
	require.Empty(t, f.claims.idle)
	mend()
	_, err = f.Settle(t.Context(), testBid("k", "a"), testSuccess)
	require.NoError(t, err)
	require.Empty(t, f.claims.held)
	require.Len(t, f.claims.idle, 1)
}

// Nobody replaces a segment that another process has begun meanwhile.
func TestFile_BeginsNoSegmentTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFile(t, dir)
	requireWorks(t, f, "k")
	inLog(t, f, func(l *log) {
		path := filepath.Join(l.dir.logDir(), segmentName(l.last().n+1))
		other := firstOf(l.last().n+1, bootID(), l.oldest, l.last().size, l.losses)
		require.NoError(t, os.WriteFile(path, other, 0o600))
		require.ErrorIs(t, l.rotate(), os.ErrExist)
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, other, content)
	})
	requireWorks(t, f, "l")
	requireWorks(t, newFile(t, dir), "m")
	require.Len(t, segmentsIn(t, dir), 2)
}

// What was written while a sync failed is not called durable by the next one.
func TestFile_FailedSyncIsNotRepeated(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t, dir)
		syncing, failing := make(chan struct{}), make(chan struct{})
		syncs := 0
		step := func(point string) error {
			if point != "fsync" {
				return nil
			}
			if syncs++; syncs > 1 {
				return nil
			}
			close(syncing)
			<-failing
			return errDisk
		}
		f.dir.step.Store(&step)
		errs := make(chan error, 2)
		acquire := func(key string) {
			_, err := f.Acquire(t.Context(), testBid(key, "a"))
			errs <- err
		}
		go acquire("k")
		<-syncing
		go acquire("l")
		synctest.Wait() // it waits for the disk
		close(failing)
		require.ErrorIs(t, <-errs, errDisk)
		require.ErrorIs(t, <-errs, errDisk)
	})
}
