package atmostonce

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/store"
)

// Codec encodes what is kept of a call. Its methods may be called from any number of
// goroutines. What Encode gives, Decode must take, in every program that shares the
// store.
type Codec interface {
	Encode(value any) ([]byte, error)
	// Decode decodes into ptr, a pointer to a value of the type that was encoded.
	Decode(data []byte, ptr any) error
}

// JSON is the Codec by default: encoding/json.
type JSON struct{}

// Encode implements Codec.
func (JSON) Encode(value any) ([]byte, error) { return json.Marshal(value) }

// Decode implements Codec.
func (JSON) Decode(data []byte, ptr any) error { return json.Unmarshal(data, ptr) }

// failure is what is kept of an error.
type failure struct {
	Type    string `json:"type,omitempty"`
	Message string `json:"message"`
	Known   string `json:"known,omitempty"` // which of Options.Errors it is
	Value   []byte `json:"value,omitempty"` // of one of a type, encoded
}

// registeredErrors are Options.Errors.
type registeredErrors struct {
	sentinels map[string]error
	types     map[string]reflect.Type
}

func newRegisteredErrors(all []error) (registeredErrors, error) {
	r := registeredErrors{map[string]error{}, map[string]reflect.Type{}}
	var errs []error
	for i, err := range all {
		if err == nil {
			errs = append(errs, fmt.Errorf("Errors[%d] is nil", i))
			continue
		}
		t := reflect.TypeOf(err)
		if isSentinel(t) {
			name := "text:" + err.Error()
			if other, again := r.sentinels[name]; again && other != err { //nolint:errorlint // the very same
				errs = append(errs, fmt.Errorf("Errors: two sentinels say %q, which is what a record keeps of one", err.Error()))
			}
			r.sentinels[name] = err
			continue
		}
		r.types["type:"+typeName(t)] = t
	}
	return r, errors.Join(errs...)
}

// isSentinel reports whether errors of type t are distinguished by themselves: those of
// errors.New, which have no exported fields to keep.
func isSentinel(t reflect.Type) bool {
	return t == reflect.TypeOf(errors.New("")) || t == reflect.TypeOf(fmt.Errorf("%w", errors.New("")))
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

// keep returns what is kept of err.
func (r registeredErrors) keep(c Codec, err error) (failure, error) {
	f := failure{Message: err.Error()}
	if t := reflect.TypeOf(err); !isSentinel(t) {
		f.Type = typeName(t)
	}
	for name, sentinel := range r.sentinels {
		if errors.Is(err, sentinel) {
			f.Known = name
			return f, nil
		}
	}
	for name, t := range r.types {
		found := reflect.New(t)
		if !errors.As(err, found.Interface()) {
			continue
		}
		value, broken := c.Encode(found.Elem().Interface())
		if broken != nil {
			return f, broken
		}
		f.Known, f.Value = name, value
		return f, nil
	}
	return f, nil
}

// restore returns the error that was kept.
func (r registeredErrors) restore(c Codec, f failure) (error, error) { //nolint:revive // both are errors
	cause := error(nil)
	if sentinel, known := r.sentinels[f.Known]; known {
		cause = sentinel
	} else if t, known := r.types[f.Known]; known {
		value := reflect.New(t)
		if err := c.Decode(f.Value, value.Interface()); err != nil {
			return nil, err
		}
		cause, _ = value.Elem().Interface().(error)
	}
	switch {
	case cause == nil:
		return &Failure{f.Type, f.Message}, nil
	case cause.Error() == f.Message:
		return cause, nil
	}
	return &wrapped{f.Message, cause}, nil
}

// wrapped is a known error in the text that was around it.
type wrapped struct {
	text string
	err  error
}

func (w *wrapped) Error() string { return w.text }
func (w *wrapped) Unwrap() error { return w.err }

// codec encodes and decodes outcomes for one function.
type codec struct {
	guard  *Guard
	decode func([]byte) (any, error) // a result
}

func (c codec) encode(result any) (o store.Outcome, err error) {
	o.State = store.Succeeded
	if o.Data, err = c.guard.options.Codec.Encode(result); err != nil {
		o.Missing = "it could not be encoded"
		return o, err
	}
	if limit := c.guard.options.MaxOutcome; len(o.Data) > limit {
		o.Missing = fmt.Sprintf("its %d bytes are more than the limit of %d", len(o.Data), limit)
		o.Data = nil
	}
	return o, nil
}

// maxText bounds what is kept of the text of an error.
const maxText = 4 << 10

// encodeError keeps err in an outcome of that state. An error that cannot be kept as it
// is, is kept as a Failure: who gets none might take the effect for granted.
func (c codec) encodeError(state store.State, err error) (store.Outcome, error) {
	o := store.Outcome{State: state}
	f, broken := c.guard.errors.keep(c.guard.options.Codec, err)
	if len(f.Value) > c.guard.options.MaxOutcome || broken != nil {
		f.Known, f.Value = "", nil
	}
	if len(f.Message) > maxText {
		f.Known, f.Message = "", f.Message[:maxText]+"…"
	}
	if o.Data, broken = c.guard.options.Codec.Encode(f); broken != nil {
		o.Data, o.Missing = nil, "it could not be encoded"
		return o, err
	}
	replayed, broken := c.guard.errors.restore(c.guard.options.Codec, f)
	if broken != nil {
		return o, err
	}
	return o, replayed
}

func (c codec) decodeError(o store.Outcome) (failed, broken error) {
	var f failure
	if err := c.guard.options.Codec.Decode(o.Data, &f); err != nil {
		return nil, fmt.Errorf("failure: %w", err)
	}
	return c.guard.errors.restore(c.guard.options.Codec, f)
}

func (c codec) replay(o store.Outcome) (result any, failed, broken error) {
	if o.Missing != "" {
		return nil, nil, engine.ErrNotKept
	}
	if o.State == store.Failed {
		failed, broken = c.decodeError(o)
		return nil, failed, broken
	}
	if result, broken = c.decode(o.Data); broken != nil {
		return nil, nil, fmt.Errorf("result: %w", broken)
	}
	return result, nil, nil
}
