//go:build linux || darwin

package store

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// plants put something that is no file in a file's place. outside is a file that
// nothing may touch.
var plants = map[string]func(t *testing.T, path, outside string){
	"a named pipe": func(t *testing.T, path, _ string) {
		t.Helper()
		require.NoError(t, syscall.Mkfifo(path, 0o600))
	},
	"a directory": func(t *testing.T, path, _ string) {
		t.Helper()
		require.NoError(t, os.MkdirAll(filepath.Join(path, "full"), 0o700))
	},
	"a symbolic link": func(t *testing.T, path, outside string) {
		t.Helper()
		require.NoError(t, os.Symlink(outside, path))
	},
	"a symbolic link to nothing": func(t *testing.T, path, outside string) {
		t.Helper()
		require.NoError(t, os.Symlink(outside+"-not-there", path))
	},
	"a device": func(t *testing.T, path, _ string) {
		t.Helper()
		if syscall.Mknod(path, syscall.S_IFCHR|0o600, 1<<8|5) != nil { // as who may not make one
			require.NoError(t, os.Symlink("/dev/zero", path))
		}
	},
	"a socket": func(t *testing.T, path, _ string) {
		t.Helper()
		plantSocket(t, path)
	},
}

// plantSocket makes it where its name is short enough.
func plantSocket(t *testing.T, path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "s") //nolint:usetesting // whose name is too long for a socket
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(dir, "s")})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	require.NoError(t, os.Rename(filepath.Join(dir, "s"), path))
}

// eachPlant runs f for each thing in the place of a file. f gets a function that puts
// it at a path, and one that does what must not hang.
func eachPlant(t *testing.T, run func(t *testing.T, plant func(path string), atOnce func(func()))) {
	t.Helper()
	for name, plant := range plants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outside := filepath.Join(t.TempDir(), "outside")
			require.NoError(t, os.WriteFile(outside, []byte(wholeRecord), 0o600))
			run(t, func(path string) { plant(t, path, outside) }, func(do func()) {
				t.Helper()
				done := make(chan struct{})
				go func() {
					defer close(done)
					do()
				}()
				select {
				case <-done:
				case <-time.After(10 * time.Second):
					require.FailNow(t, "it hangs")
				}
			})
			content, err := os.ReadFile(outside)
			require.NoError(t, err)
			require.Len(t, content, len(wholeRecord))
			require.Contains(t, string(content), wholeRecord, "it was written to")
			require.NoFileExists(t, outside+"-not-there")
		})
	}
}

// requireWorks checks that a key can be claimed and settled.
func requireWorks(t *testing.T, f *File, key string) {
	t.Helper()
	b := testBid(key, "n")
	_, err := f.Acquire(t.Context(), b)
	require.NoError(t, err)
	r, err := f.Settle(t.Context(), b, testSuccess)
	require.NoError(t, err)
	require.Equal(t, testSuccess, r.Outcome)
}

