package interceptor_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

var kills = flag.Int("kills", 30, "how many `bodies` of three steps are killed on each store")

// killRole says what a re-executed test binary does, as JSON.
const killRole = "ATMOSTONCE_TEST_KILLED_IN_STEPS"

// killed is a process that runs an activity of three steps, up to its end.
type killed struct {
	Redis, Dir string // where the store is: one of them
	Ledger     string
	Order      int
	At         string // where it kills itself; "" is nowhere
}

// borders are where a body of three steps can be killed: outside of its steps, and in
// each before and after the effect.
var borders = []string{
	"begin", "before reserve", "after reserve", "reserve done", "before charge", "after charge", "charge done", "before ship", "after ship", "ship done",
}

var threeSteps = []string{"reserve", "charge", "ship"}

func (k killed) reach(point string) {
	if point == k.At {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (k killed) store(t *testing.T) store.Store {
	t.Helper()
	if k.Dir != "" {
		f, err := store.NewFile(k.Dir, store.FileOptions{AnyFileSystem: true})
		require.NoError(t, err)
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	rdb := redis.NewClient(&redis.Options{Addr: k.Redis})
	t.Cleanup(func() { _ = rdb.Close() })
	s, err := redisstore.New(rdb, redisstore.Options{})
	require.NoError(t, err)
	return s
}

// entry is an effect on the ledger.
type entry struct {
	Order           int
	Step, Key, Text string
	Run             int // the process
}

func (k killed) entries() (all []entry, err error) {
	data, err := os.ReadFile(k.Ledger)
	for line := range bytes.Lines(data) {
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, err
}

// effect writes an entry, and what cannot be made twice alike.
func (k killed) effect(ctx context.Context, step string) (string, error) {
	k.reach("before " + step)
	f, err := os.OpenFile(k.Ledger, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	e := entry{k.Order, step, once.Key(ctx), rand.Text(), os.Getpid()}
	line, err := json.Marshal(e)
	if err != nil {
		return "", err
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	k.reach("after " + step)
	return e.Text, nil
}

// find looks at the ledger.
func (k killed) find(step string) once.DoubtPolicy {
	return once.Reconcile(func(ctx context.Context, _ charge) (string, error) {
		all, err := k.entries()
		if err != nil {
			return "", err
		}
		for _, e := range all {
			if e.Key == once.Key(ctx) && e.Step == step {
				return e.Text, nil
			}
		}
		return "", once.ErrNotDone
	})
}

func (k killed) body(ctx context.Context, _ charge) (texts []string, err error) {
	k.reach("begin")
	for _, step := range threeSteps {
		text, err := atmostonce.Step(ctx, step, func(ctx context.Context) (string, error) { return k.effect(ctx, step) }, once.Policy{InDoubt: k.find(step)})
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
		k.reach(step + " done")
	}
	return texts, nil
}

// TestStepKillChild is the other process of the test below. On its own it does nothing.
func TestStepKillChild(t *testing.T) {
	role := os.Getenv(killRole)
	if role == "" {
		return
	}
	var k killed
	require.NoError(t, json.Unmarshal([]byte(role), &k))
	o := options(once.Mark(once.Policy{InDoubt: once.Rerun}, "ChargeCard"))
	o.Lease, o.SettleDelay, o.HoldRetry = 600*time.Millisecond, 250*time.Millisecond, time.Second
	g := newGuard(t, k.store(t), o)
	var last error
	for end := time.Now().Add(soon); time.Now().Before(end); later(50 * time.Millisecond) {
		texts, err := execute(t, g, k.body, charge{Order: strconv.Itoa(k.Order)})
		if last = err; err == nil {
			fmt.Println("child", strings.Join(texts, " ")) //nolint:forbidigo // to the parent
			return
		}
	}
	require.NoError(t, last)
}

// start runs the process, and returns the texts that its activity has returned.
func (k killed) start(ctx context.Context) (texts []string, err error) {
	role, err := json.Marshal(k)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", "^TestStepKillChild$")
	cmd.Env = append(os.Environ(), killRole+"="+string(role))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if said, ok := strings.CutPrefix(lines.Text(), "child "); ok {
			texts = strings.Fields(said)
		}
	}
	if err != nil && k.At == "" {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return texts, err
}

// A process is killed at each border in turn; another one goes on. No step has its effect
// twice, and the results are those of the steps as they were.
func TestStep_HappensOnceWhereverItsProcessIsKilled(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"file", "redis"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			base := killed{Ledger: filepath.Join(t.TempDir(), "ledger")}
			require.NoError(t, os.WriteFile(base.Ledger, nil, 0o600))
			if kind == "file" {
				base.Dir = t.TempDir()
			} else {
				base.Redis = startRedis(t)
			}
			orders := make(chan int)
			var mu sync.Mutex
			returned, ends := map[int][]string{}, map[int]string{}
			var all sync.WaitGroup
			for range 3 {
				all.Go(func() {
					for i := range orders {
						k := base
						k.Order, k.At = i, borders[i%len(borders)]
						_, died := k.start(t.Context())
						k.At = ""
						texts, failed := k.start(t.Context())
						mu.Lock()
						returned[i] = texts
						ends[i] = fmt.Sprint(died, ", ", failed)
						mu.Unlock()
					}
				})
			}
			for i := range *kills {
				orders <- i
			}
			close(orders)
			all.Wait()
			entries, err := base.entries()
			require.NoError(t, err)
			effects, recovered := map[int]map[string]string{}, 0
			runs := map[int]map[int]bool{}
			for _, e := range entries {
				if effects[e.Order] == nil {
					effects[e.Order], runs[e.Order] = map[string]string{}, map[int]bool{}
				}
				require.Empty(t, effects[e.Order][e.Step], "step %s of order %d happened twice", e.Step, e.Order)
				effects[e.Order][e.Step] = e.Text
				runs[e.Order][e.Run] = true
			}
			for i := range *kills {
				require.Equal(t, "signal: killed, <nil>", ends[i], borders[i%len(borders)])
				var want []string
				for _, step := range threeSteps {
					want = append(want, effects[i][step])
				}
				require.Equal(t, want, returned[i], "order %d, killed at %s", i, borders[i%len(borders)])
				if len(runs[i]) == 2 {
					recovered++
				}
			}
			require.Len(t, entries, 3*(*kills))
			t.Logf("%d kills: %d effects, none twice; in %d orders two processes shared the steps", *kills, len(entries), recovered)
		})
	}
}
