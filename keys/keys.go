// Package keys turns an activity call into the string that names its side
// effect. Two calls with the same key are one effect.
//
// A key reads
//
//	v1/<namespace>/<scope part>/<activity type>/<key part>
//
// with every part percent-escaped, so that no two different calls are joined to
// the same string. The scope part is tagged by its kind:
//
//	w:<workflow ID>                              PerWorkflow
//	r:<run ID>                                   PerRun
//	o:<run ID>:<occurrence>                      PerCall
//	c:<run ID>:<activity ID>:<scheduled time>    PerCall, without the header
//	n                                            PerNamespace
//	a:<activity ID>                              PerWorkflow, standalone activity
//	s:<activity run ID>                          PerRun, standalone activity
//
// The key part is h:<digest of the whole input> or k:<what the key function
// returned>.
//
// In r and o, the run ID is that of the run before any reset, and the
// occurrence counts the calls of one activity type with one input in the run: a
// reset makes both anew. They come in a header of the activity call, which the
// guard writes on workers that run workflows. A call without the header, from
// another worker or scheduled before the guard was installed, has the current
// run's ID in r, and c in place of o: after a reset it is another call.
package keys

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Scope says how far a key reaches: within it, calls of one activity type with
// the same key part are one effect. The zero value is not said.
type Scope uint8

const (
	// PerWorkflow reaches over everything under one workflow ID: retries, resets,
	// continue-as-new, cron, and later runs that reuse the ID. Two equal calls
	// in one workflow are one effect.
	PerWorkflow Scope = iota + 1
	// PerRun reaches over the retries in one workflow run, and over its resets
	// where the calls have the header.
	PerRun
	// PerCall reaches over the retries of one call, and over resets where the
	// call has the header: two equal calls in one run are two effects. It takes
	// no key function. A local activity without the header is refused.
	PerCall
	// PerNamespace reaches over all workflows of the namespace. It needs a key
	// function.
	PerNamespace
)

// String returns the scope's name in Go.
func (s Scope) String() string {
	switch s {
	case PerWorkflow:
		return "PerWorkflow"
	case PerRun:
		return "PerRun"
	case PerCall:
		return "PerCall"
	case PerNamespace:
		return "PerNamespace"
	}
	return "Scope(" + strconv.Itoa(int(s)) + ")"
}

var (
	// ErrEmpty says that a key function returned no key. A call without a key
	// is refused: an empty key would make strangers one effect.
	ErrEmpty = errors.New("keys: empty key")
	// ErrSkip, returned by a [FromCall] function, runs this call unguarded.
	ErrSkip = errors.New("keys: run this call unguarded")
)

// Call is an activity call, as a key function sees it.
type Call struct {
	Namespace     string
	TaskQueue     string
	WorkflowID    string    // empty for a standalone activity
	RunID         string    // empty for a standalone activity; a reset changes it
	ActivityID    string    // a reset may change it
	ActivityRunID string    // of a standalone activity only
	Scheduled     time.Time // by Temporal; the same in all attempts
	Activity      string    // the activity type's name
	Args          []any     // decoded, without the context; not to be modified
	Input         string    // digest of the whole input, by [Digest]

	// OriginalRunID, FirstRunID and Occurrence come in the call's header and are
	// zero without it, all three. A [FromCall] function that needs one should
	// return an error then: a key without it may be shared.
	OriginalRunID string // the run's ID before any reset of it
	FirstRunID    string // of the first run, before any continue-as-new, retry, cron or reset
	Occurrence    int32  // number of this call among equal calls in the run
}

// Func derives the key part from a call. The zero value is not said. Funcs are
// comparable.
type Func struct{ fn *function }

type function struct {
	derive func(Call) (string, error)
	in     reflect.Type // of the first argument; nil: any
	any    bool
	hash   bool
	err    error // why it cannot derive anything
}

// IsZero reports whether f is not said.
func (f Func) IsZero() bool { return f.fn == nil }

// IsHash reports whether f is made by [Hash].
func (f Func) IsHash() bool { return f.fn != nil && f.fn.hash }

// Typed reports whether f is made by [From], so that it fits only some
// activities.
func (f Func) Typed() bool { return f.fn != nil && f.fn.in != nil }

// Hash is the key of the whole input: any other byte of input is another
// effect, white space and the order of object keys in JSON excepted.
func Hash() Func { return hash }

var hash = Func{&function{hash: true, derive: func(c Call) (string, error) { return c.Input, nil }}}

// Any is for Policy.Match: a duplicate need not agree with the original in
// anything but the key.
func Any() Func { return anything }

var anything = Func{&function{any: true, derive: func(Call) (string, error) { return "", nil }}}

// From is the key that f derives from the activity's first argument. That the
// argument has type In is checked when the worker starts. f must be a pure
// function: it runs in every attempt. See [Join] for keys of several parts.
func From[In any](f func(in In) string) Func {
	if f == nil {
		return Func{&function{err: errNilFunction}}
	}
	in := reflect.TypeFor[In]()
	return Func{&function{in: in, derive: func(c Call) (string, error) {
		first, err := firstArg[In](c)
		if err != nil {
			return "", err
		}
		return f(first), nil
	}}}
}

