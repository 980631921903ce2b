package interceptor

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/internal/engine"
)

// marks are those of a guard.
type marks struct {
	all      []mark
	defaults once.Policy
	strict   bool
	mode     func(activity string) once.Mode // nil: Enforce
}

// mark is a Marked activity with its policy complete.
type mark struct {
	once.Marked
	policy   once.Policy
	function function // none for a mark by name
	rank     rank
}

// rank says which of two marks of an activity counts: the lower one.
type rank uint8

const (
	ofOne rank = iota
	ofStruct
	ofAll
)

// key is different for each mark.
func (m mark) key() string {
	if m.Func == nil {
		return "name " + m.Name
	}
	return fmt.Sprintf("function %d %s", m.rank, m.function.id)
}

// newMarks returns the marks, each with its policy complete.
func newMarks(activities []once.Marked, defaults once.Policy, strict bool, mode func(string) once.Mode) (*marks, error) {
	if !slices.ContainsFunc(activities, func(m once.Marked) bool { return !m.Exempt }) {
		return nil, errors.New("Options.Activities is empty, or all exempt, so nothing would be guarded: mark the activities that act on the world")
	}
	var all []mark
	var errs []error
	seen := map[string]mark{}
	for _, m := range activities {
		m.Policy = engine.Complete(m.Policy.Or(defaults))
		marks, err := expand(m, m.Policy)
		if err := errors.Join(m.Validate(), err); err != nil {
			errs = append(errs, fmt.Errorf("activity %s: %w", m.Name, err))
		}
		for _, m := range marks {
			first, again := seen[m.key()]
			if again && m.rank == ofStruct && first.Exempt == m.Exempt && first.policy == m.policy {
				continue // two structs embed the one that has the method
			}
			if again && m.Name != "" && m.Validate() == nil {
				errs = append(errs, fmt.Errorf("activity %s: marked twice; to give the registrations of one method different policies, mark their registered names", m.Name))
			}
			seen[m.key()] = m
			all = append(all, m)
		}
	}
	return &marks{all, defaults, strict, mode}, errors.Join(errs...)
}

// modeOf is the mode of an activity with that mark.
func (s *marks) modeOf(m mark, activity string) once.Mode {
	mode := once.Enforce
	if f := s.mode; f != nil {
		mode = f(activity)
	}
	if m.rank == ofAll {
		mode = max(mode, once.Observe)
	}
	return mode
}

// overruled reports whether another mark takes precedence over that of a struct's
// method.
func (s *marks) overruled(m mark) bool {
	return m.rank == ofStruct && slices.ContainsFunc(s.all, func(other mark) bool {
		return other.rank == ofOne && (other.function.id == m.function.id || other.Func == nil && other.Name == m.Name)
	})
}

// terms says how an activity is guarded.
func (s *marks) terms(m mark, name string) string {
	p := m.policy
	return fmt.Sprintf("%s (%v, %v, OnDuplicate %v, OnFailure %v, InDoubt %v)", name, s.modeOf(m, name), p.Scope, p.OnDuplicate, p.OnFailure, p.InDoubt)
}

// expand returns the marks that m stands for: one of each method for a struct.
func expand(m once.Marked, p once.Policy) ([]mark, error) {
	one := mark{Marked: m, policy: p}
	switch {
	case m.Func == nil:
		return []mark{one}, nil
	case m.Func == any(once.All):
		one.rank = ofAll
		if p.Key.Typed() || p.Match.Typed() || p.InDoubt.Reconciles() {
			return nil, errors.New("the policy has a function that is for one type of input; mark the activities that take it")
		}
		return []mark{one}, nil
	case reflect.TypeOf(m.Func).Kind() == reflect.Func:
		f, err := markable(m.Func)
		one.function = f
		if err == nil && !m.Exempt {
			err = p.Check(f.typ)
		}
		return []mark{one}, err
	}
	var marks []mark
	var errs []error
	for _, f := range methodsOf(reflect.TypeOf(m.Func)) {
		each := mark{Marked: m, policy: p, function: f, rank: ofStruct}
		each.Name = f.name
		if err := p.Check(f.typ); err != nil && !m.Exempt {
			errs = append(errs, fmt.Errorf("method %s: %w", f.name, err))
		}
		marks = append(marks, each)
	}
	if len(marks) == 0 {
		errs = append(errs, errors.New("no method of it is an activity"))
	}
	return marks, errors.Join(errs...)
}

// markable returns the marked function, or why it could be another one.
func markable(fn any) (function, error) {
	f := functionOf(fn)
	switch {
	case f.expression && f.id == "":
		return f, errors.New("whose method an interface calls cannot be known; mark the method of the concrete type, or the registered name")
	case !f.expression && strings.Contains(f.id, typeArguments):
		return f, errors.New("a method value does not show the type arguments; mark the method expression, the struct or the registered name")
	}
	return f.bound(), nil
}
