package atmostonce

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// forever is longer than any call.
const forever = 100 * 365 * 24 * time.Hour

var (
	errNoGuard = errors.New("the guard is nil, or was not made by New")
	errClosed  = errors.New("the guard is closed")
	errItself  = errors.New("the function calls itself under its own key, and would wait for itself")
)

// target is what is called under a guard, whatever its arguments.
type target[Out any] struct {
	guard  *Guard
	name   string
	policy once.Policy // complete
	unfit  error       // why it cannot be guarded
}

// call makes one call. is says that there is a function.
func (t target[Out]) call(ctx context.Context, args []any, is bool, f func(context.Context) (Out, error)) (out Out, err error) {
	g := t.guard
	if !g.made() {
		return out, refused(t.name, errNoGuard)
	}
	mode := once.Enforce
	if is && g.options.Mode != nil {
		mode = g.options.Mode(t.name)
	}
	r := g.request(ctx, t.name, t.policy, args)
	r.Out = reflect.TypeFor[Out]()
	r.Door = door{codec{g.options.Codec, g.errors, g.options.MaxOutcome, decodeResult[Out]}}
	unnamed := g.identify(&r, args)
	switch {
	case t.unfit != nil:
		unnamed = engine.BadSetup(t.unfit)
	case mode != once.Enforce:
	case g.isClosed():
		unnamed = engine.BadSetup(errClosed)
	case unnamed == nil && isWithin(ctx, g, r.Key):
		unnamed = engine.BadSetup(errItself)
	}
	if unnamed == nil && mode == once.Enforce {
		within := &running{Context: ctx, guard: g, key: r.Key}
		defer within.over.Store(true)
		ctx = within
	}
	result, err := g.engine.Do(ctx, &r, mode, unnamed, func(ctx context.Context) (any, error) { return f(ctx) })
	out, _ = result.(Out)
	return out, err
}

// request returns what the engine is to do, without the key.
func (g *Guard) request(ctx context.Context, name string, p once.Policy, args []any) engine.Request {
	now := time.Now()
	scheduled := now
	if t, ok := ctx.Value(eventTime{}).(time.Time); ok && !t.IsZero() {
		scheduled = t
	}
	a := engine.Attempt{Alone: true}
	if deadline, limited := ctx.Deadline(); limited {
		a.Deadline, a.Answer = deadline, deadline
	} else { // an operator who decides about it cannot wait for its end
		a.Deadline, a.Answer = now.Add(g.lease), now.Add(forever)
	}
	return engine.Request{
		Identity: engine.Identity{Activity: name, Holder: store.Holder{
			Namespace: g.options.Namespace, ActivityRunID: g.run + "-" + strconv.FormatUint(g.calls.Add(1), 36), Scheduled: scheduled.UTC(), Attempt: 1, Worker: g.process,
		}},
		Attempt: a, Policy: p, Args: args, Life: g.life,
	}
}

// identify makes the key of the call.
func (g *Guard) identify(r *engine.Request, args []any) (err error) {
	input := ""
	if p := r.Policy; !p.Key.Typed() || p.Match != keys.Any() { // what else there is may look at the input
		if input, err = digest(args); err != nil {
			return fmt.Errorf("%w: %w: %w; with a Policy.Key, and Match keys.Any(), it need not be", engine.ErrInput, engine.ErrArgument, err)
		}
	}
	r.Identity, err = g.engine.Name(r.Identity, r.Policy, keys.Call{
		Namespace: g.options.Namespace, Activity: r.Activity, Args: args, Input: input,
		ActivityRunID: r.Holder.ActivityRunID, Scheduled: r.Holder.Scheduled,
	})
	return err
}

// digest is that of the arguments as JSON, whatever the Codec: it must be the same in
// every program.
func digest(args []any) (string, error) {
	parts := make([]keys.Arg, len(args))
	for i, arg := range args {
		parts[i].Encoding = "json/plain"
		if err := safely(func() (err error) { parts[i].Data, err = json.Marshal(arg); return err }); err != nil {
			return "", err
		}
	}
	return keys.Digest(parts), nil
}

type innermost struct{}

// running is a context that is in a guarded call.
type running struct {
	context.Context
	guard *Guard
	key   string
	over  atomic.Bool // the context has outlived it
}

// Value implements context.Context.
func (r *running) Value(key any) any {
	if key == (innermost{}) {
		return r
	}
	return r.Context.Value(key)
}

// isWithin reports whether ctx is in a call of that key.
func isWithin(ctx context.Context, g *Guard, key string) bool {
	for {
		r, _ := ctx.Value(innermost{}).(*running)
		if r == nil {
			return false
		}
		if r.key == key && !r.over.Load() && (r.guard == g || sameStore(r.guard.store, g.store)) {
			return true
		}
		ctx = r.Context
	}
}

func sameStore(a, b store.Store) bool { return reflect.ValueOf(a).Comparable() && a == b }
