package atmostonce

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// Failure is a kept failure of which no part is in Options.Errors, here or where it was
// recorded: what it said, and of which type it was.
type Failure struct {
	Type    string // as Go names it, with its package; "" for a mere text
	Message string
}

// Error is the text of the failure as it was.
func (f *Failure) Error() string { return f.Message }

// failure is what is kept of an error.
type failure struct {
	Type    string      `json:"type,omitempty"`
	Message string      `json:"message"`
	Known   []keptError `json:"known,omitempty"` // what is in it of Options.Errors
}

// keptError is a sentinel, by what it says, or a value of a type.
type keptError struct {
	Type  string `json:"type,omitempty"`
	Text  string `json:"text"`
	Value []byte `json:"value,omitempty"` // encoded
}

// known are Options.Errors: sentinels, and one value of each type.
type known []error

func newKnown(all []error) (known, error) {
	var k known
	var errs []error
	texts, types := map[string]error{}, map[string]reflect.Type{}
	for i, err := range all {
		if err == nil {
			errs = append(errs, fmt.Errorf("Errors[%d] is nil", i))
			continue
		}
		t := reflect.TypeOf(err)
		if isMereText(t) {
			switch other, again := texts[textOf(err)]; {
			case !again:
				texts[textOf(err)] = err
				k = append(k, err)
			case other != err: //nolint:errorlint // the very same
				errs = append(errs, fmt.Errorf("Errors: two sentinels say %q, which is what a record keeps of one", textOf(err)))
			}
			continue
		}
		switch other, again := types[typeName(t)]; {
		case !again:
			types[typeName(t)] = t
			k = append(k, err)
		case other != t:
			errs = append(errs, fmt.Errorf("Errors: two types are named %s", typeName(t)))
		}
	}
	return k, errors.Join(errs...)
}

// isMereText reports whether an error of type t is one of package errors or fmt: a text,
// and what it wraps.
func isMereText(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.PkgPath() == "errors" || t.PkgPath() == "fmt"
}

func typeName(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		return "*" + typeName(t.Elem())
	}
	if t.PkgPath() == "" {
		return t.String()
	}
	return t.PkgPath() + "." + t.Name()
}

// maxText bounds what is kept of the text of an error.
const maxText = 4 << 10

// say is what err says, whoever has written it.
func say(err error) (text string) {
	if panicked := safely(func() error { text = err.Error(); return nil }); panicked != nil {
		return "an error that does not say what it is: " + panicked.Error()
	}
	return text
}

// textOf is what err says, as a record keeps it.
func textOf(err error) string {
	text := say(err)
	if len(text) > maxText {
		text = text[:maxText] + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// keep returns what is kept of err. What does not come back as it is, or is larger than
// the limit, is left out: its text says what it was.
func (k known) keep(c Codec, err error, limit int) failure {
	f := failure{Message: textOf(err)}
	if t := reflect.TypeOf(err); !isMereText(t) {
		f.Type = typeName(t)
	}
	for _, one := range k {
		_ = safely(func() error { // methods of users' errors are asked
			if e, found := keepOne(c, one, err); found && len(e.Value) <= limit {
				limit -= len(e.Value)
				f.Known = append(f.Known, e)
			}
			return nil
		})
	}
	return f
}

// keepOne returns what is kept of one known error that is in err.
func keepOne(c Codec, one, err error) (e keptError, found bool) {
	t := reflect.TypeOf(one)
	if isMereText(t) {
		return keptError{Text: textOf(one)}, errors.Is(err, one)
	}
	in := reflect.New(t)
	if !errors.As(err, in.Interface()) {
		return e, false
	}
	value, _ := in.Elem().Interface().(error)
	e = keptError{Type: typeName(t), Text: textOf(value)}
	if e.Value, err = c.Encode(value); err != nil {
		return e, false
	}
	again, same := decodeKnown(c, t, e)
	return e, same && reflect.DeepEqual(again, value)
}

// restore returns the error that was kept.
func (k known) restore(c Codec, f failure) error {
	var causes []error
	for _, e := range f.Known {
		for _, one := range k {
			t := reflect.TypeOf(one)
			switch {
			case isMereText(t) && e.Type == "" && textOf(one) == e.Text:
				causes = append(causes, one)
			case !isMereText(t) && e.Type == typeName(t):
				if err, ok := decodeKnown(c, t, e); ok {
					causes = append(causes, err)
				}
			default:
				continue
			}
			break
		}
	}
	switch {
	case len(causes) == 0:
		return &Failure{f.Type, f.Message}
	case len(causes) == 1 && textOf(causes[0]) == f.Message:
		return causes[0]
	}
	return &wrapped{f.Message, causes}
}

// decodeKnown decodes a value of type t. It is not ok if that says something else than
// what was kept: another build may have another type of that name.
func decodeKnown(c Codec, t reflect.Type, e keptError) (value error, ok bool) { //nolint:revive // a value that is an error
	decoded := reflect.New(t)
	broken := safely(func() error { return c.Decode(e.Value, decoded.Interface()) })
	value, ok = decoded.Elem().Interface().(error)
	return value, ok && broken == nil && textOf(value) == e.Text
}

// wrapped are known errors in the text that was around them.
type wrapped struct {
	text   string
	causes []error
}

func (w *wrapped) Error() string   { return w.text }
func (w *wrapped) Unwrap() []error { return w.causes }
