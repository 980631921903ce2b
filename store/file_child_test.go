//go:build linux || darwin

package store

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// childRole says what a re-executed test binary does.
const childRole = "ATMOSTONCE_TEST_FILE_CHILD"

// TestFileChild is the other process of the tests below. On its own it does
// nothing.
func TestFileChild(t *testing.T) {
	role, rest, _ := strings.Cut(os.Getenv(childRole), " ")
	if role == "" {
		return
	}
	arg, dir, _ := strings.Cut(rest, " ")
	if role == "open" {
		_, err := NewFile(dir, FileOptions{AnyFileSystem: true})
		fmt.Println("child ready")                                           //nolint:forbidigo // to the parent
		fmt.Println("child", strings.ReplaceAll(fmt.Sprint(err), "\n", " ")) //nolint:forbidigo // to the parent
		return
	}
	f := newFile(t, dir)
	fmt.Println("child ready") //nolint:forbidigo // to the parent
	in := bufio.NewReader(os.Stdin)
	switch role {
	case "contend": // on every line that comes in
		for key, err := in.ReadString('\n'); err == nil; key, err = in.ReadString('\n') {
			r, err := f.Acquire(t.Context(), testBid(strings.TrimSpace(key), arg))
			fmt.Println("child", r.Owned(arg), err) //nolint:forbidigo // to the parent
		}
	case "grant", "settle", "doubt": // and be killed at a point of it
		b := testBid("k", "child")
		if role != "grant" {
			_, err := f.Acquire(t.Context(), b)
			require.NoError(t, err)
		}
		step := func(point string) error {
			if point == arg {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
			return nil
		}
		f.dir.step.Store(&step)
		switch role {
		case "settle":
			_, _ = f.Settle(t.Context(), b, testSuccess)
		case "doubt":
			_, _ = f.Settle(t.Context(), b, Outcome{State: InDoubt})
		default:
			_, _ = f.Acquire(t.Context(), b)
		}
	}
	_, _ = io.Copy(io.Discard, in) // until the parent goes
}

type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// startChild starts a process with a handle on dir, by another program if one is
// given. It ends with the test, at the latest.
func startChild(t *testing.T, role, arg, dir string, by ...string) *child {
	t.Helper()
	if len(by) > 0 && by[0] == "strace" && testing.Short() {
		t.Skip("needs strace")
	}
	line := slices.Concat(by, []string{os.Args[0], "-test.run=^TestFileChild$"})
	return runChild(t, exec.CommandContext(t.Context(), line[0], line[1:]...), role, arg, dir)
}

func runChild(t *testing.T, cmd *exec.Cmd, role, arg, dir string) *child {
	t.Helper()
	cmd.Env = append(os.Environ(), childRole+"="+role+" "+arg+" "+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	c := &child{cmd: cmd, in: in, out: bufio.NewScanner(out)}
	t.Cleanup(c.kill)
	require.Equal(t, "ready", c.hear(t))
	return c
}

// hear returns the child's next word.
func (c *child) hear(t *testing.T) string {
	t.Helper()
	for c.out.Scan() {
		if said, ok := strings.CutPrefix(c.out.Text(), "child "); ok {
			return said
		}
	}
	require.FailNow(t, "the child has ended", "%v", c.out.Err())
	return ""
}

// ask makes a contending child acquire the key.
func (c *child) ask(t *testing.T, key string) {
	t.Helper()
	_, err := fmt.Fprintln(c.in, key)
	require.NoError(t, err)
}

// kill returns when the process is gone.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

func TestFile_KilledOwnerIsInDoubtAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFile(t, dir)
	owner := startChild(t, "contend", "child", dir)
	owner.ask(t, "k")
	require.Equal(t, "true <nil>", owner.hear(t))
	r, err := f.Acquire(t.Context(), testBid("k", "b"))
	require.NoError(t, err)
	require.True(t, r.Owned("child"))

	owner.kill()
	r, err = f.Acquire(t.Context(), testBid("k", "b"))
	require.NoError(t, err)
	require.Equal(t, InDoubt, r.State)
	require.True(t, r.Marked)
	require.Less(t, r.Now.Sub(r.Claimed), time.Minute, "before its lease was over")
}

func TestFile_StoppedOwnerIsAlive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFile(t, dir)
	owner := startChild(t, "contend", "child", dir)
	owner.ask(t, "k")
	require.Equal(t, "true <nil>", owner.hear(t))
	require.NoError(t, owner.cmd.Process.Signal(syscall.SIGSTOP))
	r, err := f.Acquire(t.Context(), testBid("k", "b"))
	require.NoError(t, err)
	require.True(t, r.Owned("child"))
	require.NoError(t, owner.cmd.Process.Signal(syscall.SIGCONT))
}

func TestFile_ProcessesContend(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var children []*child
	for i := range 3 {
		children = append(children, startChild(t, "contend", fmt.Sprint("n", i), dir))
	}
	for key := range 40 {
		for _, c := range children {
			c.ask(t, fmt.Sprint(key))
		}
		var answers []string
		for _, c := range children {
			answers = append(answers, c.hear(t))
		}
		require.ElementsMatch(t, []string{"true <nil>", "false <nil>", "false <nil>"}, answers)
	}
}

// What a process has written is there, whether it was synced or not.
func TestFile_KilledWhileWriting(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		role, point string
		want        State
	}{
		{"grant", "write", InDoubt},
		{"grant", "fsync", InDoubt},
		{"settle", "write", Succeeded},
		{"settle", "fsync", Succeeded},
	} {
		t.Run(c.role+" "+c.point, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f := newFile(t, dir)
			require.Error(t, startChild(t, c.role, c.point, dir).cmd.Wait())

			b := testBid("k", "b")
			r, err := f.Acquire(t.Context(), b)
			require.NoError(t, err)
			require.Equal(t, c.want, r.State)
			require.Equal(t, "child", r.Owner)
			if c.want == InDoubt {
				r, err = f.Takeover(t.Context(), b, r)
				require.NoError(t, err)
				require.True(t, r.Owned("b"))
			} else {
				require.Equal(t, testSuccess, r.Outcome)
			}
		})
	}
}
