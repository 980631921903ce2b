package atmostonce

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// forever is longer than any call.
const forever = 100 * 365 * 24 * time.Hour

// Func returns f guarded: a function of the same type, each of whose effects happens at
// most once per key. name is part of the key; a guard knows one function of a name. The
// key is made of in, the whole of it as JSON if the policy has no Key. Any number of
// goroutines may call it.
//
// What cannot be guarded (no function, no name, a name that stands for another type, a
// policy that contradicts itself or does not fit f) is found in Guard.Err, and its calls
// are refused with reason BadSetup.
func Func[In, Out any](g *Guard, name string, p once.Policy, f func(context.Context, In) (Out, error)) func(context.Context, In) (Out, error) {
	p, err := complete(p, g.options.Defaults)
	err = errors.Join(err, p.Check(reflect.TypeFor[func(context.Context, In) (Out, error)]()))
	if f == nil {
		err = errors.Join(err, errors.New("the function is nil"))
	}
	err = g.register(name, reflect.TypeFor[func(context.Context, In) (Out, error)](), err)
	return func(ctx context.Context, in In) (Out, error) {
		return do(ctx, g, name, p, err, []any{in}, func(ctx context.Context) (Out, error) { return f(ctx, in) })
	}
}

// Do runs f guarded under Options.Defaults: its effect happens at most once for that key
// under that name.
func Do[Out any](ctx context.Context, g *Guard, name, key string, f func(context.Context) (Out, error)) (Out, error) {
	p := g.options.Defaults
	p.Key, p.Match = keys.FromCall(func(keys.Call) (string, error) { return key, nil }), keys.Any()
	err := g.register(name, reflect.TypeFor[func(context.Context) (Out, error)](), nil)
	if f == nil {
		err = errors.Join(err, errors.New("the function is nil"))
	}
	return do(ctx, g, name, p, err, nil, f)
}

// complete returns p with what it does not say, and what is wrong with it.
func complete(p, defaults once.Policy) (once.Policy, error) {
	said := p
	if !said.Key.IsZero() && !said.Key.IsHash() && said.Scope == 0 {
		said.Scope = keys.PerNamespace
	}
	err := said.Validate()
	if said.Scope != 0 && said.Scope != keys.PerNamespace {
		err = errors.Join(err, fmt.Errorf("Scope %v is one of workflows: leave it out", said.Scope))
	}
	p = engine.Complete(said.Or(defaults))
	p.Scope = keys.PerNamespace
	if p.InDoubt == once.Resume {
		err = errors.Join(err, errors.New("InDoubt Resume means a retry of Temporal's: take Rerun or Reconcile"))
	}
	return p, err
}

// register makes a name known as that of a function of type t, and returns all that is
// wrong with it.
func (g *Guard) register(name string, t reflect.Type, err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if name == "" {
		err = errors.Join(err, errors.New("the name is empty"))
	} else if known, again := g.funcs[name]; again && known != t {
		err = errors.Join(err, fmt.Errorf("the name stands for a function of type %v already, and this one's is %v", known, t))
	} else if !again {
		g.funcs[name] = t
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("function %q: %w", name, err)
	g.wrong = append(g.wrong, err)
	return err
}

// do makes one call.
func do[Out any](ctx context.Context, g *Guard, name string, p once.Policy, unfit error, args []any, f func(context.Context) (Out, error)) (Out, error) {
	d := door{codec{g, func(data []byte) (any, error) {
		var out Out
		err := g.options.Codec.Decode(data, &out)
		return out, err
	}}}
	mode := once.Enforce
	if g.options.Mode != nil {
		mode = g.options.Mode(name)
	}
	r := g.request(ctx, name, p, args, d)
	unnamed := g.name(&r, name, args)
	switch {
	case unfit != nil:
		unnamed = engine.BadSetup(unfit)
	case unnamed == nil && mode == once.Enforce && isHeld(ctx, r.Key):
		unnamed = engine.BadSetup(errors.New("the function calls itself under its own key, and would wait for itself"))
	}
	if unnamed == nil && mode == once.Enforce && p.OnDuplicate == once.Wait {
		defer g.flights.enter(ctx, r.Key)()
	}
	result, err := g.engine.Do(hold(ctx, r.Key), r, mode, unnamed, func(ctx context.Context) (any, error) { return f(ctx) })
	out, _ := result.(Out)
	return out, err
}

// request returns what the engine is to do, without the key.
func (g *Guard) request(ctx context.Context, name string, p once.Policy, args []any, d door) engine.Request {
	now := time.Now()
	deadline, limited := ctx.Deadline()
	if !limited {
		deadline = now.Add(forever)
	}
	a := engine.Attempt{Deadline: deadline, Answer: deadline, Alone: true}
	return engine.Request{
		Identity: engine.Identity{Activity: name, Holder: store.Holder{
			Namespace: g.options.Namespace, ActivityRunID: rand.Text(), Scheduled: now.UTC(), Attempt: 1, Worker: g.process,
		}},
		Attempt: a, Policy: p, Args: args, Door: d, Life: g.life,
	}
}

// name makes the key of the call. Arguments are digested as JSON, whatever the Codec: the
// key must be the same in every program.
func (g *Guard) name(r *engine.Request, name string, args []any) (err error) {
	parts := make([]keys.Arg, len(args))
	for i, arg := range args {
		data, err := json.Marshal(arg)
		if err != nil {
			return fmt.Errorf("%w: %w: %w", engine.ErrInput, engine.ErrArgument, err)
		}
		parts[i] = keys.Arg{Encoding: "json/plain", Data: data}
	}
	r.Identity, err = g.engine.Name(r.Identity, r.Policy, keys.Call{
		Namespace: g.options.Namespace, Activity: name, Args: args, Input: keys.Digest(parts),
		ActivityRunID: r.Holder.ActivityRunID, Scheduled: r.Holder.Scheduled,
	})
	return err
}

type heldKey struct{}

// held are the keys of the guarded calls that a context is in.
type held struct {
	key   string
	outer *held
}

func hold(ctx context.Context, key string) context.Context {
	outer, _ := ctx.Value(heldKey{}).(*held)
	return context.WithValue(ctx, heldKey{}, &held{key, outer})
}

func isHeld(ctx context.Context, key string) bool {
	for h, _ := ctx.Value(heldKey{}).(*held); h != nil; h = h.outer {
		if h.key == key {
			return true
		}
	}
	return false
}
