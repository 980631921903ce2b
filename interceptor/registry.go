package interceptor

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/internal/engine"
)

// registry knows what the workers of a guard have registered, and so which mark counts
// for an activity that is not called here.
type registry struct {
	marks *marks
	plain *typeTable // of workers that show no registrations

	mu     sync.Mutex
	tables []*typeTable
}

func newRegistry(m *marks) *registry { return &registry{marks: m, plain: &typeTable{marks: m}} }

// add returns the table of another worker.
func (s *registry) add(o *worker.Options) *typeTable {
	t := &typeTable{marks: s.marks, options: o}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tables = append(s.tables, t)
	return t
}

// find returns the mark of an activity, which this process need not run.
func (s *registry) find(activity string) (m mark, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	registered, first := false, unmarked
	for _, t := range s.tables {
		r, ok := t.all()[activity]
		registered = registered || ok
		if !ok || r.mark == unmarked || s.marks.all[r.mark].Exempt {
			continue
		}
		if first != unmarked && first != r.mark {
			return mark{}, false // two workers have two activities of that name
		}
		first = r.mark
	}
	switch {
	case first != unmarked:
		return s.marks.all[first], true
	case registered:
		return mark{}, false
	}
	v := s.plain.judge(activity, false)
	switch len(v.suspects) {
	case 0:
		return v.mark, v.marked
	case 1: // of another process, which has the same marks
		return v.suspects[0], true
	}
	return mark{}, false
}

// policyOf returns the policy of an activity, which its steps have, too, or the defaults.
func (s *registry) policyOf(activity string) once.Policy {
	if m, ok := s.find(activity); ok {
		return m.policy
	}
	if m, ok := s.find(strings.TrimSuffix(activity, engine.ActivityOfSteps)); ok {
		return m.policy
	}
	return engine.Complete(s.marks.defaults)
}

// functions returns what the workers of this guard run as the activity; else the
// marked functions that bear its name.
func (s *registry) functions(activity string) (all []function) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tables {
		if r, registered := t.all()[activity]; registered {
			all = append(all, r.function)
		}
	}
	if len(all) > 0 {
		return all
	}
	for _, m := range s.marks.all {
		if m.Func != nil && m.function.typ != nil && m.function.name == activity {
			all = append(all, m.function)
		}
	}
	return all
}

// unregistered finds marks that guard nothing: neither a typo nor a wrapper must
// leave a charge unguarded.
func (s *registry) unregistered() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, m := range s.marks.all {
		found := m.Exempt || s.marks.overruled(m)
		for _, other := range s.tables {
			found = found || other.serves(m)
		}
		if !found {
			errs = append(errs, fmt.Errorf("activity %q is marked%s", m.Name, s.instead(m)))
		}
	}
	return errors.Join(errs...)
}

// instead says what is registered in place of a marked activity.
func (s *registry) instead(m mark) string {
	const nowhere = " but registered with no worker of this guard; register all workers before the first one starts"
	for _, t := range s.tables {
		types := t.all()
		for _, name := range slices.Sorted(maps.Keys(types)) {
			switch r := types[name]; {
			case m.Func == nil && r.name == m.Name:
				return fmt.Sprintf("%s. %s is registered as %q: mark that name, or the function", nowhere, r.id, name)
			case m.Func != nil && name == m.Name && (r.mark == unmarked || s.marks.all[r.mark].rank == ofAll):
				return fmt.Sprintf(" as %s, but registered is another function, %s. If that wraps the marked one, mark the name %q instead", m.function.id, r.id, name)
			}
		}
	}
	switch {
	case m.Func == nil:
		return nowhere
	case m.function.vague:
		return fmt.Sprintf(" as %s%s. If %s is an interface, mark the method of the concrete type, or the registered name", m.function.id, nowhere, m.function.owner())
	}
	return fmt.Sprintf(" as %s%s. If a wrapper is registered in its place, mark the registered name", m.function.id, nowhere)
}
