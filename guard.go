package atmostonce

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// Options are the options of New. None is required.
type Options struct {
	// Namespace begins the keys, so that programs with functions of one name can share
	// a store: in one namespace of one store, functions of one name are one function,
	// whichever guard they have. It must not be one of Temporal's whose activities are
	// guarded over the store. Defaults to "functions".
	Namespace string
	// Defaults stand in for what a function's policy does not say, and are the policy of
	// Do. InDoubt Resume, which needs Temporal's retries, is refused, and so is a Scope
	// other than keys.PerNamespace, which is meant where none is said.
	Defaults once.Policy
	// Mode, if not nil, is asked at each call how much to do about its function. It must
	// be fast and may be called from any number of goroutines. Defaults to Enforce.
	Mode func(name string) once.Mode

	// KeySecret, if set, hides the inputs and what the key functions return behind an
	// HMAC-SHA256, in keys and records. At least 16 bytes, the same in every process
	// that shares the store; another secret makes other keys, and so forgets.
	KeySecret []byte
	// DistrustBefore is when the guard was rolled out: a call about something older, as
	// WithEventTime says, is in doubt if the store knows of no run, since it may have run
	// without a guard. The zero time, the default, distrusts nothing.
	DistrustBefore time.Time

	// Lease is how long a running call is presumed alive without a sign of life; it is
	// renewed every third of that. Records are remembered at least so long, whatever the
	// TTL. Defaults to 60 s; at least 30 ms.
	Lease time.Duration
	// SettleDelay is how long an effect must have been in doubt before anything is
	// decided about it. Must be greater than a third of Lease. Defaults to 30 s.
	SettleDelay time.Duration
	// HoldRetry is Error.RetryAfter of a call that is held. Defaults to 30 s.
	HoldRetry time.Duration
	// MaxOutcome is the size in bytes over which a result is not kept. Defaults to
	// 2 MiB; at most store.MaxData.
	MaxOutcome int
	// CountRecords is how often the store's open records are counted for metrics, until
	// Close; 0, the default, is never; else at least 1 s.
	CountRecords time.Duration

	// Codec encodes results, and the failures that Lock keeps, for the store. Defaults
	// to JSON. One that encrypts keeps the store from reading them.
	Codec Codec
	// Errors are those that Lock can keep as what they are, wherever they stand in the
	// tree of the error that the function returns: sentinels, made by errors.New or
	// fmt.Errorf, which errors.Is finds again; and types, given as any value of each,
	// which errors.As finds again, if the Codec keeps all that is in the value. Any
	// other error comes back as a Failure, and so does a kept one where it is not listed.
	Errors []error

	// Observers get what the guard does; package telemetry has one that makes spans. An
	// observe.Recorder among them takes the metrics, which go nowhere without one.
	Observers []observe.Observer
	// Logger gets what somebody should look into. Defaults to slog.Default().
	Logger *slog.Logger
}

// Guard makes functions take effect at most once per key. Its methods may be called
// from any number of goroutines. Make it with New.
type Guard struct {
	engine  *engine.Engine
	store   store.Store
	options Options
	errors  known
	life    *engine.Life
	lease   time.Duration
	process string        // in records
	run     string        // begins the names of its calls, in records
	calls   atomic.Uint64 // so far

	mu     sync.RWMutex
	funcs  map[string]function // by name
	wrong  []error             // with what was given to Func
	closed bool                // the census has ended
}

// errOptions is the sentinel of everything that New refuses.
var errOptions = errors.New("atmostonce")

