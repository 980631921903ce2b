package atmostonce

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// Find returns the one record whose key has the digest that an error, a log line or a
// span shows: 16 hexadecimal digits of it, or any 8 to 64 that it begins with, in either
// case. The error is resolve.ErrNotFound if there is none, ErrAmbiguous if there are
// several, ErrDigest if the text is no digest or is too short, and store.ErrCorrupt or
// store.ErrVersion if a record that may be meant cannot be read.
func (g *Guard) Find(ctx context.Context, digest string) (store.Record, error) {
	if !g.made() {
		return store.Record{}, errNoGuard
	}
	return g.engine.Operator.Find(ctx, digest)
}

// Resolve writes an operator's finding into the record r, which Find, Store.Load or
// Store.List gave, and returns the record as it then is. It decides what is in doubt:
// AsDone and AsFailed correct what is settled, and AsNotDone reopens it, so that the
// effect may happen again. The next call of the key acts on it, and so do calls that
// wait, in any process.
//
// AsNotDone is refused with resolve.ErrTooEarly while the last owner may still have its
// effect: until SettleDelay has passed since Record.Doubted and, unless the owner itself
// declared the doubt, until the end of its context. Decision.Force decides in spite of
// that.
//
// The result is encoded by the guard's Codec, and remembered as long as the policy of
// the function of that name says, or Options.Defaults if this guard has none. A result
// of another type than that function's is refused with resolve.ErrResultType; AsDone
// takes nil for a struct{}. A record of a step has the policy of its call, and a result of
// any type. A record of another Namespace, or of an activity, is refused: its results may
// be encoded in another way. store.ErrMoved says that the record has changed since it was
// read: read it again. A store that cannot be reached is asked again until ctx ends.
func (g *Guard) Resolve(ctx context.Context, r store.Record, f resolve.Finding, d resolve.Decision) (store.Record, error) {
	if !g.made() {
		return r, errNoGuard
	}
	known, policy := g.function(r)
	f, untyped := typed(r, f, known.is)
	return g.engine.Operator.Resolve(ctx, r, f, d, engine.Subject{
		Policy: policy,
		Check:  func() error { return errors.Join(untyped, g.check(r, f, known.is)) },
		Encode: func(context.Context) (store.Outcome, error) { return g.encode(f) },
	})
}

// Forget erases the record r, which Find, Store.Load or Store.List gave, for instance
// because its customer asks for it. Nothing is left of it but its key, its fence, the
// nonces of its claims and this decision, for store.TombstoneTTL; then that is gone,
// too. The next call of the key runs. It returns the record as it then is. Records of the
// call's steps stay, and are replayed: forget them too.
//
// Unless Decision.Force is set, Forget refuses what runs or is in doubt, and, with
// resolve.ErrTooEarly, what an operator has settled while the last owner may still act;
// see Resolve.
func (g *Guard) Forget(ctx context.Context, r store.Record, d resolve.Decision) (store.Record, error) {
	if !g.made() {
		return r, errNoGuard
	}
	_, policy := g.function(r)
	return g.engine.Operator.Forget(ctx, r, d, policy)
}

// Policy returns the policy of the function that has the record r, with the defaults. known
// is false where this guard has no function of that name, or does not enforce it, and
// for a step, which may have a policy of its own.
func (g *Guard) Policy(r store.Record) (p once.Policy, known bool) {
	h := r.Info.Holder
	if !g.made() || h.WorkflowID != "" || h.ActivityID != "" || h.Namespace != g.options.Namespace {
		return once.Policy{}, false
	}
	if mode := g.options.Mode; mode != nil && mode(r.Info.Activity) != once.Enforce {
		return once.Policy{}, false
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	f, known := g.funcs[r.Info.Activity]
	return f.policy, known
}

// function returns what is known of the function whose record r is; of the type of a
// step's result nothing is.
func (g *Guard) function(r store.Record) (known function, policy once.Policy) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	name, isStep := strings.CutSuffix(r.Info.Activity, engine.ActivityOfSteps)
	known, found := g.funcs[name]
	if !found {
		return known, g.options.Defaults
	}
	if isStep {
		return function{}, known.policy
	}
	return known, known.policy
}

// check refuses a finding that a call of r's function, of that type, could not have
// ended in.
func (g *Guard) check(r store.Record, f resolve.Finding, is reflect.Type) error {
	if h := r.Info.Holder; h.WorkflowID != "" || h.ActivityID != "" {
		return errors.New("it is the record of an activity: a guard of activities decides about it")
	}
	if ns := r.Info.Holder.Namespace; ns != g.options.Namespace {
		return fmt.Errorf("it is of namespace %q, and this guard's is %q", ns, g.options.Namespace)
	}
	if f.To != store.Succeeded || is == nil {
		return nil
	}
	want, given := is.Out(0), reflect.TypeOf(f.Result)
	switch {
	case given != nil && given.AssignableTo(want):
		return nil
	case given == nil && (want == reflect.TypeFor[struct{}]() || isNilable(want.Kind())):
		return nil
	case given == nil:
		return fmt.Errorf("%w: %s returns %v, not nil", resolve.ErrResultType, r.Info.Activity, want)
	}
	return fmt.Errorf("%w: %s returns %v, not %v", resolve.ErrResultType, r.Info.Activity, want, given)
}

// typed returns f with a result that was given as JSON as a value: of the type that the
// function returns, if that is known.
func typed(r store.Record, f resolve.Finding, is reflect.Type) (resolve.Finding, error) {
	text, ok := f.Result.(resolve.JSON)
	if !ok {
		return f, nil
	}
	f.Result = json.RawMessage(text)
	if !json.Valid(text) {
		return f, fmt.Errorf("%w: it is no JSON", resolve.ErrResultType)
	}
	if is == nil {
		return f, nil
	}
	value := reflect.New(is.Out(0))
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(value.Interface())
	f.Result = value.Elem().Interface()
	if err != nil {
		err = fmt.Errorf("%w: %s returns %v, and the JSON is none: %w", resolve.ErrResultType, r.Info.Activity, is.Out(0), err)
	}
	return f, err
}

func isNilable(k reflect.Kind) bool {
	switch k {
	case reflect.Pointer, reflect.Interface, reflect.Map, reflect.Slice:
		return true
	}
	return false
}

// encode encodes a finding as if a call had ended in it.
func (g *Guard) encode(f resolve.Finding) (o store.Outcome, err error) {
	c := codec{g.options.Codec, g.errors, g.options.MaxOutcome, nil}
	what := "result"
	if f.To == store.Failed {
		what = "error"
		o, _ = c.encodeError(store.Failed, f.Err)
	} else {
		o, err = c.encode(f.Result)
	}
	if err == nil && o.Missing != "" {
		err = fmt.Errorf("the %s: %s", what, o.Missing)
	}
	return o, err
}
