package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

// What the schemes are given, so that a retry need not wait long. Longer times put off
// the second effect, and prevent none.
const (
	crashLease = 400 * time.Millisecond
	// travels is how long the answer of an effect is on its way. The kill comes within
	// that time.
	travels = 20 * time.Millisecond
)

// doomedVariable makes a process one that will be killed. Its value is a doomed.
const doomedVariable = "BENCH_DOOMED"

type doomed struct{ Scheme, Key, Address, Dir string }

// ledger is the file that has a line for each effect of a key.
func (d doomed) ledger() string { return filepath.Join(d.Dir, "ledger-"+d.Key) }

// effect writes a durable line.
func (d doomed) effect() error {
	f, err := os.OpenFile(d.ledger(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString("charged\n")
	return errors.Join(err, f.Sync(), f.Close())
}

func (d doomed) effects() int {
	text, _ := os.ReadFile(d.ledger()) // none is no effect
	return strings.Count(string(text), "\n")
}

// attempt does the effect under a scheme, or finds that it is done.
type attempt func(ctx context.Context, effect func() error) error

// errHeld: the scheme knows that it does not know, and asks somebody.
var errHeld = errors.New("held for a decision")

// crashSchemes are the schemes by name, each as one process would use it.
var crashSchemes = []struct {
	name string
	open func(d doomed, c *redis.Client, ends *closers) (attempt, error)
}{
	{"no guard", func(doomed, *redis.Client, *closers) (attempt, error) {
		return func(_ context.Context, effect func() error) error { return effect() }, nil
	}},
	{"bsm/redislock + `SET`", func(d doomed, c *redis.Client, _ *closers) (attempt, error) {
		locker := redislock.New(c)
		return locked(d, c, func(ctx context.Context) (func(context.Context) error, error) {
			lock, err := locker.Obtain(ctx, "lock:"+d.Key, crashLease, nil)
			if err != nil {
				return nil, err
			}
			return lock.Release, nil
		}), nil
	}},
	{"go-redsync/redsync + `SET`", func(d doomed, c *redis.Client, _ *closers) (attempt, error) {
		locker := redsync.New(goredis.NewPool(c))
		return locked(d, c, func(ctx context.Context) (func(context.Context) error, error) {
			lock := locker.NewMutex("lock:"+d.Key, redsync.WithExpiry(crashLease), redsync.WithTries(1))
			return func(ctx context.Context) error { _, err := lock.UnlockContext(ctx); return err }, lock.LockContext(ctx)
		}), nil
	}},
	{"by hand: `GET`, `SET NX`, `SET`, `DEL`", func(d doomed, c *redis.Client, _ *closers) (attempt, error) {
		return locked(d, c, handLock(d, c)), nil
	}},
	{"the ancestor's six commands", func(d doomed, c *redis.Client, _ *closers) (attempt, error) {
		lock := handLock(d, c)
		return locked(d, c, func(ctx context.Context) (func(context.Context) error, error) {
			unlock, err := lock(ctx)
			if err == nil {
				// It says that a run is underway, and nobody believes it without the lock.
				err = c.Set(ctx, "progress:"+d.Key, "in_progress", remembered).Err()
			}
			return unlock, err
		}), nil
	}},
	{"**atmostonce, Redis, Hold**", onRedis(hold)},
	{"**atmostonce, Redis, Reconcile**", onRedis(reconcile)},
	{"**atmostonce, file, Hold**", onFile(hold)},
	{"**atmostonce, file, Reconcile**", onFile(reconcile)},
}

// locked looks for a result, locks, looks again, and keeps the result.
func locked(d doomed, c *redis.Client, lock func(ctx context.Context) (unlock func(context.Context) error, err error)) attempt {
	return func(ctx context.Context, effect func() error) error {
		if err := c.Get(ctx, d.Key).Err(); !errors.Is(err, redis.Nil) {
			return err
		}
		unlock, err := lock(ctx)
		if err != nil {
			return err
		}
		if err := c.Get(ctx, d.Key).Err(); !errors.Is(err, redis.Nil) {
			return errors.Join(err, unlock(ctx))
		}
		if err := effect(); err != nil {
			return err
		}
		return errors.Join(c.Set(ctx, d.Key, "done", remembered).Err(), unlock(ctx))
	}
}

func handLock(d doomed, c *redis.Client) func(ctx context.Context) (func(context.Context) error, error) {
	return func(ctx context.Context) (func(context.Context) error, error) {
		unlock := func(ctx context.Context) error { return c.Del(ctx, "lock:"+d.Key).Err() }
		return unlock, c.SetArgs(ctx, "lock:"+d.Key, "1", redis.SetArgs{Mode: "NX", TTL: crashLease}).Err()
	}
}

func onRedis(p func(doomed) once.DoubtPolicy) func(doomed, *redis.Client, *closers) (attempt, error) {
	return func(d doomed, c *redis.Client, _ *closers) (attempt, error) {
		s, err := redisstore.New(c, redisstore.Options{Prefix: "crash:"})
		if err != nil {
			return nil, err
		}
		return guarded(d, s, p(d))
	}
}

func onFile(p func(doomed) once.DoubtPolicy) func(doomed, *redis.Client, *closers) (attempt, error) {
	return func(d doomed, _ *redis.Client, ends *closers) (attempt, error) {
		s, err := store.NewFile(filepath.Join(d.Dir, "store"), store.FileOptions{})
		if err != nil {
			return nil, err
		}
		*ends = append(*ends, s)
		return guarded(d, s, p(d))
	}
}

func hold(doomed) once.DoubtPolicy { return once.Hold }

// reconcile asks the ledger, as one asks the provider.
func reconcile(d doomed) once.DoubtPolicy {
	return once.Reconcile(func(context.Context, charge) (receipt, error) {
		if d.effects() == 0 {
			return receipt{}, once.ErrNotDone
		}
		return receiptOf(charge{}), nil
	})
}

func guarded(d doomed, s store.Store, p once.DoubtPolicy) (attempt, error) {
	guard, err := atmostonce.New(s, atmostonce.Options{
		Lease: crashLease, SettleDelay: crashLease / 2, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	type doing struct{}
	policy := byOrder()
	policy.InDoubt = p
	f := atmostonce.Func(guard, activityName, policy, func(ctx context.Context, in charge) (receipt, error) {
		effect, _ := ctx.Value(doing{}).(func() error)
		return receiptOf(in), effect()
	})
	return func(ctx context.Context, effect func() error) error {
		_, err := f(context.WithValue(ctx, doing{}, effect), charge{d.Key, 4200})
		if errors.Is(err, once.InDoubt) && p == once.Hold {
			return errHeld
		}
		return err
	}, guard.Err()
}

// closers are what an attempt needs no longer.
type closers []io.Closer

func (all closers) close() {
	for _, c := range all {
		_ = c.Close()
	}
}

// open returns the attempt of a scheme, and what is to be closed after it.
func (d doomed) open() (attempt, closers, error) {
	for _, s := range crashSchemes {
		if s.name == d.Scheme {
			c := redis.NewClient(&redis.Options{Addr: d.Address})
			ends := closers{c}
			a, err := s.open(d, c, &ends)
			return a, ends, err
		}
	}
	return nil, nil, fmt.Errorf("no scheme %q", d.Scheme)
}

// beDoomed does the effect, says so, and waits to be killed; it returns only if
// something fails.
func beDoomed(role string) error {
	var d doomed
	if err := json.Unmarshal([]byte(role), &d); err != nil {
		return err
	}
	a, _, err := d.open()
	if err != nil {
		return err
	}
	err = a(context.Background(), func() error {
		err := d.effect()
		fmt.Fprintln(os.Stdout, "charged")
		<-time.After(10 * time.Second) // the answer; the kill comes first
		return err
	})
	return errors.Join(err, errors.New("nobody killed it"))
}

// fate is what came of one call.
type fate struct{ effects, held float64 }

// crash has a process of its own do the effect, kills it before it can write down so,
// and retries until there is an answer.
func (l *lab) crash(ctx context.Context, d doomed) (fate, error) {
	role, err := json.Marshal(d)
	if err != nil {
		return fate{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return fate{}, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), doomedVariable+"="+string(role))
	cmd.Stderr = l.progress
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fate{}, err
	}
	p, err := start(cmd)
	if err != nil {
		return fate{}, err
	}
	_, err = bufio.NewReader(out).ReadString('\n')
	<-time.After(rand.N(travels))
	if killed := p.kill(); err != nil || !killed {
		return fate{}, fmt.Errorf("%s: it was not killed: %w", d.Scheme, err)
	}
	a, ends, err := d.open()
	defer ends.close()
	if err != nil {
		return fate{}, err
	}
	for end := time.Now().Add(time.Minute); ; {
		err := a(ctx, d.effect)
		switch {
		case err == nil:
			return fate{effects: float64(d.effects())}, nil
		case errors.Is(err, errHeld):
			return fate{effects: float64(d.effects()), held: 1}, nil
		case ctx.Err() != nil || time.Now().After(end):
			return fate{}, fmt.Errorf("%s: no answer: %w", d.Scheme, err)
		}
		<-time.After(crashLease / 8)
	}
}

// measureCrashes counts the effects of calls whose first process was killed between the
// effect and its record.
func measureCrashes(ctx context.Context, l *lab) error {
	dir, err := l.folder("crash")
	if err != nil {
		return err
	}
	// One order for all, so that what else the machine does meets all of them.
	jobs := rand.Perm(len(crashSchemes) * l.kills)
	fates := make([]fate, len(jobs))
	var done atomic.Int64
	const atOnce = 16
	err = together(min(atOnce, len(jobs)), func(worker int) error {
		for i := worker; i < len(jobs); i += atOnce {
			job := jobs[i]
			scheme := crashSchemes[job/l.kills].name
			var err error
			if fates[job], err = l.crash(ctx, doomed{scheme, newKey(), l.address, dir}); err != nil {
				return err
			}
			if n := done.Add(1); n%100 == 0 {
				l.say("  crash: %d of %d", n, len(jobs))
			}
		}
		return nil
	})
	if err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	for i, s := range crashSchemes {
		if err := l.addFates(s.name, fates[i*l.kills:(i+1)*l.kills]); err != nil {
			return err
		}
	}
	return nil
}

// addFates adds up what came of the calls under a scheme.
func (l *lab) addFates(scheme string, fates []fate) error {
	var twice, never, held float64
	for _, f := range fates {
		twice += max(0, f.effects-1)
		held += f.held
		if f.effects == 0 {
			never++
		}
	}
	killed := newResult("crash", scheme, "killed", "", []float64{float64(len(fates))})
	if err := l.add(killed, nil); err != nil {
		return err
	}
	for _, x := range []struct {
		what string
		sum  float64
	}{{"duplicate effects", twice}, {"lost effects", never}, {"held for a decision", held}} {
		r := newResult("crash", scheme, x.what, "of 1,000", []float64{x.sum * 1000 / float64(len(fates))})
		r.N = len(fates)
		if err := l.add(r, nil); err != nil {
			return err
		}
	}
	return nil
}
