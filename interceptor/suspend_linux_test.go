package interceptor_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

// suspendRole says what a re-executed test binary does, as JSON.
const suspendRole = "ATMOSTONCE_TEST_SUSPENDED"

// suspended is what a child that is stopped now and then does.
type suspended struct {
	Name   string
	Redis  string // address of the store
	Callee string // URL, for bodies that only look
	Ledger string // a file with a line for each effect, for bodies that have one
}

const (
	shortLease = 120 * time.Millisecond
	aStop      = 3 * shortLease / 2
)

func (c suspended) guard(t *testing.T, p once.Policy) *interceptor.Guard {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: c.Redis})
	t.Cleanup(func() { _ = rdb.Close() })
	s, err := redisstore.New(rdb, redisstore.Options{})
	require.NoError(t, err)
	o := options(once.Mark(p, "ChargeCard"))
	o.Lease, o.SettleDelay, o.HoldRetry = shortLease, shortLease/2, time.Second
	return newGuard(t, s, o)
}

// looks are the ways in which a body may look at its context before it acts. They
// report whether it may go on.
func (c suspended) looks() map[string]func(ctx, derived context.Context) bool {
	return map[string]func(ctx, derived context.Context) bool{
		"Err":      func(ctx, _ context.Context) bool { return ctx.Err() == nil },
		"Cause":    func(ctx, _ context.Context) bool { return context.Cause(ctx) == nil },
		"Deadline": func(ctx, _ context.Context) bool { d, ok := ctx.Deadline(); return !ok || time.Until(d) > 0 },
		"Done": func(ctx, _ context.Context) bool {
			select {
			case <-ctx.Done():
				return false
			default:
				return true
			}
		},
		"Lost": func(ctx, _ context.Context) bool { claim, _ := once.FromContext(ctx); return !claim.Lost },
		"Key, then a derived Err": func(_, derived context.Context) bool {
			return once.Key(derived) != "" && derived.Err() == nil
		},
		"derived anew": func(ctx, _ context.Context) bool {
			anew, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			return anew.Err() == nil
		},
		"a request": func(_, derived context.Context) bool {
			r, err := http.NewRequestWithContext(derived, http.MethodPost, c.Callee, http.NoBody)
			if err != nil {
				return true
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				return derived.Err() == nil
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			return answer.Body.Close() != nil || answer.StatusCode == http.StatusOK
		},
	}
}

// glance is a look at the context long after the one before.
type glance struct {
	How         string
	Before, At  time.Time // the look before, and this one, by the wall clock
	Says, Ready bool      // it may go on; the child has begun
}

// TestSuspendedChild is the other process of the tests below. On its own it does
// nothing.
func TestSuspendedChild(t *testing.T) {
	role := os.Getenv(suspendRole)
	if role == "" {
		return
	}
	var c suspended
	require.NoError(t, json.Unmarshal([]byte(role), &c))
	if c.Ledger == "" {
		c.look(t)
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent goes
	} else {
		c.act(t)
	}
	os.Exit(0)
}

// look runs bodies that look at their contexts all the time.
func (c suspended) look(t *testing.T) {
	t.Helper()
	g := c.guard(t, once.Policy{InDoubt: once.Reconcile(findCharge)})
	var mu sync.Mutex
	say := func(what glance) {
		mu.Lock()
		defer mu.Unlock()
		assert.NoError(t, json.NewEncoder(os.Stdout).Encode(what))
	}
	var calls atomic.Int64
	for how, goOn := range c.looks() {
		body := func(ctx context.Context, _ charge) (receipt, error) {
			derived, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			before := time.Now()
			for {
				at := time.Now()
				ok := goOn(ctx, derived)
				if at.Sub(before) > shortLease {
					say(glance{How: how, Before: before, At: at, Says: ok})
				}
				if !ok {
					return receipt{}, ctx.Err()
				}
				before = at
				<-time.After(time.Millisecond + rand.N(5*time.Millisecond))
			}
		}
		for range 2 {
			go func() {
				for {
					_, _ = execute(t, g, body, charge{Order: fmt.Sprint(c.Name, calls.Add(1))})
				}
			}()
		}
	}
	say(glance{Ready: true})
}

type suspendedChild struct {
	cmd  *exec.Cmd
	in   io.Writer
	said *json.Decoder
}

func startSuspended(t *testing.T, c suspended) *suspendedChild {
	t.Helper()
	role, err := json.Marshal(c)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSuspendedChild$")
	cmd.Env = append(os.Environ(), suspendRole+"="+string(role))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	p := &suspendedChild{cmd, in, json.NewDecoder(bufio.NewReader(out))}
	var ready glance
	require.NoError(t, p.said.Decode(&ready))
	require.True(t, ready.Ready)
	return p
}

// suspend stops the process until during returns, which gets the time from which
// on it certainly does not run.
func (c *suspendedChild) suspend(during func(from time.Time)) error {
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
		if err != nil {
			return err
		}
		if strings.Contains(string(text), ") T ") {
			break
		}
		<-time.After(time.Millisecond)
	}
	during(time.Now())
	return c.cmd.Process.Signal(syscall.SIGCONT)
}

