//go:build linux || darwin

package store

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Directories of tests are not for groups, whoever runs them.
var _ = syscall.Umask(0o022)

// worker is who owns the store of a test: another user if this process may make
// files another user's, else the same.
func worker() keeper {
	if os.Geteuid() == 0 {
		return keeper{uid: 65534, gid: 65533}
	}
	return keeper{uid: os.Geteuid(), gid: os.Getegid()}
}

// workersDir returns a directory that is the worker's, and that it can get at.
func workersDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o711)) //nolint:gosec // for the worker
	require.NoError(t, os.Chown(dir, worker().uid, worker().gid))
	return dir
}

// startWorker starts a child of the worker's.
func startWorker(t *testing.T, role, nonce, dir string) *child {
	t.Helper()
	program := filepath.Join(workersDir(t), "worker")
	in, err := os.Open(os.Args[0])
	require.NoError(t, err)
	defer in.Close()
	out, err := os.OpenFile(program, os.O_WRONLY|os.O_CREATE, 0o755) //nolint:gosec // for the worker
	require.NoError(t, err)
	_, err = io.Copy(out, in)
	require.NoError(t, err)
	require.NoError(t, out.Close())
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestFileChild$")
	cmd.Dir = filepath.Dir(program)
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(worker().uid), Gid: uint32(worker().gid)}}
	}
	return runChild(t, cmd, role, nonce, dir)
}

// requireWorkers checks that everything in dir is the worker's.
func requireWorkers(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		is := keeperOf(info)
		is.mode = 0
		require.Equal(t, worker(), is, path)
		return nil
	}))
}

// An operator of root's works on a store of another user's, who can go on.
func TestFile_RootKeepsTheOwner(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), workersDir(t)
	w := startWorker(t, "contend", "worker", dir)
	w.ask(t, "k")
	require.Equal(t, "true <nil>", w.hear(t))
	path := segmentsIn(t, dir)[0]
	require.NoError(t, os.Chmod(path, 0o640)) //nolint:gosec // as an operator may

	f := newFile(t, dir)
	var seen []string
	step := func(point string) error {
		seen = append(seen, point)
		requireWorkers(t, dir)
		for _, temp := range append(files(t, dir, tempExt), files(t, dir, claimExt)...) {
			seen = append(seen, filepath.Ext(temp))
		}
		return nil
	}
	f.dir.step.Store(&step)
	r, err := f.Load(ctx, "k")
	require.NoError(t, err)
	over := Resolution{ID: "1", To: Tombstone, By: ByOperator, TTL: time.Hour, Force: true}
	_, err = f.Resolve(ctx, "k", r, over)
	require.NoError(t, err)
	mergeAll(t, f)
	info, err := os.Stat(segmentsIn(t, dir)[0])
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o640), info.Mode().Perm(), "as the one before")
	for _, key := range []string{"new", "other"} {
		_, err = f.Acquire(ctx, testBid(key, "root"))
		require.NoError(t, err)
	}
	_, err = f.Settle(ctx, testBid("other", "root"), testSuccess)
	require.NoError(t, err)
	require.NoError(t, f.Check(ctx))
	require.Subset(t, seen, []string{"create", "write", "rename", tempExt, claimExt})
	requireWorkers(t, dir)
	require.Empty(t, files(t, dir, tempExt))

	w = startWorker(t, "contend", "next", dir)
	for _, c := range []struct{ key, want string }{
		{"k", "true <nil>"}, {"new", "false <nil>"}, {"other", "false <nil>"},
	} {
		w.ask(t, c.key)
		require.Equal(t, c.want, w.hear(t), c.key)
	}
	r, err = f.Load(ctx, "new")
	require.NoError(t, err)
	require.True(t, r.Owned("root"), "its claim was seen to be alive")
	require.Equal(t, "<nil>", startWorker(t, "open", "-", dir).hear(t))
}

// files returns the paths of the files with that extension below dir.
func files(t *testing.T, dir, ext string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*", "*"+ext))
	require.NoError(t, err)
	return found
}

