package store

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"
)

// This file is the form of a record on disk, and what JSON does not do for it by itself:
// it keeps text that is not UTF-8, and shows that nothing was changed.

// Version 1 had no checksum, and lost what is not UTF-8 in any string but the key.
const fileVersion = 2

// fileRecord is the form of a record on disk. The version comes first, so that
// it is known even if a newer form cannot be read to its end.
type fileRecord struct {
	Version  int    `json:"version"`
	KeyBytes []byte `json:"key_bytes,omitempty"` // of version 1: a key that is not UTF-8
	Record
}

func encodeRecord(r Record) ([]byte, error) {
	data, err := json.MarshalIndent(fileRecord{Version: fileVersion, Record: asText(r)}, "", "  ")
	if err != nil {
		return nil, err
	}
	return withSum(data), nil
}

func decodeRecord(data []byte) (Record, error) {
	r, err := decodeForm(data)
	if err != nil {
		return Record{}, err
	}
	return r, r.Validate()
}

// decodeForm undoes encodeRecord. What the record says may still contradict itself.
func decodeForm(data []byte) (Record, error) {
	summed, right := checkSum(data)
	switch {
	case len(data) == 0:
		return Record{}, fmt.Errorf("%w: the file is empty", ErrCorrupt)
	case summed && !right:
		return Record{}, errSum
	}
	var form fileRecord
	if err := CheckShape(data); err != nil {
		return Record{}, err
	}
	err := json.Unmarshal(data, &form)
	switch {
	case form.Version > fileVersion:
		return Record{}, fmt.Errorf("%w: %d", ErrVersion, form.Version)
	case err != nil:
		return Record{}, badJSON(err)
	case form.Version == fileVersion && !summed:
		return Record{}, errSum
	case form.Version < 1:
		return Record{}, fmt.Errorf("%w: no version", ErrCorrupt)
	}
	r := form.Record
	if form.KeyBytes != nil {
		r.Key = string(form.KeyBytes)
	}
	if form.Version > 1 {
		err = fromText(&r)
	}
	return r, err
}

// The checksum is the last field. It is about every byte before it, and what follows
// it is always the same, so that no byte of a record can change unnoticed.
const (
	sumHead = ",\n  \"sum\": \"crc32c:"
	sumTail = "\"\n}\n"
	sumSize = len(sumHead) + 8 + len(sumTail)
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumOf returns the end of a record that begins with body.
func sumOf(body []byte) string {
	return fmt.Sprintf("%s%08x%s", sumHead, crc32.Checksum(body, castagnoli), sumTail)
}

// withSum returns the indented JSON object with its checksum.
func withSum(object []byte) []byte {
	body := bytes.TrimSuffix(object, []byte("\n}"))
	return append(body, sumOf(body)...)
}

// checkSum reports whether data ends in a checksum, and whether it is right.
func checkSum(data []byte) (found, right bool) {
	at := len(data) - sumSize
	if at < 0 || !bytes.HasPrefix(data[at:], []byte(sumHead)) || !bytes.HasSuffix(data, []byte(sumTail)) {
		return false, false
	}
	return true, string(data[at:]) == sumOf(data[:at])
}

var errSum = fmt.Errorf("%w: its checksum is wrong: the file was damaged, or changed by hand. "+
	"Put it back as it was; or, if its effect may happen again, remove it. A decision is made by Resolve, not in the file", ErrCorrupt)

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
const notText = "\x00base64:"

// asText returns r with every string in a form that JSON keeps.
func asText(r Record) Record {
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
