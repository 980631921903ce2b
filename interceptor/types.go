package interceptor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
)

// typeTable knows which activity types of a worker are marked. It is read on
// every activity task, and written while activities are registered.
type typeTable struct {
	types atomic.Pointer[map[string]int] // registered type → index of its mark, or unmarked

	mu      sync.Mutex
	dynamic bool
	errs    []error
}

const unmarked = -1

// markOf returns the mark of an activity type.
func (w *workerGuard) markOf(name string) (mark, bool) {
	i, registered := w.types.all()[name]
	if !registered {
		// Not where it was seen: served by a dynamic activity, a local activity
		// passed as a function, or a guard without a plugin.
		i = slices.IndexFunc(w.guard.marks, func(m mark) bool { return m.Name == name })
	}
	if i == unmarked || w.guard.marks[i].Exempt {
		return mark{}, false
	}
	return w.guard.marks[i], true
}

func (w *workerGuard) watchRegistrations(o *worker.PluginConfigureWorkerRegistryOptions) {
	activity, dynamic := o.OnRegisterActivity, o.OnRegisterDynamicActivity
	o.OnRegisterActivity = func(fn any, ro sdkactivity.RegisterOptions) {
		w.types.register(w.guard, fn, ro)
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

// registration is one activity type of a worker.
type registration struct {
	name string       // the type
	base string       // the function's or method's own name
	fn   reflect.Type // as a function or method value
	full string       // qualified name of a plain function
}

// registrations repeats how the SDK names what it registers.
func registrations(fn any, o sdkactivity.RegisterOptions) []registration {
	v := reflect.ValueOf(fn)
	if v.Kind() == reflect.Func {
		r := registration{name: o.Name, base: once.FuncName(fn), fn: v.Type(), full: runtime.FuncForPC(v.Pointer()).Name()}
		if r.name == "" {
			r.name = r.base
		}
		return []registration{r}
	}
	var all []registration
	for i := range v.NumMethod() {
		if method := v.Type().Method(i); method.IsExported() {
			all = append(all, registration{name: o.Name + method.Name, base: method.Name, fn: v.Method(i).Type()})
		}
	}
	return all
}

// serves reports whether the registration is of the marked activity. Methods go
// by name and signature: a promoted method has another qualified name.
func (r registration) serves(m mark) bool {
	if m.Func == nil {
		return m.Name == r.name
	}
	if m.Name != r.base || reflect.TypeOf(m.Func) != r.fn {
		return false
	}
	return r.full == "" || r.full == runtime.FuncForPC(reflect.ValueOf(m.Func).Pointer()).Name()
}

func (t *typeTable) register(g *Guard, fn any, o sdkactivity.RegisterOptions) {
	t.mu.Lock()
	defer t.mu.Unlock()
	types := map[string]int{}
	maps.Copy(types, t.all())
	for _, r := range registrations(fn, o) {
		types[r.name] = t.mark(g, r)
	}
	t.types.Store(&types)
}

// mark returns the index of the mark that the registration has.
func (t *typeTable) mark(g *Guard, r registration) int {
	found := unmarked
	for i, m := range g.marks {
		if !r.serves(m) {
			continue
		}
		if found != unmarked {
			t.errs = append(t.errs, fmt.Errorf("activity %s is marked twice: by function and by name", r.name))
			continue
		}
		found = i
		if m.Exempt {
			continue
		}
		if err := m.policy.Check(r.fn); err != nil {
			t.errs = append(t.errs, fmt.Errorf("activity %s: %w", r.name, err))
		}
	}
	if found == unmarked && g.options.Strict && isActivity(r.fn) {
		t.errs = append(t.errs, fmt.Errorf("activity %s is neither marked nor exempt, and Options.Strict is set", r.name))
	}
	return found
}

// isActivity reports whether the SDK would register a method of that type.
func isActivity(fn reflect.Type) bool {
	last := fn.NumOut() - 1
	return last >= 0 && last <= 1 && fn.Out(last) == reflect.TypeFor[error]() &&
		(fn.NumIn() == 0 || fn.NumIn() > 0 && (fn.In(0) == reflect.TypeFor[context.Context]() || fn.In(0).Kind() != reflect.Func))
}

// all returns the registered types; it is not to be modified.
func (t *typeTable) all() map[string]int {
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

func (t *typeTable) errors() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return errors.Join(t.errs...)
}

// serves reports whether some type of the worker has the mark with that index.
func (t *typeTable) serves(i int) bool {
	return t.hasDynamic() || slices.Contains(slices.Collect(maps.Values(t.all())), i)
}