// New returns a guard over s. It reports everything that is wrong with the options at
// once.
func New(s store.Store, o Options) (*Guard, error) {
	if o.Namespace == "" {
		o.Namespace = "functions"
	}
	if o.Codec == nil {
		o.Codec = JSON{}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	ours, err := engine.Options{
		DistrustBefore: o.DistrustBefore, KeySecret: o.KeySecret, Lease: o.Lease, SettleDelay: o.SettleDelay, HoldRetry: o.HoldRetry,
		MaxOutcome: o.MaxOutcome, CountRecords: o.CountRecords, Observers: o.Observers,
	}.Complete()
	o.MaxOutcome = ours.MaxOutcome
	defaults, wrong := complete(o.Defaults, once.Policy{})
	if wrong != nil {
		wrong = fmt.Errorf("Defaults: %w", wrong)
	}
	errs, unfit := newKnown(o.Errors)
	if err := errors.Join(engine.CheckStore(s), err, wrong, unfit); err != nil {
		return nil, fmt.Errorf("%w: %w", errOptions, err)
	}
	o.Defaults = defaults
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	g := &Guard{
		store: s, options: o, errors: errs, life: engine.NewLife(), lease: ours.Lease, process: strconv.Itoa(os.Getpid()) + "@" + host, run: rand.Text(),
		funcs: map[string]function{},
	}
	g.engine = engine.New(s, ours, sink{o.Logger})
	g.engine.Census.Begin()
	return g, nil
}

// made reports whether g was made by New.
func (g *Guard) made() bool { return g != nil && g.engine != nil }

// Start asks the store whether it can keep its promise, and returns why it cannot,
// together with Err. It is worth a call before the first one is guarded; without it,
// calls find out.
func (g *Guard) Start(ctx context.Context) error {
	if !g.made() {
		return fmt.Errorf("%w: %w", errOptions, errNoGuard)
	}
	if err := errors.Join(g.Err(), g.engine.Start(ctx, func() bool { return false })); err != nil {
		return fmt.Errorf("%w: %w", errOptions, err)
	}
	return nil
}

// Err returns what was wrong with what Func was given so far: all of it, joined. Calls
// of such a function are refused with reason BadSetup.
func (g *Guard) Err() error {
	if !g.made() {
		return errNoGuard
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	return errors.Join(g.wrong...)
}

// Close waits until the calls that run have ended and are recorded. Those that wait for
// another call are sent away, and those that come later are refused with reason
// BadSetup. If ctx ends before, Close gives up what is not recorded, within about a
// second, and says so: it goes in doubt when its lease is over, even if its function
// returns a result later. It does not close the store, and may be called again.
func (g *Guard) Close(ctx context.Context) error {
	if !g.made() {
		return nil
	}
	g.life.BeginStop(time.Now())
	left := g.life.DrainUntil(ctx)
	g.mu.Lock()
	again := g.closed
	g.closed = true
	g.mu.Unlock()
	if !again {
		g.engine.Census.End()
	}
	if left > 0 {
		return fmt.Errorf("atmostonce: closed while %d calls were not recorded: %w", left, context.Cause(ctx))
	}
	return nil
}

// isClosed reports whether Close was called.
func (g *Guard) isClosed() bool {
	_, closed := g.life.End()
	return closed
}

// function is what a guard knows of the functions of one name.
type function struct {
	is     reflect.Type
	policy once.Policy
}

// fits returns why a function of that type cannot be guarded under that policy.
func (g *Guard) fits(t reflect.Type, p once.Policy) error {
	err := p.Check(t)
	out := t.Out(0)
	switch _, plain := g.options.Codec.(JSON); {
	case !plain:
	case out.Kind() == reflect.Chan, out.Kind() == reflect.Func, out.Kind() == reflect.Interface && out.NumMethod() > 0:
		err = errors.Join(err, fmt.Errorf("a result of type %v cannot be decoded from JSON: return another type, or give Options.Codec", out))
	}
	return err
}

// register makes a function known, and keeps all that is wrong with it for Err.
func (g *Guard) register(name string, t reflect.Type, p once.Policy, unfit error) error {
	err := errors.Join(unfit, g.know(name, t, p))
	if err == nil {
		return nil
	}
	err = fmt.Errorf("function %q: %w", name, err)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wrong = append(g.wrong, err)
	return err
}

// know makes a name known as that of a function of type t, and returns why it cannot be.
func (g *Guard) know(name string, t reflect.Type, p once.Policy) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case strings.HasSuffix(name, engine.ActivityOfSteps):
		return fmt.Errorf("the name ends in %s, as those under which steps are recorded", engine.ActivityOfSteps)
	}
	g.mu.RLock()
	known, again := g.funcs[name]
	g.mu.RUnlock()
	if !again {
		g.mu.Lock()
		if known, again = g.funcs[name]; !again {
			g.funcs[name] = function{t, p}
		}
		g.mu.Unlock()
	}
	switch {
	case !again:
		g.engine.Prepare(context.Background(), nil, engine.Place{Namespace: g.options.Namespace, Activity: name})
	case known.is != t:
		return fmt.Errorf("the name stands for a function of type %v already, and this one's is %v", known.is, t)
	}
	return nil
}
