package engine

import (
	"fmt"
	"net/http"
	"os/exec"
	"reflect"
	"strings"
)

// This file reads the errors of drivers and clients whose packages are not imported
// here, by their methods, fields and types. A method of the same name and another
// signature is not theirs.

// isOpenRefusal reports whether err is the answer of a guard, of functions or of
// activities, that leaves open what its call did. Of an activity of which only the type
// is known here, nothing excludes it.
func isOpenRefusal(err error) bool {
	switch e := err.(type) { //nolint:errorlint // one step at a time
	case interface{ MayHaveHappened() bool }:
		return e.MayHaveHappened()
	case interface{ Type() string }:
		return strings.HasPrefix(e.Type(), "atmostonce.")
	}
	return false
}

// sqlOpen reports whether a database says by its SQLSTATE that the connection
// failed, that a statement's completion is unknown, or that it shut down.
func sqlOpen(err error) bool {
	e, ok := err.(interface{ SQLState() string })
	if !ok {
		return false
	}
	state := e.SQLState()
	return state == "40003" || len(state) == 5 && (strings.HasPrefix(state, "08") || strings.HasPrefix(state, "57P"))
}

// openByAnswer reports whether an answer leaves open what became of the request.
func (b branch) openByAnswer(err error) bool {
	switch status := httpStatus(err); status {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	default: // with 2xx it was done, and something else failed
		if status/100 == 2 || status >= http.StatusInternalServerError {
			return true
		}
	}
	switch says(err, "ErrorFault") { // whose fault it is, of the clients of AWS
	case "server":
		return true
	case "unknown": // for an error that the client has no type for
		return !b.answered
	}
	return false
}

// httpStatus returns the status of the answer that err is about; 0 if there is
// none.
func httpStatus(err error) int {
	switch e := err.(type) { //nolint:errorlint // one step at a time
	case interface{ StatusCode() int }:
		return e.StatusCode()
	case interface{ HTTPStatusCode() int }:
		return e.HTTPStatusCode()
	}
	v := reflect.Indirect(reflect.ValueOf(err))
	if v.Kind() != reflect.Struct {
		return 0
	}
	names := []string{"StatusCode", "HTTPStatusCode"}
	if h, ok := v.Type().FieldByName("Header"); ok && h.Type == reflect.TypeFor[http.Header]() {
		names = append(names, "Code") // of Google's clients; by itself the word says little
	}
	for _, name := range names {
		if f, ok := v.Type().FieldByName(name); ok && f.IsExported() && f.Type.Kind() == reflect.Int {
			return int(v.FieldByIndex(f.Index).Int())
		}
	}
	if f := v.FieldByName("Response"); f.IsValid() && f.CanInterface() {
		if r, ok := f.Interface().(*http.Response); ok && r != nil {
			return r.StatusCode
		}
	}
	return 0
}

// openCodes are those of gRPC that leave execution open.
var openCodes = []string{
	"canceled", "unknown", "deadlineexceeded", "resourceexhausted", "aborted", "internal", "unavailable", "dataloss",
}

// codeOf returns the gRPC code of the error of another client that uses them, in
// lower case and without underscores.
func codeOf(err error) string { return strings.ReplaceAll(strings.ToLower(says(err, "Code")), "_", "") }

// says returns the word for a value of an enumeration that a method without
// parameters returns; "" if there is no such method.
func says(err error, method string) string {
	var m reflect.Value
	switch v := reflect.ValueOf(err); method {
	case "Code": // a constant name lets the linker drop other methods
		m = v.MethodByName("Code")
	case "ErrorFault":
		m = v.MethodByName("ErrorFault")
	}
	if !m.IsValid() || m.Type().NumIn() != 0 || m.Type().NumOut() != 1 {
		return ""
	}
	switch out := m.Type().Out(0); {
	case out.PkgPath() == "": // a plain number or text is any code
		return ""
	case out.Implements(reflect.TypeFor[fmt.Stringer]()) && out.Kind() >= reflect.Int && out.Kind() <= reflect.Uint64:
		return m.Call(nil)[0].Interface().(fmt.Stringer).String()
	case out.Kind() == reflect.String:
		return m.Call(nil)[0].String()
	}
	return ""
}

// isCanceled recognises a request that the clients of AWS have given up.
func isCanceled(err error) bool {
	e, ok := err.(interface{ CanceledError() bool })
	return ok && e.CanceledError()
}

// isOpenType recognises workflows and activities that did not answer, HTTP/2 streams and connections that ended, of net/http
// and of the package that it is made from, and answers of AWS that were not
// understood. An end by GOAWAY is recognised by its text.
func isOpenType(err error) bool {
	t := reflect.TypeOf(err)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	from, name := t.PkgPath(), strings.TrimPrefix(t.Name(), "http2")
	switch name {
	case "StreamError", "ConnectionError":
		return strings.HasPrefix(from, "net/http") || strings.HasSuffix(from, "golang.org/x/net/http2")
	case "TimeoutError", "CanceledError", "TerminatedError", "PanicError": // of what a client of Temporal has started
		return strings.HasPrefix(from, "go.temporal.io/sdk/")
	case "DeserializationError":
		snapshot := reflect.Indirect(reflect.ValueOf(err)).FieldByName("Snapshot")
		return snapshot.IsValid() && snapshot.Type() == reflect.TypeFor[[]byte]()
	}
	return false
}

// isOpenText recognises errors of connections that have neither a type nor a
// name: of HTTP/2, of a Transport that is used without a Client, of net/http in the
// middle of an answer, of net/rpc and of the MySQL driver. The texts of the last
// ones must match whole: others begin alike, about a connection string say.
func isOpenText(err error) bool {
	switch text := err.Error(); text {
	case "http: unexpected EOF reading trailer", "malformed chunked encoding", "invalid byte in chunk length",
		"connection is shut down", "invalid connection":
		return true
	default:
		return strings.HasPrefix(text, "http2: ") || strings.HasPrefix(text, "net/http: HTTP/1.x transport connection broken")
	}
}

// killed reports whether a child did not end by itself. A shell reports that of its
// own child as 128 and the signal.
func killed(e *exec.ExitError) bool {
	const shell, signals = 128, 31
	code := e.ExitCode()
	return code < 0 || code > shell && code <= shell+signals
}
