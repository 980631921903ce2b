package interceptor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// checkResult refuses a result that the activity's function could not have returned.
// Payloads come from somebody who has encoded the result already.
func checkResult(known []function, activity string, f resolve.Finding) error {
	switch f.Result.(type) {
	case *commonpb.Payloads, converter.RawValue:
		return nil
	}
	if f.To != store.Succeeded || len(known) == 0 {
		return nil
	}
	for _, code := range known {
		if code.couldReturn(f.Result) {
			return nil
		}
	}
	given := "nil"
	if t := reflect.TypeOf(f.Result); t != nil {
		given = t.String()
	}
	if want := known[0].result(); want != nil {
		return fmt.Errorf("%w: %s returns %s, not %s", resolve.ErrResultType, activity, want, given)
	}
	return fmt.Errorf("%w: %s returns an error only: give AsDone nil, not %s", resolve.ErrResultType, activity, given)
}

// couldReturn reports whether the value could be what f returns beside its error.
func (f function) couldReturn(value any) bool {
	want, given := f.result(), reflect.TypeOf(value)
	switch {
	case want == nil:
		return given == nil
	case given != nil:
		return given.AssignableTo(want)
	}
	switch want.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Map, reflect.Slice:
		return true
	}
	return false
}

// typed returns f with a result that was given as JSON as a value: of the type that the
// activity's function returns, if that is known.
func typed(known []function, activity string, f resolve.Finding) (resolve.Finding, error) {
	text, ok := f.Result.(resolve.JSON)
	if !ok {
		return f, nil
	}
	f.Result = json.RawMessage(text)
	if !json.Valid(text) {
		return f, fmt.Errorf("%w: it is no JSON", resolve.ErrResultType)
	}
	var misfit error
	for _, code := range known { // several functions may have the name: any of them will do
		want := code.result()
		if want == nil {
			continue
		}
		value, err := ofType(want, text)
		f.Result = value // of the right type, even if the JSON is not
		if err == nil {
			return f, nil
		}
		misfit = fmt.Errorf("%w: %s returns %s, and the JSON is none: %w", resolve.ErrResultType, activity, want, err)
	}
	return f, misfit
}

// ofType decodes JSON into a value of type want.
func ofType(want reflect.Type, text []byte) (any, error) {
	value := reflect.New(want)
	target := value.Interface()
	if want.Kind() == reflect.Pointer { // as messages of Protocol Buffers are returned
		value.Elem().Set(reflect.New(want.Elem()))
		target = value.Elem().Interface()
	}
	if m, is := target.(proto.Message); is {
		return value.Elem().Interface(), protojson.Unmarshal(text, m)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(value.Interface())
	return value.Elem().Interface(), err
}