// startRedis starts a redis-server for the test alone and returns its address.
func startRedis(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs redis-server")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	host, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), "redis-server", "--bind", host, "--port", port, "--dir", t.TempDir(),
		"--save", "", "--appendonly", "no", "--logfile", "log")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start(), "redis-server is not on PATH: apt-get install redis-server")
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = rdb.Close() })
	require.Eventually(t, func() bool { return rdb.Ping(t.Context()).Err() == nil }, soon, 5*time.Millisecond)
	return addr
}

// period is when a process certainly did not run.
type period struct{ from, to time.Time }

// tally counts the looks of one child that came after a stop.
type tally struct {
	mu              sync.Mutex
	stops           []period
	hit             map[period]bool
	looked, stepped map[string]int
}

func newTally() *tally {
	return &tally{hit: map[period]bool{}, looked: map[string]int{}, stepped: map[string]int{}}
}

func (c *tally) note(p period) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stops = append(c.stops, p)
}

func (c *tally) hits() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.hit)
}

// count takes what the child says until it ends.
func (c *tally) count(said *json.Decoder) {
	for {
		var g glance
		if said.Decode(&g) != nil {
			return
		}
		c.mu.Lock()
		for _, p := range c.stops {
			if g.Before.After(p.from) || g.At.Before(p.to) {
				continue // it looked while that stop began
			}
			c.hit[p] = true
			c.looked[g.How]++
			if g.Says {
				c.stepped[g.How]++
			}
		}
		c.mu.Unlock()
	}
}

// A body that looks at its context after its process was suspended for longer
// than the lease does not go on, whichever way it looks, and however soon.
func TestSuspended_NoBodyThatLooksGoesOn(t *testing.T) { // alone: it takes the whole machine
	const children, hits = 4, 55
	callee := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(callee.Close)
	addr := startRedis(t)
	var all sync.WaitGroup
	for n := range children {
		c := startSuspended(t, suspended{Name: fmt.Sprint("child", n, "-"), Redis: addr, Callee: callee.URL})
		found, ended := newTally(), make(chan struct{})
		go func() {
			defer close(ended)
			found.count(c.said)
		}()
		all.Go(func() {
			for found.hits() < hits {
				<-time.After(shortLease/2 + rand.N(shortLease))
				err := c.suspend(func(from time.Time) {
					<-time.After(aStop)
					found.note(period{from, time.Now()})
				})
				if err != nil {
					t.Error(err)
					break
				}
			}
			_ = c.cmd.Process.Kill()
			<-ended
			t.Logf("%d of %d stops hit running bodies; looks after them: %v", found.hits(), len(found.stops), found.looked)
			assert.Len(t, found.looked, len(suspended{}.looks()), "every way of looking was tried: %v", found.looked)
			assert.Empty(t, found.stepped, "bodies that went on")
		})
	}
	all.Wait()
}
