package store_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/atmostonce/atmostonce/store"
)

// Each call of the kernel that a verb makes fails, is interrupted, or is where
// the process dies. Which calls these are is not written here, but seen: a trace
// of each verb lists them. A process that nothing happens to judges what is left.

const injectedCalls = "openat,read,pread64,write,fsync,fdatasync,rename,renameat,renameat2,flock,unlink,unlinkat,close,mkdir,mkdirat,newfstatat,fstat,getdents64"

var injectedErrors = []string{"EIO", "ENOSPC", "EDQUOT", "EMFILE", "EINTR", "EACCES"}

func init() {
	if os.Getenv(remoteDir) != "" { // where only ancestors may trace a process
		_ = unix.Prctl(unix.PR_SET_PTRACER, ^uintptr(0), 0, 0, 0)
	}
}

// A faulty is a verb on a key that was prepared for it.
type faulty struct {
	verb     string
	old, new store.State
	// prepare returns the verb, which may be repeated.
	prepare func(t *testing.T, s store.Store, key string) func(store.Store) (store.Record, error)
}

var faulties = []faulty{
	{"acquire", store.Absent, store.Running, func(t *testing.T, _ store.Store, key string) func(store.Store) (store.Record, error) {
		return func(s store.Store) (store.Record, error) { return s.Acquire(t.Context(), fileBid(key, "a")) }
	}},
	{"mark", store.Running, store.InDoubt, func(t *testing.T, s store.Store, key string) func(store.Store) (store.Record, error) {
		dir := s.(*remoteFile).dir
		dead, err := store.NewFile(dir, anywhere)
		require.NoError(t, err)
		acquired(t, dead, key, "dead")
		require.NoError(t, dead.Close())
		return func(s store.Store) (store.Record, error) { return s.Acquire(t.Context(), fileBid(key, "a")) }
	}},
	{"renew", store.Running, store.Running, func(t *testing.T, s store.Store, key string) func(store.Store) (store.Record, error) {
		b := grant(t, s, key, "a")
		b.TTL = 48 * time.Hour
		return func(s store.Store) (store.Record, error) { return s.Renew(t.Context(), b) }
	}},
	{"settle", store.Running, store.Succeeded, func(t *testing.T, s store.Store, key string) func(store.Store) (store.Record, error) {
		b := grant(t, s, key, "a")
		return func(s store.Store) (store.Record, error) { return s.Settle(t.Context(), b, success) }
	}},
	{"release", store.Running, store.Tombstone, func(t *testing.T, s store.Store, key string) func(store.Store) (store.Record, error) {
		b := grant(t, s, key, "a")
		return func(s store.Store) (store.Record, error) { return s.Release(t.Context(), b) }
	}},
	{"takeover", store.InDoubt, store.Running, func(t *testing.T, s store.Store, key string) func(store.Store) (store.Record, error) {
		r, err := s.Settle(t.Context(), grant(t, s, key, "doubts"), store.Outcome{State: store.InDoubt})
		require.NoError(t, err)
		return func(s store.Store) (store.Record, error) { return s.Takeover(t.Context(), fileBid(key, "a"), r) }
	}},
	{"resolve", store.InDoubt, store.Succeeded, func(t *testing.T, s store.Store, key string) func(store.Store) (store.Record, error) {
		r, err := s.Settle(t.Context(), grant(t, s, key, "doubts"), store.Outcome{State: store.InDoubt})
		require.NoError(t, err)
		res := store.Resolution{ID: "1", To: store.Succeeded, Outcome: success, By: store.ByOperator, TTL: time.Hour}
		return func(s store.Store) (store.Record, error) { return s.Resolve(t.Context(), key, r, res) }
	}},
	{"load", store.Succeeded, store.Succeeded, func(t *testing.T, s store.Store, key string) func(store.Store) (store.Record, error) {
		_, err := s.Settle(t.Context(), grant(t, s, key, "a"), success)
		require.NoError(t, err)
		return func(s store.Store) (store.Record, error) { return s.Load(t.Context(), key) }
	}},
	{"list", store.Succeeded, store.Succeeded, func(t *testing.T, s store.Store, key string) func(store.Store) (store.Record, error) {
		_, err := s.Settle(t.Context(), grant(t, s, key, "a"), success)
		require.NoError(t, err)
		return func(s store.Store) (found store.Record, failed error) {
			for r, err := range s.List(t.Context(), store.Query{}) {
				if r.Key == key {
					found = r
				}
				failed = errors.Join(failed, err)
			}
			return found, failed
		}
	}},
}

