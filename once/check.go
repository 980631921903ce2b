package once

import (
	"context"
	"errors"
	"fmt"
	"reflect"
)

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
		errs = append(errs, fmt.Errorf("Reconcile: the function wants %v, but there is no argument", f.in))
	case !params[0].AssignableTo(f.in):
		errs = append(errs, fmt.Errorf("Reconcile: the function wants %v, but the argument is of type %v", f.in, params[0]))
	}
	if fn.NumOut() == 2 && fn.Out(0) != f.out {
		errs = append(errs, fmt.Errorf("Reconcile: the function finds %v, but the result is of type %v", f.out, fn.Out(0)))
	}
	return errors.Join(errs...)
}
