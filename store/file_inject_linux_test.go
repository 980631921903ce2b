package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

// Each call of the kernel that a verb makes fails, is interrupted, or is where
// the process dies. Which calls these are is not written here, but seen: a trace
// of each verb lists them. A process that nothing happens to judges what is left.

var injectedErrors = []string{"EIO", "ENOSPC", "EDQUOT", "EMFILE", "EINTR", "EACCES"}

// TestFile_EachCallOfTheKernelFails lets each site fail, with each error.
func TestFile_EachCallOfTheKernelFails(t *testing.T) {
	t.Parallel()
	for _, v := range faulties {
		sites := allSites(t, v)
		require.Greater(t, len(sites), 3)
		for _, call := range []string{"openat", "flock", "pread64", "write", "fdatasync", "newfstatat", "close"} {
			found := slices.ContainsFunc(sites, func(at site) bool { return strings.HasPrefix(at.call, call) })
			require.True(t, found || v.verb != "settle", "a trace without %s", call)
		}
		for _, name := range injectedErrors {
			t.Run(v.verb+" "+name, func(t *testing.T) {
				t.Parallel()
				f := newFaultyFile(t)
				closes := func(at site) bool { return at.call == "close" }
				for _, at := range slices.DeleteFunc(slices.Clone(sites), closes) {
					f.fail(t, v, at, name)
				}
				f.leavesNothing(t)
				// Here these are not made at all, and leave files open.
				for _, at := range sites {
					if closes(at) {
						f.fail(t, v, at, name)
					}
				}
			})
		}
	}
}

// faultyFile is a store in a process of its own, to which things happen, and a
// handle here, to which nothing does.
type faultyFile struct {
	*remoteFile
	clean *store.File
	keys  int  // that were used
	files int  // that the process had open at first, beside those of the store
	work  int  // its goroutines
	turn  bool // of the judgement
}

func newFaultyFile(t *testing.T) *faultyFile {
	t.Helper()
	dir := memoryDir(t)
	f := &faultyFile{clean: openFile(t, dir), remoteFile: startRemote(t, dir)}
	_, err := f.Release(t.Context(), grant(t, f, f.next(), "warm"))
	require.NoError(t, err)
	f.files, f.work = f.others(t), f.goroutines(t)
	return f
}

// next returns a key that nobody had.
func (f *faultyFile) next() string {
	f.keys++
	return fmt.Sprint("k", f.keys)
}

// others counts the files that the process has open and that are neither segments nor
// slots.
func (f *faultyFile) others(t *testing.T) int {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", f.cmd.Process.Pid)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	segments, n := map[string]bool{}, 0
	for _, file := range files {
		path, _ := os.Readlink(filepath.Join(dir, file.Name()))
		switch ext := filepath.Ext(path); {
		case ext == ".claim":
		case ext == ".log" && !segments[path]:
			segments[path] = true // once each
		default:
			n++
		}
	}
	return n
}

func (f *faultyFile) goroutines(t *testing.T) int {
	t.Helper()
	a, err := f.ask(t.Context(), RemoteCall{Verb: "Goroutines"})
	require.NoError(t, err)
	return a.Count
}

// fail has a verb come to a site at which the kernel refuses. EINTR is not a
// refusal: the call is to be made again.
func (f *faultyFile) fail(t *testing.T, v faulty, at site, name string) {
	t.Helper()
	when := "1+"
	if at.nth > 1 || name == "EINTR" && at.call != "close" {
		when = fmt.Sprint(at.nth)
	}
	// strace counts the calls of each thread, and a verb may change its thread.
	for range 50 {
		key := f.next()
		try := v.prepare(t, f.remoteFile, key)
		paths := at.in(f.dir)
		tr := attach(t, f.cmd.Process.Pid, append(args(paths), "-e", "trace="+at.call, "-e", "inject="+at.call+":error="+name+":when="+when)...)
		_, err := try(f.remoteFile)
		if !injected(tr.calls(t), paths) {
			f.giveBack(t, key)
			continue
		}
		if name == "EINTR" && at.call != "close" {
			require.NoError(t, err, at)
		}
		f.judge(t, v, at, key, try, err)
		return
	}
	require.Fail(t, "the call was not made to fail", at)
}

// injected reports whether a call about one of the files had its fault.
func injected(calls, paths []string) bool {
	return slices.ContainsFunc(calls, func(call string) bool {
		return strings.Contains(call, "(INJECTED)") && slices.ContainsFunc(paths, func(path string) bool { return strings.Contains(call, path) })
	})
}