// FromCall is the key that f derives from the call. An error refuses the call;
// [ErrSkip] runs it unguarded. f must be a pure function of the call's identity
// and arguments.
func FromCall(f func(Call) (string, error)) Func {
	if f == nil {
		return Func{&function{err: errNilFunction}}
	}
	return Func{&function{derive: f}}
}

var errNilFunction = errors.New("keys: nil key function")

// Join makes one key of several parts, such that different parts never make the
// same key. If all parts are empty so is the key, which is refused.
func Join(parts ...string) string {
	var b strings.Builder
	empty := true
	for _, p := range parts {
		empty = empty && p == ""
		b.WriteString(escape(p))
		b.WriteByte('/')
	}
	if empty {
		return ""
	}
	return b.String()
}

// Check reports whether f can serve an activity with these parameters, the
// context left out.
func (f Func) Check(params []reflect.Type) error {
	switch {
	case f.fn == nil:
		return nil
	case f.fn.err != nil:
		return f.fn.err
	case f.fn.in == nil:
		return nil
	case len(params) == 0:
		return fmt.Errorf("keys: the key function wants %v, but there is no argument", f.fn.in)
	case !params[0].AssignableTo(f.fn.in):
		return fmt.Errorf("keys: the key function wants %v, but the argument is of type %v", f.fn.in, params[0])
	}
	return nil
}

// Part returns what f derives from c, before it becomes part of a key. Only
// [Any] may answer "". A Func that is not said derives what [Hash] does.
func (f Func) Part(c Call) (string, error) {
	if f.fn == nil {
		f = hash
	}
	if f.fn.err != nil {
		return "", f.fn.err
	}
	part, err := f.fn.derive(c)
	if err == nil && part == "" && !f.fn.any {
		err = ErrEmpty
	}
	return part, err
}

// Make returns the key of c. A key that cannot be made is an error, never a
// shared key.
func Make(s Scope, f Func, c Call) (string, error) {
	part, err := f.Part(c)
	if err != nil {
		return "", err
	}
	tag := "k:"
	if f.IsZero() || f.IsHash() {
		tag = "h:"
	}
	scope, err := s.part(c)
	if err != nil {
		return "", err
	}
	return "v1/" + escape(c.Namespace) + "/" + scope + "/" + escape(c.Activity) + "/" + tag + escape(part), nil
}

func (s Scope) part(c Call) (string, error) {
	standalone := c.WorkflowID == ""
	switch {
	case s == PerNamespace:
		return "n", nil
	case standalone && c.ActivityID == "":
		return "", fmt.Errorf("keys: scope %v: the call has neither a workflow ID nor an activity ID", s)
	case s == PerWorkflow && standalone:
		return "a:" + escape(c.ActivityID), nil
	case s == PerWorkflow:
		return "w:" + escape(c.WorkflowID), nil
	case standalone && (s == PerRun || s == PerCall):
		return "s:" + escape(c.ActivityRunID), nil
	case s == PerRun:
		return "r:" + escape(cmp.Or(c.OriginalRunID, c.RunID)), nil
	case s == PerCall && c.OriginalRunID != "" && c.Occurrence > 0:
		return "o:" + escape(c.OriginalRunID) + ":" + strconv.Itoa(int(c.Occurrence)), nil
	case s == PerCall:
		at := strconv.FormatInt(c.Scheduled.UnixNano(), 10)
		return "c:" + escape(c.RunID) + ":" + escape(c.ActivityID) + ":" + at, nil
	}
	return "", fmt.Errorf("keys: no scope: %v", s)
}

// Downstream returns the idempotency key to hand to the callee of the effect
// that key names: 64 hexadecimal digits, which fit the limits of providers and
// reveal nothing of the input.
func Downstream(key string) string {
	var text [256]byte // longer ones are allocated
	return digits(sha256.Sum256(append(text[:0], key...)))
}

func escape(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

// firstArg is the first argument as In. A dynamic activity's arguments come as
// one value that decodes itself; nil arrives without its type.
func firstArg[In any](c Call) (in In, err error) {
	if len(c.Args) == 0 {
		return in, fmt.Errorf("keys: the key function wants %v, but the call has no argument", reflect.TypeFor[In]())
	}
	switch arg := c.Args[0].(type) {
	case In:
		return arg, nil
	case nil:
		return in, nil
	case interface{ Get(ptrs ...any) error }:
		return decoded[In](arg)
	default:
		return in, fmt.Errorf("keys: the key function wants %v, but the call has %T", reflect.TypeFor[In](), arg)
	}
}

func decoded[In any](arg interface{ Get(ptrs ...any) error }) (in In, err error) {
	if err := arg.Get(&in); err != nil {
		return in, fmt.Errorf("keys: the key function wants %v: %w", reflect.TypeFor[In](), err)
	}
	return in, nil
}
