package interceptor

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/once"
)

// typeTable knows which activity types of a worker are marked. It is read on
// every activity task, and written while activities are registered.
type typeTable struct {
	types atomic.Pointer[map[string]registration] // by activity type

	mu      sync.Mutex
	aliases map[string]string // what the SDK makes of a function's short name
	dynamic bool
}

// registration is one activity type of a worker.
type registration struct {
	function
	activity string // the type
	mark     int    // its index, or unmarked
}

const unmarked = -1

func (w *workerGuard) watchRegistrations(o *worker.PluginConfigureWorkerRegistryOptions) {
	activity, dynamic := o.OnRegisterActivity, o.OnRegisterDynamicActivity
	o.OnRegisterActivity = func(fn any, ro sdkactivity.RegisterOptions) {
		w.types.register(w, fn, ro)
		if activity != nil {
			activity(fn, ro)
		}
	}
	o.OnRegisterDynamicActivity = func(fn any, ro sdkactivity.DynamicRegisterOptions) {
		w.types.mu.Lock()
		w.types.dynamic = true
		w.types.mu.Unlock()
		if dynamic != nil {
			dynamic(fn, ro)
		}
	}
}

// registrations repeats how the SDK names what it registers.
func registrations(fn any, o sdkactivity.RegisterOptions) []registration {
	v := reflect.ValueOf(fn)
	if v.Kind() == reflect.Func {
		r := registration{function: functionOf(fn), activity: o.Name}
		if r.activity == "" {
			r.activity = r.name
		}
		return []registration{r}
	}
	var all []registration
	if v.Kind() == reflect.Pointer {
		for _, f := range methodsOf(v.Type()) {
			all = append(all, registration{function: f, activity: o.Name + f.name})
		}
	}
	return all
}

func (t *typeTable) register(w *workerGuard, fn any, o sdkactivity.RegisterOptions) {
	t.mu.Lock()
	defer t.mu.Unlock()
	types := map[string]registration{}
	maps.Copy(types, t.all())
	for _, r := range registrations(fn, o) {
		r.mark, _ = w.guard.markOf(r)
		types[r.activity] = r
		if reflect.TypeOf(fn).Kind() == reflect.Func && o.Name != "" && !w.options.DisableRegistrationAliasing {
			if t.aliases == nil {
				t.aliases = map[string]string{}
			}
			t.aliases[r.name] = o.Name
		}
	}
	t.types.Store(&types)
}

// serves reports whether the registration is of the marked activity.
func (r registration) serves(m mark) bool {
	switch {
	case m.rank == ofAll:
		return true
	case m.Func == nil:
		return m.Name == r.activity
	}
	return m.function.id == r.id
}

// markOf returns the index of the mark that counts for the registration, and what
// is wrong with it.
func (g *Guard) markOf(r registration) (found int, err error) {
	found = unmarked
	for i, m := range g.marks {
		switch {
		case !r.serves(m):
		case found == unmarked || m.rank < g.marks[found].rank:
			found, err = i, nil
		case m.rank == g.marks[found].rank:
			err = fmt.Errorf("activity %s is marked twice: by function and by name", r.activity)
		}
	}
	switch {
	case err != nil:
	case found == unmarked, g.marks[found].rank == ofAll:
		if g.options.Strict && isActivity(r.typ) {
			err = fmt.Errorf("activity %s is neither marked nor exempt, and Options.Strict is set", r.activity)
		}
	case g.marks[found].Func == nil:
		if m := g.marks[found]; !m.Exempt {
			err = m.policy.Check(r.typ)
		}
		if err != nil {
			err = fmt.Errorf("activity %s: %w", r.activity, err)
		}
	case r.expression:
		err = fmt.Errorf("activity %s is registered by a method expression, so that the receiver is the first input of each call: register the struct or a method value, or mark the registered name", r.activity)
	case r.vague && g.marks[found].function.vague:
		err = fmt.Errorf("activity %s is marked and registered by a method value of %s. If that is an interface, another activity may implement it too: mark the method expression, the struct or the registered name", r.activity, r.owner())
	}
	return found, err
}

// problems returns what is wrong with the marks of the registered activities.
func (w *workerGuard) problems() error {
	var errs []error
	types := w.types.all()
	for _, name := range slices.Sorted(maps.Keys(types)) {
		_, err := w.guard.markOf(types[name])
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// typeOf returns the type of a local activity that is passed as a function.
func (t *typeTable) typeOf(short string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if alias, ok := t.aliases[short]; ok {
		return alias
	}
	return short
}

// all returns the registered types; it is not to be modified.
func (t *typeTable) all() map[string]registration {
	if types := t.types.Load(); types != nil {
		return *types
	}
	return nil
}

func (t *typeTable) any() bool { return len(t.all()) > 0 || t.hasDynamic() }

func (t *typeTable) hasDynamic() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dynamic
}

// serves reports whether some type of the worker has the mark, or may have it: a
// dynamic activity serves names.
func (t *typeTable) serves(m mark) bool {
	if m.rank == ofAll || m.Func == nil && t.hasDynamic() {
		return true
	}
	for _, r := range t.all() {
		if r.serves(m) {
			return true
		}
	}
	return false
}

// find returns the mark of an activity, which this process need not run.
func (g *Guard) find(activity string) (m mark, found bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	registered, first := false, unmarked
	for _, w := range g.workers {
		r, ok := w.types.all()[activity]
		registered = registered || ok
		if !ok || r.mark == unmarked || g.marks[r.mark].Exempt {
			continue
		}
		if first != unmarked && first != r.mark {
			return mark{}, false // two workers have two activities of that name
		}
		first = r.mark
	}
	switch {
	case first != unmarked:
		return g.marks[first], true
	case registered:
		return mark{}, false
	}
	v := g.plain.judge(activity, false)
	switch len(v.suspects) {
	case 0:
		return v.mark, v.marked
	case 1: // of another process, which has the same marks
		return v.suspects[0], true
	}
	return mark{}, false
}

// policyOf returns the policy of an activity, or the defaults.
func (g *Guard) policyOf(activity string) once.Policy {
	if m, ok := g.find(activity); ok {
		return m.policy
	}
	return engine.Complete(g.options.Defaults)
}

// modeOf is the mode of an activity with that mark.
func (g *Guard) modeOf(m mark, activity string) once.Mode {
	mode := once.Enforce
	if f := g.options.Mode; f != nil {
		mode = f(activity)
	}
	if m.rank == ofAll {
		mode = max(mode, once.Observe)
	}
	return mode
}
