//go:build linux || darwin

package atmostonce_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// childRole says what a re-executed test binary does: a role, and a directory.
const childRole = "ATMOSTONCE_TEST_FUNCTION_CHILD"

// till is where money goes, in a directory that a file store is in too: a line that is
// on the disk for each payment.
type till struct{ dir string }

func (l till) path() string { return filepath.Join(l.dir, "ledger") }

func (l till) pay(id string) error {
	f, err := os.OpenFile(l.path(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := fmt.Fprintln(f, id); err != nil {
		return err
	}
	return f.Sync()
}

// paid returns how often it was paid.
func (l till) paid(id string) int {
	data, _ := os.ReadFile(l.path())
	n := 0
	for line := range strings.Lines(string(data)) {
		if line == id+"\n" {
			n++
		}
	}
	return n
}

// find is a Reconcile function.
func (l till) find(_ context.Context, in event) (receipt, error) {
	if l.paid(in.ID) == 0 {
		return receipt{}, once.ErrNotDone
	}
	return receipt{"found"}, nil
}

// guard returns a guard over the file store of the directory.
func (l till) guard(t *testing.T) *atmostonce.Guard {
	t.Helper()
	s, err := store.NewFile(filepath.Join(l.dir, "records"), store.FileOptions{AnyFileSystem: true})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	g, err := atmostonce.New(s, atmostonce.Options{
		Lease: 600 * time.Millisecond, SettleDelay: 300 * time.Millisecond, HoldRetry: time.Second,
		Defaults: once.Policy{OnDuplicate: once.Wait}, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	require.NoError(t, g.Start(t.Context()))
	return g
}

// TestFunctionChild is the other process of the tests below. On its own it does nothing.
func TestFunctionChild(t *testing.T) {
	role, dir, _ := strings.Cut(os.Getenv(childRole), " ")
	if role == "" {
		return
	}
	l := till{dir}
	say := func(what string) { fmt.Println("child", what) } //nolint:forbidigo // to the parent
	switch role {
	case "before", "after": // to be killed in the function, before it pays or after
		pay := atmostonce.Func(l.guard(t), "pay", byID, func(_ context.Context, in event) (receipt, error) {
			if role == "after" {
				require.NoError(t, l.pay(in.ID))
			}
			say("in the function")
			select {}
		})
		_, err := pay(t.Context(), event{ID: "7"})
		say(fmt.Sprint("returned: ", err))
	case "contend":
		pay := atmostonce.Func(l.guard(t), "pay", byID, func(_ context.Context, in event) (receipt, error) {
			return receipt{"of " + in.ID}, l.pay(in.ID)
		})
		say("ready")
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		for i := range contended {
			id := strconv.Itoa(i)
			r, err := pay(t.Context(), event{ID: id})
			if err == nil && r.Charge != "of "+id {
				err = errors.New("another receipt: " + r.Charge)
			}
			require.NoError(t, err)
		}
		say("done")
	}
}

const contended = 50

type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startChild(t *testing.T, role, dir string) *child {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFunctionChild$")
	cmd.Env = append(os.Environ(), childRole+"="+role+" "+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	c := &child{cmd, in, bufio.NewScanner(out)}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return c
}

// hear asserts what the child says next.
func (c *child) hear(t *testing.T, want string) {
	t.Helper()
	var all []string
	for c.out.Scan() {
		if said, ok := strings.CutPrefix(c.out.Text(), "child "); ok {
			require.Equal(t, want, said)
			return
		}
		all = append(all, c.out.Text())
	}
	require.FailNow(t, "the child has ended", strings.Join(all, "\n"))
}

func TestFunc_ProcessIsKilledInTheFunction(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"before", "after"} {
		paid := map[string]int{"before": 0, "after": 1}[when]
		for name, c := range map[string]struct {
			policy func(till) once.DoubtPolicy
			fails  bool
			retry  time.Duration
			found  bool
			paid   int // in the end
		}{
			"Hold":      {func(till) once.DoubtPolicy { return once.Hold }, true, time.Second, false, paid},
			"Fail":      {func(till) once.DoubtPolicy { return once.Fail }, true, 0, false, paid},
			"Rerun":     {func(till) once.DoubtPolicy { return once.Rerun }, false, 0, false, paid + 1},
			"Reconcile": {func(l till) once.DoubtPolicy { return once.Reconcile(l.find) }, false, 0, when == "after", 1},
		} {
			t.Run(name+", killed "+when+" the effect", func(t *testing.T) {
				t.Parallel()
				l := till{t.TempDir()}
				other := startChild(t, when, l.dir)
				other.hear(t, "in the function")
				require.NoError(t, other.cmd.Process.Signal(syscall.SIGKILL))
				_ = other.cmd.Wait()
				require.Equal(t, paid, l.paid("7"))

				g := l.guard(t)
				pay := atmostonce.Func(g, "pay", under(func(p *once.Policy) { p.InDoubt = c.policy(l) }), func(_ context.Context, in event) (receipt, error) {
					return receipt{"paid"}, l.pay(in.ID)
				})
				require.NoError(t, g.Err())
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				for range 2 {
					r, err := pay(ctx, event{ID: "7"})
					switch {
					case c.fails:
						require.Equal(t, c.retry, refusalOf(t, err, once.InDoubt).RetryAfter)
						require.True(t, atmostonce.MayHaveHappened(err))
					case c.found:
						require.NoError(t, err)
						require.Equal(t, receipt{"found"}, r)
					default:
						require.NoError(t, err)
						require.Equal(t, receipt{"paid"}, r)
					}
					require.Equal(t, c.paid, l.paid("7"))
				}
				require.NoError(t, g.Close(t.Context()))
			})
		}
	}
}

func TestFunc_ProcessesShareAStore(t *testing.T) {
	t.Parallel()
	l := till{t.TempDir()}
	var all []*child
	for range 3 {
		all = append(all, startChild(t, "contend", l.dir))
	}
	for _, c := range all {
		c.hear(t, "ready")
	}
	for _, c := range all {
		_, err := fmt.Fprintln(c.in, "go")
		require.NoError(t, err)
	}
	for _, c := range all {
		c.hear(t, "done")
	}
	for i := range contended {
		require.Equal(t, 1, l.paid(strconv.Itoa(i)))
	}
}

// What a policy answers at once must cost a crowd of callers no crowd of files.
func TestFunc_TenThousandDuplicatesOpenFewFiles(t *testing.T) { // alone: it counts what the process has
	const callers = 10_000
	l := till{t.TempDir()}
	records, err := store.NewFile(filepath.Join(l.dir, "records"), store.FileOptions{AnyFileSystem: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, records.Close()) })
	g := newGuardOver(t, records, atmostonce.Options{})
	open := func() int {
		files, err := os.ReadDir("/dev/fd")
		require.NoError(t, err)
		return len(files)
	}
	for _, policy := range []once.DuplicatePolicy{once.Return, once.Reject} {
		release, running := make(chan struct{}), make(chan struct{})
		pay := atmostonce.Func(g, policy.String(), under(func(p *once.Policy) { p.OnDuplicate = policy }), func(_ context.Context, in event) (receipt, error) {
			close(running)
			<-release
			return receipt{in.ID}, l.pay(policy.String())
		})
		var first, all sync.WaitGroup
		var ended, refused atomic.Int32
		first.Go(func() { _, _ = pay(t.Context(), event{ID: "7"}) })
		<-running
		files, goroutines := open(), runtime.NumGoroutine()
		for range callers {
			all.Go(func() {
				if _, err := pay(t.Context(), event{ID: "7"}); err != nil {
					refused.Add(1)
				}
				ended.Add(1)
			})
		}
		for ended.Load() < callers {
			// On a slow machine the store's time is up for many at once: each such context
			// ends in a goroutine of its own.
			require.LessOrEqual(t, runtime.NumGoroutine()-goroutines, 2*callers+2000)
			require.LessOrEqual(t, open()-files, 1000)
			runtime.Gosched()
		}
		all.Wait()
		require.EqualValues(t, callers, refused.Load())
		close(release)
		first.Wait()
		require.Equal(t, 1, l.paid(policy.String()))
	}
}
