package atmostonce

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
)

var errNoFunction = errors.New("the function is nil")

// Func returns f guarded: a function of the same type, each of whose effects happens at
// most once per key. name is part of the key; a guard knows functions of one type by it, and
// may be given it again. The key is made of in, the whole of it as JSON if the
// policy has no Key; a Key needs no Scope here. Any number of goroutines may call it.
//
// A call gets what f returned, or an [*Error]. A result is replayed as the Codec gives
// it back: for a function that returns an error only, let Out be struct{}. Under Lock,
// an error that is kept is, already to the first call, what duplicates get: see
// Options.Errors. If f panics, or ends its goroutine, that passes through, and the
// effect is in doubt.
//
// Nobody calls again by himself: OnDuplicate Return and the InDoubt policies that hold
// answer at once, with Error.RetryAfter. Wait waits until ctx ends, for the call that
// runs and for the settle delay of a doubt, but for no operator. Under Wait the calls of
// one process ask the store once for all of them.
//
// What f calls with its context may be guarded, too, but not under the same key of the
// same function: that call would wait for itself, and is refused with reason BadSetup.
//
// What cannot be guarded (no function, no name, a name that stands for another type, a
// policy that contradicts itself or does not fit f) is found in Guard.Err, and
// its calls are refused with reason BadSetup.
func Func[In, Out any](g *Guard, name string, p once.Policy, f func(context.Context, In) (Out, error)) func(context.Context, In) (Out, error) {
	t := target[Out]{guard: g, name: name}
	if g.made() {
		t.policy, t.unfit = complete(p, g.options.Defaults)
		t.unfit = errors.Join(t.unfit, g.fits(reflect.TypeFor[func(context.Context, In) (Out, error)](), t.policy))
		if f == nil {
			t.unfit = errors.Join(t.unfit, errNoFunction)
		}
		t.unfit = g.register(name, reflect.TypeFor[func(context.Context, In) (Out, error)](), t.policy, t.unfit)
	}
	return func(ctx context.Context, in In) (Out, error) {
		return t.call(ctx, []any{in}, f != nil, func(ctx context.Context) (Out, error) { return f(ctx, in) })
	}
}

// Do runs f guarded under Options.Defaults: its effect happens at most once for that key
// under that name. It is Func for one place in the code, with the key in hand; what is
// said there holds here. Reconcile, which needs an argument, cannot be the default.
func Do[Out any](ctx context.Context, g *Guard, name, key string, f func(context.Context) (Out, error)) (Out, error) {
	t := target[Out]{guard: g, name: name}
	if g.made() {
		t.policy = g.options.Defaults
		t.policy.Key, t.policy.Match = keys.FromCall(func(keys.Call) (string, error) { return key, nil }), keys.Any()
		t.unfit = g.know(name, reflect.TypeFor[func(context.Context) (Out, error)](), g.options.Defaults)
		if t.policy.InDoubt.Reconciles() {
			t.unfit = errors.Join(t.unfit, errors.New("the default InDoubt is Reconcile, which needs an argument: use Func"))
		}
		if f == nil {
			t.unfit = errors.Join(t.unfit, errNoFunction)
		}
	}
	return t.call(ctx, nil, f != nil, f)
}

// complete returns p with what it does not say, and what is wrong with it.
func complete(p, defaults once.Policy) (once.Policy, error) {
	said := p
	said.Scope = keys.PerNamespace
	if p.Key.IsZero() || p.Key.IsHash() { // there is no other scope that the whole input could be meant in
		said.Key, said.Scope = keys.Func{}, 0
	}
	err := said.Validate()
	if p.Scope != 0 && p.Scope != keys.PerNamespace {
		err = errors.Join(err, fmt.Errorf("Scope %v is one of workflows: leave it out", p.Scope))
	}
	p = engine.Complete(p.Or(defaults))
	p.Scope = keys.PerNamespace
	if p.InDoubt == once.Resume {
		err = errors.Join(err, errors.New("InDoubt Resume means a retry of Temporal's: take Rerun or Reconcile"))
	}
	return p, err
}

type eventTime struct{}

// WithEventTime returns a context that says when what its guarded calls are about came
// up: the time of an event, say. It is what Options.DistrustBefore looks at, and
// keys.Call.Scheduled of key functions; without it that is the time of the call.
func WithEventTime(ctx context.Context, t time.Time) context.Context {
	return context.WithValue(ctx, eventTime{}, t)
}