func grant(t *testing.T, s store.Store, key, owner string) store.Bid {
	t.Helper()
	b := fileBid(key, owner)
	r, err := s.Acquire(t.Context(), b)
	require.NoError(t, err)
	require.True(t, r.Owned(owner))
	b.Fence = r.Fence
	return b
}

// A site is a call of the kernel in a verb: the nth of its kind on that file.
type site struct {
	verb, call, file string
	nth              int
}

func (s site) String() string { return fmt.Sprintf("%s: %s of %s, %d", s.verb, s.call, s.file, s.nth) }

// places are the names of the files about a key, as they stand in a site.
func places(dir, key string) *strings.Replacer {
	sum := sha256.Sum256([]byte(key))
	digest := hex.EncodeToString(sum[:])
	return strings.NewReplacer(filepath.Join(dir, digest[:2], digest), "RECORD", filepath.Join(dir, digest[:2]), "SHARD", dir, "STORE")
}

// in is the path of a site's file for a key.
func (s site) in(dir, key string) string {
	sum := sha256.Sum256([]byte(key))
	digest := hex.EncodeToString(sum[:])
	return strings.NewReplacer("RECORD", filepath.Join(dir, digest[:2], digest), "SHARD", filepath.Join(dir, digest[:2]), "STORE", dir).Replace(s.file)
}

// tracer is strace on a process.
type tracer struct {
	cmd *exec.Cmd
	out string
}

func attach(t *testing.T, pid int, args ...string) *tracer {
	t.Helper()
	tr := &tracer{out: filepath.Join(t.TempDir(), "trace")}
	tr.cmd = exec.CommandContext(t.Context(), "strace", slices.Concat([]string{"-f", "-y", "-s", "16", "-o", tr.out, "-p", fmt.Sprint(pid)}, args)...)
	stderr, err := tr.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, tr.cmd.Start(), "this test needs strace")
	said, err := bufio.NewReader(stderr).ReadString('\n')
	require.Contains(t, said, "attached", "strace must be able to trace a process of this user: allow ptrace (a container's seccomp profile, CAP_SYS_PTRACE): %v", err)
	go func() { _, _ = bufio.NewReader(stderr).WriteTo(discard{}) }()
	t.Cleanup(func() {
		_ = tr.cmd.Process.Kill()
		_ = tr.cmd.Wait()
	})
	return tr
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func (tr *tracer) detach() {
	_ = tr.cmd.Process.Signal(syscall.SIGINT)
	_ = tr.cmd.Wait()
}

// calls lets go of the process, and returns what it called.
func (tr *tracer) calls(t *testing.T) []string {
	t.Helper()
	tr.detach()
	return store.Traced(t, tr.out)
}

var callAndPath = regexp.MustCompile(`^(\w+)\((?:AT_FDCWD(?:<[^>]*>)?, "([^"]*)"|\d+<([^>]*)>)`)

// sitesOf traces a verb on a key and returns its sites on the files of the key.
func sitesOf(t *testing.T, v faulty, s *remoteFile, key string) map[site]bool {
	t.Helper()
	try := v.prepare(t, s, key)
	tr := attach(t, s.cmd.Process.Pid, "-e", "trace="+injectedCalls)
	_, err := try(s)
	require.NoError(t, err)
	sites := map[site]bool{}
	for _, call := range tr.calls(t) {
		m := callAndPath.FindStringSubmatch(call)
		if m == nil || !strings.HasPrefix(m[2]+m[3], s.dir) {
			continue
		}
		at := site{v.verb, m[1], places(s.dir, key).Replace(m[2] + m[3]), 1}
		if otherShard.MatchString(at.file) {
			continue
		}
		for sites[at] {
			at.nth++
		}
		sites[at] = true
	}
	return sites
}

var otherShard = regexp.MustCompile(`^STORE/[0-9a-f]{2}(/|$)`)

// allSites are those that each run of a verb has.
func allSites(t *testing.T, v faulty) []site {
	t.Helper()
	s := startRemote(t, memoryDir(t))
	keys := keysOfManyShards(3)
	grant(t, s, keys[0], "warm")
	sites := sitesOf(t, v, s, keys[1])
	again := sitesOf(t, v, s, keys[2])
	maps.DeleteFunc(sites, func(at site, _ bool) bool { return !again[at] })
	return slices.SortedFunc(maps.Keys(sites), func(a, b site) int { return strings.Compare(a.String(), b.String()) })
}