// spoil makes the file at path one that others can have written, as far as this
// process may, and returns what mends it.
func spoil(t *testing.T, path string) (mend func(), advice string) {
	t.Helper()
	info, err := os.Lstat(path)
	require.NoError(t, err)
	was := keeperOf(info)
	mend = func() {
		require.NoError(t, os.Chmod(path, was.mode))
		require.NoError(t, os.Lchown(path, was.uid, was.gid))
	}
	if os.Geteuid() == 0 {
		require.NoError(t, os.Lchown(path, 4711, 4711))
		return mend, fmt.Sprintf("%s belongs to uid 4711, and the store to uid %d, as whom all its processes run: chown -R %d:%d '%s'",
			path, was.uid, was.uid, was.gid, path)
	}
	require.NoError(t, os.Chmod(path, was.mode|0o022))
	return mend, "chmod -R go-w '" + path + "'"
}

func verbsOf(ctx context.Context, f *File, b Bid) map[string]func() (Record, error) {
	return map[string]func() (Record, error){
		"Acquire":  func() (Record, error) { return f.Acquire(ctx, b) },
		"Renew":    func() (Record, error) { return f.Renew(ctx, b) },
		"Settle":   func() (Record, error) { return f.Settle(ctx, b, testSuccess) },
		"Release":  func() (Record, error) { return f.Release(ctx, b) },
		"Takeover": func() (Record, error) { return f.Takeover(ctx, b, Record{}) },
		"Resolve": func() (Record, error) {
			return f.Resolve(ctx, b.Key, Record{}, Resolution{ID: "1", To: Failed, By: ByOperator, TTL: time.Hour})
		},
		"Load": func() (Record, error) { return f.Load(ctx, b.Key) },
	}
}

func TestFile_SegmentOfAnotherUserIsRefused(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	f := newFile(t, dir)
	requireWorks(t, f, "old")
	inLog(t, f, func(l *log) { require.NoError(t, l.rotate()) })
	requireWorks(t, f, "new")
	for i, path := range segmentsIn(t, dir) {
		mend, advice := spoil(t, path)
		for verb, call := range verbsOf(ctx, f, testBid("old", "b")) {
			_, err := call()
			require.ErrorIs(t, err, ErrUnsafe, verb)
			require.ErrorContains(t, err, advice, verb)
		}
		r, err := f.Load(ctx, "new")
		if i == 0 {
			require.NoError(t, err, "it is in another file")
			require.Equal(t, Succeeded, r.State)
		} else {
			require.ErrorIs(t, err, ErrUnsafe)
		}
		require.NotEmpty(t, errorsOf(ctx, f, Query{}))
		err = f.Check(ctx)
		require.ErrorIs(t, err, ErrUnsafe)
		require.ErrorContains(t, err, advice)
		_, err = NewFile(dir, FileOptions{AnyFileSystem: true})
		require.ErrorContains(t, err, advice)

		mend()
		require.NoError(t, f.Check(ctx))
		r, err = f.Load(ctx, "old")
		require.NoError(t, err)
		require.Equal(t, Succeeded, r.State)
	}
}

func TestFile_LockOrClaimOfAnotherUserIsRefused(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	f, other := newFile(t, dir), newFile(t, dir)
	_, err := f.Acquire(ctx, testBid("k", "a"))
	require.NoError(t, err)
	for _, path := range []string{filepath.Join(dir, lockName), claimOf(t, f, "k")} {
		mend, advice := spoil(t, path)
		_, err = other.Acquire(ctx, testBid("k", "b"))
		require.ErrorIs(t, err, ErrUnsafe)
		require.ErrorContains(t, err, advice)
		mend()
		r, err := other.Acquire(ctx, testBid("k", "b"))
		require.NoError(t, err)
		require.True(t, r.Owned("a"))
	}
}

