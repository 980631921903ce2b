package interceptor

import (
	"fmt"
	"reflect"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"

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