func errorsOf(ctx context.Context, f *File, q Query) (errs []error) {
	for _, err := range f.List(ctx, q) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// nextSegment is where the next segment of a log comes.
func nextSegment(t *testing.T, f *File) string {
	t.Helper()
	var path string
	inLog(t, f, func(l *log) { path = filepath.Join(f.dir.logDir(), segmentName(l.last().n+1)) })
	return path
}

func TestFile_PlantedSegment(t *testing.T) {
	t.Parallel()
	eachPlant(t, func(t *testing.T, plant func(string), atOnce func(func())) {
		t.Helper()
		ctx, dir := t.Context(), t.TempDir()
		f := newFile(t, dir)
		requireWorks(t, f, "before")
		for _, path := range []string{nextSegment(t, f), segmentsIn(t, dir)[0]} {
			aside := filepath.Join(t.TempDir(), "aside")
			_ = os.Rename(path, aside)
			plant(path)
			for verb, call := range verbsOf(ctx, f, testBid("k", "a")) {
				atOnce(func() {
					_, err := call()
					require.ErrorIs(t, err, ErrUnsafe, verb)
					require.ErrorContains(t, err, path+" is a", verb)
				})
			}
			require.Empty(t, f.claims.held)
			atOnce(func() {
				require.Len(t, errorsOf(ctx, f, Query{}), 1)
				require.ErrorIs(t, f.Check(ctx), ErrUnsafe)
				_, err := NewFile(dir, FileOptions{AnyFileSystem: true})
				require.ErrorIs(t, err, ErrUnsafe)
			})
			_, err := os.Lstat(path)
			require.NoError(t, err, "nothing took it away")
			require.NoError(t, os.RemoveAll(path))
			_ = os.Rename(aside, path)
			requireWorks(t, f, "after "+filepath.Base(path))
			r, err := f.Load(ctx, "before")
			require.NoError(t, err)
			require.Equal(t, testSuccess, r.Outcome)
		}
	})
}

func TestFile_PlantedTemp(t *testing.T) {
	t.Parallel()
	eachPlant(t, func(t *testing.T, plant func(string), atOnce func(func())) {
		t.Helper()
		dir := t.TempDir()
		f := newFile(t, dir)
		temp := filepath.Join(f.dir.logDir(), "check"+tempExt)
		plant(temp)
		info, err := os.Lstat(temp)
		require.NoError(t, err)
		atOnce(func() {
			requireWorks(t, f, "k")
			err := f.Check(t.Context())
			if !info.IsDir() { // it was taken for what a crash left
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, ErrUnsafe)
			require.ErrorContains(t, err, temp+" is in the way")
		})
		require.NoError(t, os.RemoveAll(temp))
		require.NoError(t, f.Check(t.Context()))
		requireWorks(t, newFile(t, dir), "m")
	})
}

func TestFile_PlantedLock(t *testing.T) {
	t.Parallel()
	eachPlant(t, func(t *testing.T, plant func(string), atOnce func(func())) {
		t.Helper()
		ctx, dir := t.Context(), t.TempDir()
		f := newFile(t, dir)
		lock := filepath.Join(dir, lockName)
		require.NoError(t, os.Remove(lock))
		plant(lock)
		for range 2 {
			for verb, call := range verbsOf(ctx, f, testBid("k", "a")) {
				atOnce(func() {
					_, err := call()
					require.ErrorIs(t, err, ErrUnsafe, verb)
					require.ErrorContains(t, err, lock+" is a", verb)
				})
			}
		}
		atOnce(func() {
			require.ErrorIs(t, errorsOf(ctx, f, Query{})[0], ErrUnsafe)
			require.ErrorIs(t, f.Check(ctx), ErrUnsafe)
			require.ErrorIs(t, f.Clear(ctx), ErrUnsafe)
			_, err := NewFile(dir, FileOptions{AnyFileSystem: true})
			require.ErrorIs(t, err, ErrUnsafe)
		})
		require.NoError(t, os.RemoveAll(lock))
		require.ErrorIs(t, f.Check(ctx), ErrForgot, "somebody has been there")
		requireWorks(t, f, "k")
	})
}

func TestFile_PlantedClaim(t *testing.T) {
	t.Parallel()
	eachPlant(t, func(t *testing.T, plant func(string), atOnce func(func())) {
		t.Helper()
		ctx, dir := t.Context(), t.TempDir()
		f, other := newFile(t, dir), newFile(t, dir)
		_, err := f.Acquire(ctx, testBid("k", "a"))
		require.NoError(t, err)
		claim := claimOf(t, f, "k")
		require.NoError(t, os.Remove(claim))
		plant(claim)
		atOnce(func() {
			_, err := other.Acquire(ctx, testBid("k", "b"))
			require.ErrorIs(t, err, ErrUnsafe)
			require.ErrorContains(t, err, "cannot tell whether the owner lives")
			requireWorks(t, other, "l")
			newFile(t, dir)
		})
		r, err := other.Load(ctx, "k")
		require.NoError(t, err)
		require.True(t, r.Owned("a"), "nothing is decided about it")

		_, err = f.Renew(ctx, testBid("k", "a"))
		require.NoError(t, err)
		r, err = other.Acquire(ctx, testBid("k", "b"))
		require.NoError(t, err)
		require.True(t, r.Owned("a"), "by another slot")
	})
}

func TestFile_PlantedDirectory(t *testing.T) {
	t.Parallel()
	eachPlant(t, func(t *testing.T, plant func(string), atOnce func(func())) {
		t.Helper()
		ctx, dir := t.Context(), t.TempDir()
		f := newFile(t, dir)
		requireWorks(t, f, "before")
		for _, path := range []string{f.dir.logDir(), f.dir.claimsDir()} {
			aside := filepath.Join(t.TempDir(), "aside")
			require.NoError(t, os.Rename(path, aside))
			plant(path)
			if info, err := os.Lstat(path); err == nil && info.IsDir() {
				require.NoError(t, os.RemoveAll(path))
				require.NoError(t, os.Symlink(aside, path))
			}
			atOnce(func() {
				require.ErrorIs(t, f.Check(ctx), ErrUnsafe)
				_, err := NewFile(dir, FileOptions{AnyFileSystem: true})
				require.ErrorIs(t, err, ErrUnsafe)
				require.ErrorContains(t, err, path+" is a")
			})
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Rename(aside, path))
			require.NoError(t, f.Check(ctx))
			requireWorks(t, f, "after "+path)
		}
	})
}