// What a worker may not even open is reported as what it is.
func TestFile_WorkerSeesWhatRootLeft(t *testing.T) {
	t.Parallel()
	dir := workersDir(t)
	w := startWorker(t, "contend", "worker", dir)
	w.ask(t, "k")
	require.Equal(t, "true <nil>", w.hear(t))
	for _, path := range []string{segmentsIn(t, dir)[0], filepath.Join(dir, lockName)} {
		want := "others than its owner may write " + path
		if os.Geteuid() == 0 {
			want = path + " belongs to uid 0"
			require.NoError(t, os.Chown(path, 0, 0))
		} else {
			require.NoError(t, os.Chmod(path, 0o666)) //nolint:gosec // so that it is refused
		}
		w.ask(t, "k")
		said := w.hear(t)
		require.Contains(t, said, ErrUnsafe.Error())
		require.Contains(t, said, want)
		require.Contains(t, startWorker(t, "open", "-", dir).hear(t), want)

		require.NoError(t, os.Chmod(path, 0o600))
		require.NoError(t, os.Chown(path, worker().uid, worker().gid))
		w.ask(t, "k")
		require.Equal(t, "true <nil>", w.hear(t))
	}
}

func TestNewFile_RefusesAnothersDirectory(t *testing.T) {
	t.Parallel()
	dir := workersDir(t)
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(dir, 4711, 4711))
		require.NoError(t, os.Chmod(dir, 0o711)) //nolint:gosec // the worker can get at it
	} else {
		dir = "/usr" // of root's
	}
	said := startWorker(t, "open", "-", dir).hear(t)
	require.Contains(t, said, ErrUnsafe.Error())
	require.Contains(t, said, fmt.Sprintf("this process runs as uid %d. All processes of a store run as one user", worker().uid))
	require.Contains(t, said, fmt.Sprintf("chown -R %d '%s'", worker().uid, dir))
}

func TestNewFile_RefusesWhatOthersMayWrite(t *testing.T) {
	t.Parallel()
	for _, mode := range []fs.FileMode{0o777, 0o777 | fs.ModeSticky, 0o775, 0o770 | fs.ModeSetgid, 0o720, 0o702} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f := newFile(t, dir)
			for _, path := range []string{dir, f.dir.logDir(), f.dir.claimsDir()} {
				require.NoError(t, os.Chmod(path, mode))
				_, err := NewFile(dir, FileOptions{AnyFileSystem: true})
				for _, err := range []error{err, f.Check(t.Context())} {
					require.ErrorIs(t, err, ErrUnsafe)
					require.ErrorContains(t, err, "All processes of a store run as one user: chmod -R go-w '"+path+"'")
				}
				require.NoError(t, os.Chmod(path, 0o755)) //nolint:gosec // others may look
				newFile(t, dir)
			}
		})
	}
}

// A log that its operator let a group read stays so; its owner need not be in the
// group.
func TestFile_SegmentsKeepModeAndGroup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFile(t, dir)
	group := os.Getegid()
	if os.Geteuid() == 0 {
		group = 4711
	}
	for _, mode := range []fs.FileMode{0o640, 0o644, 0o600} {
		path := segmentsIn(t, dir)[0]
		require.NoError(t, os.Chown(path, -1, group))
		require.NoError(t, os.Chmod(path, mode))
		mergeAll(t, f)
		require.NotEqual(t, path, segmentsIn(t, dir)[0])
		info, err := os.Lstat(segmentsIn(t, dir)[0])
		require.NoError(t, err)
		require.Equal(t, keeper{os.Geteuid(), group, mode}, keeperOf(info))
		requireWorks(t, f, mode.String())
	}
}

func TestFile_ModesWithAnyUmask(t *testing.T) {
	t.Parallel()
	for _, mask := range []string{"000", "022", "077", "177"} {
		t.Run(mask, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "store")
			if mask == "177" { // which allows no directories
				newFile(t, dir)
			}
			c := startChild(t, "contend", "child", dir, "sh", "-c", "umask "+mask+`; exec "$@"`, "sh")
			c.ask(t, "k")
			require.Equal(t, "true <nil>", c.hear(t))
			require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				require.NoError(t, err)
				info, err := d.Info()
				require.NoError(t, err)
				want := fs.FileMode(0o600)
				if d.IsDir() {
					want = 0o700
				}
				require.Equal(t, want, info.Mode().Perm(), path)
				return nil
			}))
			r, err := newFile(t, dir).Load(t.Context(), "k")
			require.NoError(t, err)
			require.True(t, r.Owned("child"))
		})
	}
}
