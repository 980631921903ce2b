package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

// workerDir, in the environment, makes this program a worker that claims its keys in the
// store of that directory, and then hangs.
const workerDir = "ATMOSTONCE_TEST_WORKER"

// binary is the tool, as it is installed.
var binary string

func TestMain(m *testing.M) {
	if dir := os.Getenv(workerDir); dir != "" {
		work(dir)
	}
	os.Exit(withBinary(m))
}

func withBinary(m *testing.M) int {
	dir, err := os.MkdirTemp("", "temporal-atmostonce-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "temporal-atmostonce")
	build := exec.Command("go", "build", "-o", binary, "..")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return 1
	}
	return m.Run()
}

// work is a worker that is killed in the middle of its charges.
func work(dir string) {
	s, err := store.NewFile(dir, store.FileOptions{AnyFileSystem: true})
	for _, order := range strings.Fields(os.Getenv(workerOrders)) {
		if err == nil {
			_, err = s.Acquire(context.Background(), killedBid(order))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("claimed") //nolint:forbidigo // to its parent
	select {}
}

// workerOrders, in the environment, are the orders that the worker charges.
const workerOrders = "ATMOSTONCE_TEST_ORDERS"

func killedBid(order string) store.Bid {
	b := bidOf(order)
	b.Deadline = 1e6 // a millisecond
	return b
}

// killWorker leaves what a killed worker leaves: keys that the next attempts find in
// doubt. It returns the directory of the store.
func killWorker(t *testing.T) string {
	t.Helper()
	return killWorkerOf(t, "0", "1", "2", "3", "4", "5")
}

func killWorkerOf(t *testing.T, orders ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerDir+"="+dir, workerOrders+"="+strings.Join(orders, " "))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = out.Read(make([]byte, 10))
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	s, err := store.NewFile(dir, store.FileOptions{AnyFileSystem: true})
	require.NoError(t, err)
	defer s.Close()
	for _, order := range orders {
		b := killedBid(order)
		b.Owner += ", attempt 2"
		r, err := s.Acquire(t.Context(), b)
		require.NoError(t, err)
		require.Equal(t, store.InDoubt, r.State)
	}
	return dir
}

// urlOf is the URL of a store of files, which a test may have in memory.
func urlOf(dir string) string { return "file:" + dir + "?any_file_system=true" }

// tooled runs the binary, in an environment of its own.
func tooled(t *testing.T, env []string, args ...string) ran {
	t.Helper()
	var out, errs buffer
	cmd := exec.Command(binary, args...)
	cmd.Env = append([]string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}, env...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return ran{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// serving starts the binary as a server that ends with the test, and returns the URL that
// it prints.
func serving(t *testing.T, env []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = append([]string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}, env...)
	errs, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewReader(errs)
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "Serving ")
	require.True(t, ok, line)
	return url
}