// A backup by hard links, or by copies of the segments in any order, has what was
// there.
func TestFile_HardLinkOfASegment(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	f := newFile(t, dir)
	requireWorks(t, f, "k")
	backup := filepath.Join(t.TempDir(), "backup")
	require.NoError(t, os.Link(segmentsIn(t, dir)[0], backup))
	mergeAll(t, f)
	require.NotContains(t, segmentsIn(t, dir), backup)
	text, err := os.ReadFile(backup)
	require.NoError(t, err)
	require.Contains(t, string(text), digest("k"))
	r, err := f.Load(ctx, "k")
	require.NoError(t, err)
	require.Equal(t, Succeeded, r.State)
}

func TestNewFile_RefusesAStoreOfAFileForEachRecord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for n := range 256 {
		require.NoError(t, os.Mkdir(filepath.Join(dir, fmt.Sprintf("%02x", n)), 0o700))
	}
	_, err := NewFile(dir, FileOptions{AnyFileSystem: true})
	require.ErrorIs(t, err, ErrVersion)
	require.ErrorContains(t, err, dir)
}

func TestNewFile_RefusesWhatIsNoDirectoryOfItsOwn(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	in := func(name string) string { return filepath.Join(parent, name) }
	write := func(names ...string) {
		for _, name := range names {
			require.NoError(t, os.MkdirAll(filepath.Dir(in(name)), 0o700))
			require.NoError(t, os.WriteFile(in(name), nil, 0o600))
		}
	}
	write("file", "home/.profile", "checkout/.git/HEAD", "objects/00/6a1b", "objects/pack/x", "full/a b")
	require.NoError(t, os.Symlink(in("nothing"), in("dangling")))
	require.NoError(t, os.Symlink(in("loop"), in("loop")))
	require.NoError(t, os.Symlink(in("file"), in("to a file")))
	require.NoError(t, syscall.Mkfifo(in("pipe"), 0o600))
	plantSocket(t, in("socket"))
	for _, dir := range []string{
		"", "/", "//", "/tmp/..", in("file"), in("home"), in("checkout"), in("objects"), in("full"), in("dangling"),
		in("loop"), in("to a file"), in("pipe"), in("socket"), in("file/below"), parent,
	} {
		_, err := NewFile(dir, FileOptions{AnyFileSystem: true})
		require.ErrorIs(t, err, ErrInvalid, "%q", dir)
	}
	require.NoFileExists(t, in("nothing"))
	for _, dir := range []string{"home", "checkout", "full"} {
		entries, err := os.ReadDir(in(dir))
		require.NoError(t, err)
		require.Len(t, entries, 1, "%q was left as it was", dir)
	}
}

func TestNewFile_OpensWhatIsOrMayBecomeAStore(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	in := func(name string) string { return filepath.Join(parent, name) }
	for _, name := range []string{"empty", "volume/lost+found", "begun/log", "begun/claims"} {
		require.NoError(t, os.MkdirAll(in(name), 0o700))
	}
	require.NoError(t, os.Symlink(in("empty"), in("link")))
	requireWorks(t, newFile(t, in("used")), "k")
	require.NoError(t, os.WriteFile(in("used/notes of an operator"), nil, 0o600))
	require.NoError(t, os.RemoveAll(in("used/claims")))
	for _, name := range []string{"empty", "link", "volume", "begun", "used", "new/below/new"} {
		f := newFile(t, in(name))
		requireWorks(t, f, "of "+name)
		r, err := newFile(t, in(name)).Load(t.Context(), "of "+name)
		require.NoError(t, err)
		require.Equal(t, testSuccess, r.Outcome)
	}
}

func TestNewFile_LeavesTheWorkingDirectoryAlone(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := NewFile("", FileOptions{AnyFileSystem: true})
	require.ErrorIs(t, err, ErrInvalid)
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	require.Empty(t, entries)
	requireWorks(t, newFile(t, "records"), "k") // named, if not from the root
	require.FileExists(t, filepath.Join("records", lockName))
	_, err = NewFile(".", FileOptions{AnyFileSystem: true})
	require.ErrorIs(t, err, ErrInvalid)
	t.Chdir("records")
	requireWorks(t, newFile(t, "."), "l")
}
