package store_test

import (
	"bufio"
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

// This file is how tests see the calls that the kernel gets, and have them fail.

const injectedCalls = "openat,read,pread64,write,ftruncate,fsync,fdatasync,rename,renameat,renameat2,linkat,flock,unlink,unlinkat,close,mkdir,mkdirat,newfstatat,fstat,getdents64"

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
	{"ask", store.Running, store.Running, func(t *testing.T, s store.Store, key string) func(store.Store) (store.Record, error) {
		acquired(t, openFile(t, s.(*remoteFile).dir), key, "a") // and lives
		return func(s store.Store) (store.Record, error) { return s.Acquire(t.Context(), fileBid(key, "c")) }
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

var slotPath = regexp.MustCompile(`/claims/[0-9a-f]{32}\.claim$`)

// lastSegment is the path of the last segment of a log, and where the next one comes.
func lastSegment(dir string) (last, next string) {
	all, _ := filepath.Glob(filepath.Join(dir, "log", "*.log"))
	last = slices.Max(all)
	var n int
	_, _ = fmt.Sscanf(filepath.Base(last), "%d", &n)
	return last, filepath.Join(dir, "log", fmt.Sprintf("%08d.log", n+1))
}

// placed is the name of a file of the store, as it stands in a site.
func placed(dir, path string) string {
	path = slotPath.ReplaceAllString(path, "/claims/SLOT")
	last, next := lastSegment(dir)
	return strings.NewReplacer(last, "STORE/log/LAST", next, "STORE/log/NEXT", dir, "STORE").Replace(path)
}

// in are the paths that a site's file may have. It may be any slot.
func (s site) in(dir string) []string {
	if strings.HasSuffix(s.file, "SLOT") {
		slots, _ := filepath.Glob(filepath.Join(dir, "claims", "*.claim"))
		return slots
	}
	last, next := lastSegment(dir)
	return []string{strings.NewReplacer("STORE/log/LAST", last, "STORE/log/NEXT", next, "STORE", dir).Replace(s.file)}
}

// args have strace look at these files only.
func args(paths []string) (args []string) {
	for _, path := range paths {
		args = append(args, "-P", path)
	}
	return args
}

// tracer is strace on a process.
type tracer struct {
	cmd *exec.Cmd
	out string
}

func attach(t *testing.T, pid int, args ...string) *tracer {
	t.Helper()
	if testing.Short() {
		t.Skip("needs strace")
	}
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
		at := site{v.verb, m[1], placed(s.dir, m[2]+m[3]), 1}
		for sites[at] {
			at.nth++
		}
		sites[at] = true
	}
	return sites
}

// allSites are those that each run of a verb has.
func allSites(t *testing.T, v faulty) []site {
	t.Helper()
	s := startRemote(t, memoryDir(t))
	_, err := s.Release(t.Context(), grant(t, s, "warm", "warm")) // there is an idle slot
	require.NoError(t, err)
	sites := sitesOf(t, v, s, "one")
	again := sitesOf(t, v, s, "two")
	maps.DeleteFunc(sites, func(at site, _ bool) bool { return !again[at] })
	return slices.SortedFunc(maps.Keys(sites), func(a, b site) int { return strings.Compare(a.String(), b.String()) })
}
