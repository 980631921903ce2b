package activity

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"runtime"
	"strings"
)

// Marked is an activity with its policy, or one that is exempt.
type Marked struct {
	// Name is the activity type, or, for a function, its name in Go: a method
	// registered under a prefix has another type.
	Name string
	// Func is the function; nil for a mark by name.
	Func   any
	Policy Policy
	Exempt bool
	// KeyName is the activity type that enters the key instead of the real one.
	// See [As].
	KeyName string
	err     error
}

// Mark guards activities by one policy. Each is given as
// workflow.ExecuteActivity takes it: a function, a method value, or a registered
// name. What is wrong with a mark is reported by interceptor.New, all of it at
// once.
//
// A method value marks that method under every prefix its struct is registered
// with. To guard only one of them, mark its registered name.
//
// Keep functions that return marks off the struct whose methods are registered
// as activities: the SDK would take them for activities.
func Mark(p Policy, activities ...any) []Marked {
	marks := make([]Marked, len(activities))
	for i, a := range activities {
		marks[i] = marked(a)
		marks[i].Policy = p
	}
	return marks
}

// Exempt says that these activities are deliberately not guarded.
func Exempt(activities ...any) []Marked {
	marks := make([]Marked, len(activities))
	for i, a := range activities {
		marks[i] = marked(a)
		marks[i].Exempt = true
	}
	return marks
}

// As is an activity whose keys are made as if it had another name. It keeps the
// records of a renamed activity:
//
//	once.Mark(policy, once.As("ChargeCard", p.ChargeCardV2))
func As(name string, activity any) any { return renamed{name, activity} }

type renamed struct {
	name     string
	activity any
}

// A closure has a name like func1; an instance of a generic function ends in ].
var goName = regexp.MustCompile(`^[\pL_][\pL\pN_]*$`)

var closureName = regexp.MustCompile(`^func\d+$`)

func marked(a any) (m Marked) {
	switch a := a.(type) {
	case renamed:
		m = marked(a.activity)
		m.KeyName = a.name
		if a.name == "" {
			m.err = errors.Join(m.err, fmt.Errorf("As(%q): an empty name", a.name))
		}
		return m
	case string:
		if a == "" {
			m.err = errors.New("an empty activity name")
		}
		m.Name = a
		return m
	}
	v := reflect.ValueOf(a)
	if v.Kind() != reflect.Func || v.IsNil() {
		m.err = fmt.Errorf("%T is neither a function nor a name", a)
		return m
	}
	m.Func, m.Name = a, FuncName(a)
	if !goName.MatchString(m.Name) || closureName.MatchString(m.Name) {
		m.err = fmt.Errorf("%s: a closure or generic function has no name of its own; register it with a name and mark that name",
			runtime.FuncForPC(v.Pointer()).Name())
	}
	return m
}

// FuncName returns the name by which the SDK registers a function or method
// value.
func FuncName(f any) string {
	full := runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name()
	return strings.TrimSuffix(full[strings.LastIndex(full, ".")+1:], "-fm")
}

// Validate returns what is wrong with m and can be known without a worker: all
// of it, joined.
func (m Marked) Validate() error {
	if m.err != nil {
		return m.err
	}
	if m.Exempt {
		return nil
	}
	errs := []error{m.Policy.Validate()}
	if m.Func != nil {
		errs = append(errs, m.Policy.Check(reflect.TypeOf(m.Func)))
	}
	return errors.Join(errs...)
}

// Check reports whether the typed functions in p fit an activity of type fn.
func (p Policy) Check(fn reflect.Type) error {
	params := make([]reflect.Type, 0, fn.NumIn())
	for i := range fn.NumIn() {
		if i == 0 && fn.In(0).Implements(reflect.TypeFor[context.Context]()) {
			continue
		}
		params = append(params, fn.In(i))
	}
	var errs []error
	if err := p.Key.Check(params); err != nil {
		errs = append(errs, fmt.Errorf("Key: %w", err))
	}
	if err := p.Match.Check(params); err != nil {
		errs = append(errs, fmt.Errorf("Match: %w", err))
	}
	if f := p.InDoubt.find; f != nil {
		errs = append(errs, f.check(fn, params))
	}
	return errors.Join(errs...)
}

func (f *finder) check(fn reflect.Type, params []reflect.Type) error {
	var errs []error
	switch {
	case len(params) == 0:
		errs = append(errs, fmt.Errorf("Reconcile: the function wants %v, but the activity takes no argument", f.in))
	case !params[0].AssignableTo(f.in):
		errs = append(errs, fmt.Errorf("Reconcile: the function wants %v, but the activity takes %v", f.in, params[0]))
	}
	if fn.NumOut() == 2 && fn.Out(0) != f.out {
		errs = append(errs, fmt.Errorf("Reconcile: the function finds %v, but the activity returns %v", f.out, fn.Out(0)))
	}
	return errors.Join(errs...)
}
