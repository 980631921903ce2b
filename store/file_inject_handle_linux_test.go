package store_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

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
	grant(t, first, "warm", "a")
	sites := slices.Collect(maps.Keys(sitesOf(t, check, first, "")))
	// strace counts the calls of each thread, and Check makes many of these.
	sites = slices.DeleteFunc(sites, func(at site) bool { return at.call == "newfstatat" && at.nth > 1 })
	require.Greater(t, len(sites), 10)
	for _, name := range injectedErrors {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startRemote(t, memoryDir(t))
			try := check.prepare(t, s, "")
			_, err := try(s)
			require.NoError(t, err)
			f := &faultyFile{remoteFile: s}
			files := f.others(t)
			for _, at := range sites {
				for i := 0; ; i++ {
					require.Less(t, i, 50, "%s: it did not fail", at)
					paths := at.in(s.dir)
					tr := attach(t, s.cmd.Process.Pid, append(args(paths), "-e", "trace="+at.call,
						"-e", fmt.Sprintf("inject=%s:error=%s:when=%d", at.call, name, at.nth))...)
					_, err := try(s)
					if !injected(tr.calls(t), paths) {
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
				require.Eventually(t, func() bool { return f.others(t) == files }, 5*time.Second, time.Millisecond, "open files after %s", at)
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
				require.True(t, injected(tr.calls(t), []string{at.file}), "it did not fail")
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
	acquired(t, openFile(t, dir), "k", "a")
	out := filepath.Join(t.TempDir(), "trace")
	s := startRemote(t, dir, "strace", "-f", "-y", "-o", out, "-e", "trace="+injectedCalls)
	_, err := s.do(t.Context(), RemoteCall{Verb: "Load", Key: "other"})
	require.NoError(t, err)
	require.NoError(t, s.end())
	sites := map[site]bool{}
	for _, call := range store.Traced(t, out) {
		m := callAndPath.FindStringSubmatch(call)
		if m != nil && strings.HasPrefix(m[2]+m[3], dir) {
			sites[site{"open", m[1], m[2] + m[3], 1}] = true
		}
	}
	require.Greater(t, len(sites), 8)
	for at := range sites {
		for _, name := range append(slices.Clone(injectedErrors), "KILL") {
			t.Run(at.call+" of "+filepath.Base(at.file)+" "+name, func(t *testing.T) {
				t.Parallel()
				fault := "error=" + name
				if name == "KILL" {
					fault = "signal=KILL"
				}
				out := filepath.Join(t.TempDir(), "trace")
				s := startRemote(t, dir, "strace", "-f", "-y", "-o", out, "-P", at.file, "-e", "trace="+at.call, "-e", "inject="+at.call+":when=1:"+fault)
				_, err := s.do(t.Context(), RemoteCall{Verb: "Load", Key: "k"})
				ended := s.end()
				if name == "KILL" && at.call != "close" {
					require.Error(t, ended)
				} else if at.call != "close" { // which its end may forestall
					require.True(t, injected(store.Traced(t, out), []string{at.file}), "it did not fail")
				}
				if name == "EINTR" && at.call != "close" {
					require.NoError(t, err)
				}
				r, err := openFile(t, dir).Acquire(t.Context(), fileBid("k", "b"))
				require.NoError(t, err)
				require.True(t, r.Owned("a"), "%s of %s", r.State, r.Owner)
			})
		}
	}
}

// A call of the kernel that takes a minute is not waited for.
func TestFile_SlowCallOfTheKernelIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	b, other := fileBid("k", "a"), fileBid("k", "b")
	for name, c := range map[string]struct {
		call, file string
		do         RemoteCall
	}{
		"load":    {"pread64", "STORE/log/LAST", RemoteCall{Verb: "Load", Key: "k"}},
		"list":    {"pread64", "STORE/log/LAST", RemoteCall{Verb: "List"}},
		"acquire": {"openat", "STORE/claims/SLOT", RemoteCall{Verb: "Acquire", Bid: other}},
		"lock":    {"openat", "STORE/lock", RemoteCall{Verb: "Acquire", Bid: b}},
		"settle":  {"write", "STORE/log/LAST", RemoteCall{Verb: "Settle", Bid: b, Outcome: success}},
		"sync":    {"fdatasync", "STORE/log/LAST", RemoteCall{Verb: "Release", Bid: b}},
		"check":   {"newfstatat", "STORE", RemoteCall{Verb: "Check"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startRemote(t, memoryDir(t))
			grant(t, s, "k", "a")
			attach(t, s.cmd.Process.Pid, append(args(site{file: c.file}.in(s.dir)), "-e", "trace="+c.call, "-e", "inject="+c.call+":delay_enter=60s")...)
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
			require.Less(t, time.Since(began), 50*time.Second)
		})
	}
}
