package atmostonce

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/store"
)

// Codec encodes what is kept of a call: the result of a function and, under Lock, an
// error, as its text and the values of Options.Errors that are in it. Its methods may be
// called from any number of goroutines. What Encode gives, Decode must take, in every
// program that shares the store.
type Codec interface {
	// Encode encodes a result, an error of a type in Options.Errors, or a struct of
	// texts and bytes with tags for encoding/json, which is around the errors.
	Encode(value any) ([]byte, error)
	// Decode decodes into ptr, a pointer to a value of the type that was encoded. It
	// neither changes data nor keeps it.
	Decode(data []byte, ptr any) error
}

// JSON is the Codec by default: encoding/json.
type JSON struct{}

// Encode implements Codec.
func (JSON) Encode(value any) ([]byte, error) { return json.Marshal(value) }

// Decode implements Codec.
func (JSON) Decode(data []byte, ptr any) error { return json.Unmarshal(data, ptr) }

// safely returns what f returns, and a panic of f as an error: the codec and what it
// encodes are code of users. The value of the panic may show input.
func safely(f func() error) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case runtime.Error:
			err = fmt.Errorf("panic: %w", p)
		default:
			err = fmt.Errorf("panic with a value of type %T", p)
		}
	}()
	return f()
}

// codec encodes and decodes the outcomes of one function.
type codec struct {
	with   Codec
	errors known
	limit  int
	result func(Codec, []byte) (any, error) // decodes one
}

// decodeResult decodes a result of a function.
func decodeResult[Out any](c Codec, data []byte) (any, error) {
	var out Out
	err := safely(func() error { return c.Decode(data, &out) })
	return out, err
}

func (c codec) encode(result any) (o store.Outcome, err error) {
	o.State = store.Succeeded
	if err = safely(func() (err error) { o.Data, err = c.with.Encode(result); return err }); err != nil {
		o.Data, o.Missing = nil, "it could not be encoded"
		return o, err
	}
	if len(o.Data) > c.limit {
		o.Missing = fmt.Sprintf("its %d bytes are more than the limit of %d", len(o.Data), c.limit)
		o.Data = nil
	}
	return o, nil
}

// encodeError keeps err in an outcome of that state, and returns it as it is replayed.
func (c codec) encodeError(state store.State, err error) (store.Outcome, error) {
	o := store.Outcome{State: state}
	f := c.errors.keep(c.with, err, c.limit)
	if broken := safely(func() (err error) { o.Data, err = c.with.Encode(f); return err }); broken != nil {
		o.Data, o.Missing = nil, "it could not be encoded"
		return o, err
	}
	if len(o.Data) > store.MaxData {
		o.Data, o.Missing = nil, fmt.Sprintf("its %d bytes are more than the limit of %d", len(o.Data), store.MaxData)
		return o, err
	}
	return o, c.errors.restore(c.with, f)
}

func (c codec) decodeError(data []byte) (failed, broken error) {
	var f failure
	if err := safely(func() error { return c.with.Decode(data, &f) }); err != nil {
		return nil, fmt.Errorf("failure: %w", err)
	}
	return c.errors.restore(c.with, f), nil
}

func (c codec) replay(o store.Outcome) (result any, failed, broken error) {
	if o.Missing != "" {
		return nil, nil, engine.ErrNotKept
	}
	if o.State == store.Failed {
		failed, broken = c.decodeError(o.Data)
		return nil, failed, broken
	}
	if result, broken = c.result(c.with, o.Data); broken != nil {
		return nil, nil, fmt.Errorf("result: %w", broken)
	}
	return result, nil, nil
}
