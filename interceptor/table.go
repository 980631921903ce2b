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

	"github.com/atmostonce/atmostonce/once"
)

// typeTable knows which activity types of a worker are marked. It is read on
// every activity task, and written while activities are registered.
type typeTable struct {
	marks   *marks
	options *worker.Options                         // nil without a plugin, which sees registrations
	types   atomic.Pointer[map[string]registration] // by activity type

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

func (t *typeTable) watch(o *worker.PluginConfigureWorkerRegistryOptions) {
	activity, dynamic := o.OnRegisterActivity, o.OnRegisterDynamicActivity
	o.OnRegisterActivity = func(fn any, ro sdkactivity.RegisterOptions) {
		t.register(fn, ro)
		if activity != nil {
			activity(fn, ro)
		}
	}
	o.OnRegisterDynamicActivity = func(fn any, ro sdkactivity.DynamicRegisterOptions) {
		t.mu.Lock()
		t.dynamic = true
		t.mu.Unlock()
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

func (t *typeTable) register(fn any, o sdkactivity.RegisterOptions) {
	t.mu.Lock()
	defer t.mu.Unlock()
	types := map[string]registration{}
	maps.Copy(types, t.all())
	for _, r := range registrations(fn, o) {
		r.mark, _ = t.markOf(r)
		types[r.activity] = r
		if reflect.TypeOf(fn).Kind() == reflect.Func && o.Name != "" && !t.options.DisableRegistrationAliasing {
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
func (t *typeTable) markOf(r registration) (found int, err error) {
	found = unmarked
	for i, m := range t.marks.all {
		switch {
		case !r.serves(m):
		case found == unmarked || m.rank < t.marks.all[found].rank:
			found, err = i, nil
		case m.rank == t.marks.all[found].rank:
			err = fmt.Errorf("activity %s is marked twice: by function and by name", r.activity)
		}
	}
	switch {
	case err != nil:
	case found == unmarked, t.marks.all[found].rank == ofAll:
		if t.marks.strict && isActivity(r.typ) {
			err = fmt.Errorf("activity %s is neither marked nor exempt, and Options.Strict is set", r.activity)
		}
	case t.marks.all[found].Func == nil:
		if m := t.marks.all[found]; !m.Exempt {
			err = m.policy.Check(r.typ)
		}
		if err != nil {
			err = fmt.Errorf("activity %s: %w", r.activity, err)
		}
	case r.expression:
		err = fmt.Errorf("activity %s is registered by a method expression, so that the receiver is the first input of each call: register the struct or a method value, or mark the registered name", r.activity)
	case r.vague && t.marks.all[found].function.vague:
		err = fmt.Errorf("activity %s is marked and registered by a method value of %s. If that is an interface, another activity may implement it too: mark the method expression, the struct or the registered name", r.activity, r.owner())
	}
	return found, err
}

// problems returns what is wrong with the marks of the registered activities.
func (t *typeTable) problems() error {
	var errs []error
	types := t.all()
	for _, name := range slices.Sorted(maps.Keys(types)) {
		_, err := t.markOf(types[name])
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

// isOff reports whether every marked activity of the worker is in Mode Off.
func (t *typeTable) isOff() bool {
	if t.hasDynamic() {
		return false // nobody knows what it serves
	}
	for name := range t.all() {
		if v := t.judge(name, false); v.marked && t.marks.modeOf(v.mark, name) != once.Off {
			return false
		}
	}
	return true
}

// coverage lists the worker's activities: those with a mark, as it now works, and
// the others.
func (t *typeTable) coverage() (guarded, others []string) {
	types := t.all()
	for _, name := range slices.Sorted(maps.Keys(types)) {
		if v := t.judge(name, false); v.marked {
			guarded = append(guarded, t.marks.terms(v.mark, name))
		} else {
			others = append(others, name)
		}
	}
	if !t.hasDynamic() {
		return guarded, others
	}
	rest := &others
	for _, m := range t.marks.all {
		_, registered := types[m.Name]
		switch {
		case m.Func == nil && !m.Exempt && !registered:
			guarded = append(guarded, t.marks.terms(m, m.Name))
		case m.rank == ofAll:
			rest = &guarded
		}
	}
	*rest = append(*rest, "what the dynamic activity serves besides")
	return guarded, others
}
