package store

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"
)

// This file is what JSON does not do by itself for a record: it keeps text that is not
// UTF-8.

// badJSON says what is wrong with a record, in words that quote nothing of it.
func badJSON(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("%w: no JSON from byte %d on", ErrCorrupt, syntax.Offset)
	case errors.As(err, &kind) && kind.Field != "":
		return fmt.Errorf("%w: the field %s has a value of the wrong type", ErrCorrupt, kind.Field)
	default:
		return fmt.Errorf("%w: a field has a value of the wrong form", ErrCorrupt)
	}
}

// notText begins a string of a record that JSON would change; base64 follows.
const (
	notText       = "\x00base64:"
	notTextInJSON = `\u0000base64:`
)

// asText returns r with every string in a form that JSON keeps.
func asText(r Record) Record {
	plain := true
	eachString(reflect.ValueOf(&r).Elem(), func(s string) string {
		plain = plain && utf8.ValidString(s) && !strings.HasPrefix(s, notText)
		return s
	})
	if plain {
		return r
	}
	r = r.clone()
	eachString(reflect.ValueOf(&r).Elem(), func(s string) string {
		if utf8.ValidString(s) && !strings.HasPrefix(s, notText) {
			return s
		}
		return notText + base64.StdEncoding.EncodeToString([]byte(s))
	})
	return r
}

// fromText undoes asText, in place.
func fromText(r *Record) (err error) {
	eachString(reflect.ValueOf(r).Elem(), func(s string) string {
		encoded, found := strings.CutPrefix(s, notText)
		if !found {
			return s
		}
		data, e := base64.StdEncoding.DecodeString(encoded)
		if e != nil {
			err = fmt.Errorf("%w: a field has a value of the wrong form", ErrCorrupt)
		}
		return string(data)
	})
	return err
}

var timeType = reflect.TypeFor[time.Time]()

// eachString replaces every string in v by what turn makes of it.
func eachString(v reflect.Value, turn func(string) string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(turn(v.String()))
	case reflect.Pointer:
		if !v.IsNil() {
			eachString(v.Elem(), turn)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			for i := range v.Len() {
				eachString(v.Index(i), turn)
			}
		}
	case reflect.Struct:
		if v.Type() != timeType {
			for i := range v.NumField() {
				eachString(v.Field(i), turn)
			}
		}
	}
}

// clock is the host's, as a file keeps it.
func clock() time.Time {
	return time.Now().Round(0).UTC()
}
