package interceptor

import (
	"context"
	"errors"
	"reflect"
	"strings"

	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"

	"github.com/atmostonce/atmostonce/store"
)

// maxCause bounds what a record keeps of the error that left it in doubt.
const maxCause = 4 << 10

// doubt returns the outcome of a body after whose error nobody knows what
// happened. It keeps the error's type and as much of its text as there is room
// for, encoded as Temporal gets it, for later calls to quote.
func (c codec) doubt(ctx context.Context, err error) (o store.Outcome) {
	o.State = store.InDoubt
	defer func() { _ = recover() }() // of a converter's; the doubt is what counts
	kind, text := kindOf(err)
	for limit := maxCause; limit > 1; limit /= 2 { // encryption adds to it
		kind, text = clip(kind, limit/8), clip(text, limit)
		failure := c.failuresIn(c.where).ErrorToFailure(temporal.NewApplicationError(text, kind))
		data, err := proto.Marshal(failure)
		if err != nil {
			break
		}
		kept := c.seal(ctx, store.Outcome{State: store.InDoubt, Data: data})
		if kept.Missing != "" { // the write must not wait for a codec that is away
			break
		}
		if len(kept.Data) <= maxCause {
			return kept
		}
	}
	return o
}

// cause returns what doubt has kept; nil if there is nothing that can be read.
func (c codec) cause(ctx context.Context, o store.Outcome) (err error) {
	if o.State != store.InDoubt || len(o.Data) == 0 || len(o.Data) > maxCause {
		return nil
	}
	defer func() {
		if recover() != nil { // of a converter's
			err = nil
		}
	}()
	o.State = store.Failed
	_, failure, broken := c.replay(ctx, o)
	if broken != nil {
		return nil
	}
	return failure
}

// after returns err with the error that came first as its cause, unless it has a
// cause of its own.
func after(err, first error) error {
	if first == nil || errors.Unwrap(err) != nil {
		return err
	}
	kind, text := kindOf(err)
	return temporal.NewApplicationErrorWithOptions(text, kind, temporal.ApplicationErrorOptions{Cause: first})
}

// kindOf is the type and the text that Temporal has for an error.
func kindOf(err error) (kind, text string) {
	if app, ok := err.(*temporal.ApplicationError); ok { //nolint:errorlint // what wraps it has a type of its own
		return app.Type(), app.Message()
	}
	t := reflect.TypeOf(err)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if kind = t.Name(); kind == "errorString" { // of errors.New
		kind = ""
	}
	return kind, err.Error()
}

// clip returns the UTF-8 in the beginning of a text.
func clip(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit]
	}
	return strings.ToValidUTF8(text, "")
}