// judge holds a verb that was answered err to the contract.
func (f *faultyFile) judge(t *testing.T, v faulty, at site, key string, try func(store.Store) (store.Record, error), err error) {
	t.Helper()
	r := f.judgeRecord(t, v, at, key, err)
	grants := v.verb == "acquire" || v.verb == "takeover"
	if f.turn = !f.turn; f.turn { // the same call again
		again, err := try(f.remoteFile)
		require.NoError(t, err, "%s: again", at)
		require.Equal(t, v.new, again.State, "%s: again", at)
	} else { // or another one
		other, otherErr := f.clean.Acquire(t.Context(), fileBid(key, "b"))
		require.NoError(t, otherErr, at)
		switch {
		case v.new != store.Running: // it is over
		case err == nil || !grants:
			require.True(t, other.Owned("a"), "%s: %s of %s", at, other.State, other.Owner)
		default:
			require.False(t, other.Owned("a"), "%s: held for a caller that does not know of it", at)
		}
		require.Equal(t, grants && r.State == store.Absent || r.State == store.Tombstone, other.Owned("b"), at)
	}
	f.giveBack(t, key)
}

// giveBack ends the claims of key, whoever has them.
func (f *faultyFile) giveBack(t *testing.T, key string) {
	t.Helper()
	for _, owner := range []string{"a", "b"} {
		if _, err := f.Release(t.Context(), fileBid(key, owner)); !errors.Is(err, store.ErrSuperseded) {
			require.NoError(t, err)
		}
		_, _ = f.clean.Release(t.Context(), fileBid(key, owner))
	}
}

// judgeRecord is about what a process finds that comes afterwards.
func (f *faultyFile) judgeRecord(t *testing.T, v faulty, at site, key string, err error) store.Record {
	t.Helper()
	r, loadErr := f.clean.Load(t.Context(), key)
	require.NoError(t, loadErr, at)
	switch {
	case err == nil:
		require.Equal(t, v.new, r.State, at)
	case errors.Is(err, store.ErrFull), errors.Is(err, store.ErrInvalid), errors.Is(err, store.ErrCorrupt), errors.Is(err, store.ErrVersion):
		require.Equal(t, v.old, r.State, "%s: %v", at, err)
	default:
		require.Contains(t, []store.State{v.old, v.new}, r.State, "%s: %v", at, err)
	}
	return r
}

// leavesNothing checks that the process has no more open than at first.
func (f *faultyFile) leavesNothing(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return f.others(t) == f.files }, 5*time.Second, time.Millisecond, "open files")
	require.Eventually(t, func() bool { return f.goroutines(t) <= f.work }, 5*time.Second, time.Millisecond)
}

// TestFile_KilledAtEachCallOfTheKernel has the process die at each site.
func TestFile_KilledAtEachCallOfTheKernel(t *testing.T) {
	t.Parallel()
	for _, v := range faulties {
		if v.old == v.new && v.verb != "renew" {
			continue // it only reads
		}
		for _, at := range allSites(t, v) {
			if strings.Contains(at.call, "stat") {
				continue // before it is as after the one before it
			}
			t.Run(at.String(), func(t *testing.T) {
				t.Parallel()
				f := &faultyFile{}
				dir := memoryDir(t)
				f.clean = openFile(t, dir)
				for range 50 {
					f.remoteFile = startRemote(t, dir)
					key := f.next()
					try := v.prepare(t, f.remoteFile, key)
					tr := attach(t, f.cmd.Process.Pid, append(args(at.in(dir)), "-e", "trace="+at.call,
						"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", at.call, at.nth))...)
					if _, err := try(f.remoteFile); err == nil {
						continue // on another thread
					}
					require.NoError(t, tr.cmd.Wait())
					require.Error(t, f.cmd.Wait())
					f.judgeDeath(t, v, key)
					return
				}
				require.Fail(t, "the process did not die")
			})
		}
	}
}

// judgeDeath is about a record that a process died over, unanswered.
func (f *faultyFile) judgeDeath(t *testing.T, v faulty, key string) {
	t.Helper()
	r := f.judgeRecord(t, v, site{}, key, errors.New("killed"))
	b := fileBid(key, "b")
	now, err := f.clean.Acquire(t.Context(), b)
	require.NoError(t, err)
	switch r.State {
	case store.Absent, store.Tombstone:
		require.True(t, now.Owned("b"))
	case store.Running, store.InDoubt:
		require.Equal(t, store.InDoubt, now.State)
		now, err = f.clean.Takeover(t.Context(), b, now)
		require.NoError(t, err)
		require.True(t, now.Owned("b"))
	default:
		require.Equal(t, success, now.Outcome)
		return
	}
	_, err = f.clean.Settle(t.Context(), b, success)
	require.NoError(t, err)
}