// keysOfManyShards returns n keys whose records are in n directories.
func keysOfManyShards(n int) []string {
	var keys []string
	used := map[byte]bool{}
	for i := 0; len(keys) < n; i++ {
		key := fmt.Sprint("k", i)
		if shard := sha256.Sum256([]byte(key))[0]; !used[shard] {
			used[shard] = true
			keys = append(keys, key)
		}
	}
	return keys
}

// TestFile_EachCallOfTheKernelFails lets each site fail, with each error.
func TestFile_EachCallOfTheKernelFails(t *testing.T) {
	t.Parallel()
	for _, v := range faulties {
		sites := allSites(t, v)
		require.Greater(t, len(sites), 3)
		for _, name := range injectedErrors {
			t.Run(v.verb+" "+name, func(t *testing.T) {
				t.Parallel()
				f := newFaultyFile(t, 200)
				closes := func(at site) bool { return at.call == "close" }
				for _, group := range together(slices.DeleteFunc(slices.Clone(sites), closes), name) {
					f.fail(t, v, group, name)
				}
				f.leavesNothing(t)
				// Here these are not made at all, and leave files open.
				for _, at := range sites {
					if closes(at) {
						f.fail(t, v, []site{at}, name)
					}
				}
			})
		}
	}
}

// together groups sites that can fail under one trace, each about a key of its
// own: the first calls of a kind, on files that only the verb on that key touches.
func together(sites []site, name string) (groups [][]site) {
	byCall := map[string][]site{}
	for _, at := range sites {
		alone := name == "EINTR" || at.verb == "list" || at.verb == "mark"
		if alone || at.nth > 1 || strings.HasPrefix(at.file, "STORE") {
			groups = append(groups, []site{at})
		} else {
			byCall[at.call] = append(byCall[at.call], at)
		}
	}
	return slices.AppendSeq(groups, maps.Values(byCall))
}

// faultyFile is a store in a process of its own, to which things happen, and a
// handle here, to which nothing does.
type faultyFile struct {
	*remoteFile
	clean *store.File
	keys  []string
	files int  // that the process had open at first
	work  int  // its goroutines
	turn  bool // of the judgement
}

func newFaultyFile(t *testing.T, keys int) *faultyFile {
	t.Helper()
	dir := memoryDir(t)
	f := &faultyFile{clean: openFile(t, dir), remoteFile: startRemote(t, dir), keys: keysOfManyShards(keys)}
	_, err := f.Release(t.Context(), grant(t, f, f.next(), "warm"))
	require.NoError(t, err)
	f.files, f.work = f.open(t), f.goroutines(t)
	return f
}

// next returns a key that nobody had.
func (f *faultyFile) next() string {
	key := f.keys[0]
	f.keys = f.keys[1:]
	return key
}

func (f *faultyFile) open(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", f.cmd.Process.Pid))
	require.NoError(t, err)
	return len(files)
}

func (f *faultyFile) goroutines(t *testing.T) int {
	t.Helper()
	a, err := f.ask(t.Context(), RemoteCall{Verb: "Goroutines"})
	require.NoError(t, err)
	return a.Count
}

// fail has a verb come to sites at which the kernel refuses. EINTR is not a
// refusal: the call is to be made again.
func (f *faultyFile) fail(t *testing.T, v faulty, sites []site, name string) {
	t.Helper()
	call, when := sites[0].call, "1+"
	if sites[0].nth > 1 || name == "EINTR" && call != "close" {
		when = fmt.Sprint(sites[0].nth)
	}
	var keys []string
	tries := map[site]func(store.Store) (store.Record, error){}
	errs := map[site]error{}
	// strace counts the calls of each thread, and a verb may change its thread.
	fired := false
	for range 10 {
		args := []string{"-e", "trace=" + call, "-e", "inject=" + call + ":error=" + name + ":when=" + when}
		keys = nil
		for _, at := range sites {
			key := f.next()
			keys = append(keys, key)
			args = append(args, "-P", at.in(f.dir, key))
			tries[at] = v.prepare(t, f.remoteFile, key)
		}
		tr := attach(t, f.cmd.Process.Pid, args...)
		for _, at := range sites {
			_, errs[at] = tries[at](f.remoteFile)
		}
		if fired = allInjected(tr.calls(t), f.dir, sites, keys); fired {
			break
		}
	}
	require.True(t, fired, "the calls were not made to fail: %s", sites)
	for i, at := range sites {
		if name == "EINTR" && call != "close" {
			require.NoError(t, errs[at], at)
		}
		f.judge(t, v, at, keys[i], tries[at], errs[at])
	}
}

