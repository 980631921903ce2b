package activity

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"runtime"
	"strings"
)

// Marked is an activity with its policy, or one that is exempt.
type Marked struct {
	// Name is the activity type; for a function, its name in Go: a method
	// registered under a prefix has another type; for a struct, that of its type.
	Name string
	// Func is the function, the struct whose methods are meant, or [All]; nil for
	// a mark by name.
	Func   any
	Policy Policy
	Exempt bool
	// KeyName is the activity type that enters the key instead of the real one.
	// See [As].
	KeyName string
	err     error
}

// Mark guards activities by one policy. Each is given as one of these. What is
// wrong with a mark is reported by interceptor.New, all of it at once.
//
//   - A function, a method value or a method expression: p.ChargeCard or
//     (*Payments).ChargeCard. It marks this very function, under every name and
//     prefix that it is registered with. For a method, what counts is the type that
//     declares it, whichever value it is called on. What wraps a function is
//     another function.
//   - A registered name: "ChargeCard". It marks whatever is registered under that
//     name, such as a wrapper, or is served under it by a dynamic activity.
//   - A struct, or a pointer to one: &Payments{}. It marks each method that the SDK
//     would register as an activity; a mark of one of them by itself takes
//     precedence.
//   - [All], to observe.
//
// A worker on which a marked activity is not found does not start, unless another
// worker of the guard has it.
//
// Some functions look like others: closures, generic functions, method values of
// generic types, and those of an interface. They are refused, at the latest when the
// worker starts: mark the method of the concrete type, the struct or the registered
// name. A method value with a value receiver looks like one of an interface. It is
// known where the struct is registered; the method expression is known everywhere.
//
// The SDK shows only the short name of a local activity that is passed as a
// function. It is guarded if its type is marked by name, or if a marked function is
// registered as that type. Where it may be another marked function of that name as
// well, the call is refused with a BadSetup error. A function of the same name and
// the same input as the registered one cannot be distinguished from it.
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

// All marks every activity of a worker that has no mark and is not exempt, those
// that a dynamic activity serves included. Their calls are observed at most,
// whatever the guard's Mode says, and they still count as not marked under Strict.
// The policy must fit every activity: no function of it can be typed.
var All everything

type everything struct{}

// Exempt says that these activities are deliberately not guarded. It takes what
// [Mark] takes, except All.
func Exempt(activities ...any) []Marked {
	marks := make([]Marked, len(activities))
	for i, a := range activities {
		marks[i] = marked(a)
		marks[i].Exempt = true
		if a == any(All) {
			marks[i].err = errors.New("All cannot be exempt; what is not marked is not guarded")
		}
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
		switch {
		case a.name == "":
			m.err = errors.Join(m.err, fmt.Errorf("As(%q): an empty name", a.name))
		case m.Func != nil && reflect.TypeOf(m.Func).Kind() != reflect.Func:
			m.err = errors.Join(m.err, fmt.Errorf("As(%q): it renames one activity, and %s may be many", a.name, m.Name))
		}
		return m
	case string:
		if a == "" {
			m.err = errors.New("an empty activity name")
		}
		m.Name = a
		return m
	case everything:
		return Marked{Name: "All", Func: a}
	}
	v := reflect.ValueOf(a)
	switch {
	case isStruct(a):
		return Marked{Name: v.Type().String(), Func: a}
	case v.Kind() != reflect.Func || v.IsNil():
		m.err = fmt.Errorf("%T is neither a function nor a name nor a struct", a)
		return m
	}
	m.Func, m.Name = a, FuncName(a)
	if full := runtime.FuncForPC(v.Pointer()).Name(); !goName.MatchString(m.Name) || closureName.MatchString(m.Name) || strings.HasPrefix(full, "reflect.") {
		m.Name = full
		m.err = errors.New("a closure or generic function has no name of its own; register it with a name and mark that name")
	}
	return m
}

func isStruct(a any) bool {
	t := reflect.TypeOf(a)
	return t != nil && (t.Kind() == reflect.Struct || t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct)
}

// FuncName returns the name by which the SDK registers a function or method
// value.
func FuncName(f any) string {
	full := runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name()
	return strings.TrimSuffix(full[strings.LastIndex(full, ".")+1:], "-fm")
}

// Validate returns all that is wrong with m and can be known without its functions,
// joined.
func (m Marked) Validate() error {
	if m.err != nil || m.Exempt {
		return m.err
	}
	return m.Policy.Validate()
}