// allInjected reports whether each of the sites had its fault.
func allInjected(calls []string, dir string, sites []site, keys []string) bool {
	for i, at := range sites {
		if !slices.ContainsFunc(calls, func(call string) bool {
			return strings.Contains(call, "(INJECTED)") && strings.Contains(call, at.in(dir, keys[i]))
		}) {
			return false
		}
	}
	return true
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
		case err == nil || v.verb == "renew":
			require.True(t, other.Owned("a"), "%s: %s of %s", at, other.State, other.Owner)
		default:
			require.False(t, other.Owned("a"), "%s: held for a caller that does not know of it", at)
		}
		require.Equal(t, grants && r.State == store.Absent || r.State == store.Tombstone, other.Owned("b"), at)
	}
	for _, owner := range []string{"a", "b"} {
		if _, err := f.Release(t.Context(), fileBid(key, owner)); !errors.Is(err, store.ErrSuperseded) {
			require.NoError(t, err, at)
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
	require.Equal(t, f.files, f.open(t), "open files")
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
			t.Run(at.String(), func(t *testing.T) {
				t.Parallel()
				f := &faultyFile{keys: keysOfManyShards(10)}
				dir := memoryDir(t)
				f.clean = openFile(t, dir)
				for range 10 {
					f.remoteFile = startRemote(t, dir)
					key := f.next()
					try := v.prepare(t, f.remoteFile, key)
					tr := attach(t, f.cmd.Process.Pid, "-e", "trace="+at.call, "-P", at.in(dir, key),
						"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", at.call, at.nth))
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

// What is not about a key: Check says what is wrong, and is right again when
// nothing is.
func TestFile_CheckAtEachFault(t *testing.T) {
	t.Parallel()
	check := faulty{verb: "check", prepare: func(t *testing.T, s store.Store, _ string) func(store.Store) (store.Record, error) {
		t.Helper()
		return func(store.Store) (store.Record, error) {
			return s.(*remoteFile).do(t.Context(), RemoteCall{Verb: "Check"})
		}
	}}
	first := startRemote(t, memoryDir(t))
	key := "any" // of the directory that Check writes to
	for i := 0; sha256.Sum256([]byte(key))[0] != 0; i++ {
		key = fmt.Sprint("any", i)
	}
	grant(t, first, "warm", "a")
	sites := slices.Collect(maps.Keys(sitesOf(t, check, first, key)))
	require.Greater(t, len(sites), 10)
	for _, name := range injectedErrors {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startRemote(t, memoryDir(t))
			try := check.prepare(t, s, key)
			_, err := try(s)
			require.NoError(t, err)
			f := &faultyFile{remoteFile: s}
			files := f.open(t)
			for _, at := range sites {
				for i := 0; ; i++ {
					require.Less(t, i, 10, "%s: it did not fail", at)
					tr := attach(t, s.cmd.Process.Pid, "-e", "trace="+at.call, "-P", at.in(s.dir, key),
						"-e", fmt.Sprintf("inject=%s:error=%s:when=%d", at.call, name, at.nth))
					_, err := try(s)
					if !allInjected(tr.calls(t), s.dir, []site{at}, []string{key}) {
						continue
					}
					if name == "EINTR" && at.call != "close" {
						require.NoError(t, err, at)
					}
					require.NotErrorIs(t, err, store.ErrForgot, at)
					break
				}
				if at.call == "close" {
					files++
				}
				require.Equal(t, files, f.open(t), "open files after %s", at)
				_, err = try(s)
				require.NoError(t, err, "%s: and again", at)
			}
		})
	}
}

// A handle that is closed has given up its claims, whatever the kernel says.
func TestFile_CloseAtEachFault(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"flock", "close"} {
		for _, name := range injectedErrors {
			t.Run(call+" "+name, func(t *testing.T) {
				t.Parallel()
				dir := memoryDir(t)
				s := startRemote(t, dir)
				grant(t, s, "k", "a")
				at := site{"close", call, filesIn(t, dir, ".claim")[0], 1}
				tr := attach(t, s.cmd.Process.Pid, "-e", "trace="+call, "-P", at.file, "-e", "inject="+call+":error="+name)
				_, err := s.do(t.Context(), RemoteCall{Verb: "Close"})
				require.NoError(t, err)
				require.True(t, allInjected(tr.calls(t), dir, []site{at}, []string{"k"}), "it did not fail")
				r, err := openFile(t, dir).Acquire(t.Context(), fileBid("k", "b"))
				require.NoError(t, err)
				require.Equal(t, store.InDoubt, r.State)
			})
		}
	}
}

// A store that cannot be opened says so; opened again, it is whole.
func TestFile_OpenedAtEachFault(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	shard := keysOfManyShards(1)[0]
	acquired(t, openFile(t, dir), shard, "a")
	shardDir := site{file: "SHARD"}.in(dir, shard)
	out := filepath.Join(t.TempDir(), "trace")
	s := startRemote(t, dir, "strace", "-f", "-y", "-o", out, "-e", "trace="+injectedCalls)
	_, err := s.do(t.Context(), RemoteCall{Verb: "Load", Key: "other"})
	require.NoError(t, err)
	require.NoError(t, s.end())
	sites := map[site]bool{}
	for _, call := range store.Traced(t, out) {
		m := callAndPath.FindStringSubmatch(call)
		if m != nil && (m[2]+m[3] == dir || strings.HasPrefix(m[2]+m[3], shardDir)) {
			sites[site{"open", m[1], m[2] + m[3], 1}] = true
		}
	}
	require.Greater(t, len(sites), 8)
	for at := range sites {
		// Its sweep takes a bounded time, and may not come to that shard.
		certain := at.file == dir || at.call == "mkdirat" || at.call == "newfstatat"
		for _, name := range append(slices.Clone(injectedErrors), "KILL") {
			t.Run(at.call+" of "+filepath.Base(at.file)+" "+name, func(t *testing.T) {
				t.Parallel()
				fault := "error=" + name
				if name == "KILL" {
					fault = "signal=KILL"
				}
				out := filepath.Join(t.TempDir(), "trace")
				s := startRemote(t, dir, "strace", "-f", "-y", "-o", out, "-P", at.file, "-e", "trace="+at.call, "-e", "inject="+at.call+":when=1:"+fault)
				_, err := s.do(t.Context(), RemoteCall{Verb: "Load", Key: shard})
				ended := s.end()
				if certain && name == "KILL" {
					require.Error(t, ended)
				} else if certain {
					require.True(t, allInjected(store.Traced(t, out), dir, []site{at}, []string{shard}), "it did not fail")
				}
				if name == "EINTR" && at.call != "close" {
					require.NoError(t, err)
				}
				r, err := openFile(t, dir).Acquire(t.Context(), fileBid(shard, "b"))
				require.NoError(t, err)
				require.True(t, r.Owned("a"), "%s of %s", r.State, r.Owner)
			})
		}
	}
}

// A call of the kernel that takes ten seconds is not waited for.
func TestFile_SlowCallOfTheKernelIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	b := fileBid("k", "a")
	for name, c := range map[string]struct {
		call, file string
		do         RemoteCall
	}{
		"load":         {"read", "RECORD.json", RemoteCall{Verb: "Load", Key: "k"}},
		"list":         {"getdents64", "SHARD", RemoteCall{Verb: "List"}},
		"list, record": {"openat", "RECORD.json", RemoteCall{Verb: "List"}},
		"acquire":      {"read", "RECORD.json", RemoteCall{Verb: "Acquire", Bid: b}},
		"lock":         {"openat", "SHARD/lock", RemoteCall{Verb: "Acquire", Bid: b}},
		"settle":       {"fsync", "RECORD.tmp", RemoteCall{Verb: "Settle", Bid: b, Outcome: success}},
		"directory":    {"fsync", "SHARD", RemoteCall{Verb: "Release", Bid: b}},
		"check":        {"newfstatat", "STORE", RemoteCall{Verb: "Check"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startRemote(t, memoryDir(t))
			grant(t, s, "k", "a")
			at := site{file: c.file}
			attach(t, s.cmd.Process.Pid, "-e", "trace="+c.call, "-P", at.in(s.dir, "k"), "-e", "inject="+c.call+":delay_enter=10s")
			began := time.Now()
			c.do.Limit = 50 * time.Millisecond
			for range 3 {
				a, err := s.ask(t.Context(), c.do)
				require.NoError(t, err)
				said := a.Error
				for _, one := range a.Records {
					said += one.Error
				}
				require.Contains(t, said, "context deadline exceeded")
			}
			a, err := s.ask(t.Context(), RemoteCall{Verb: "Load", Key: keysOfManyShards(1)[0], Limit: 5 * time.Second})
			require.NoError(t, err)
			require.Empty(t, a.Error, "other directories are not held up")
			require.Less(t, time.Since(began), 9*time.Second)
		})
	}
}
