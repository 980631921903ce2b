package engine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"io"
	"net"
	"net/url"
	"os/exec"
	"reflect"
	"slices"
	"syscall"

	"github.com/atmostonce/atmostonce/once"
)

// leavesOpen reports whether err leaves open if the effect took place: a request
// may have been sent, and no answer says that it was refused. In a tree of errors
// every branch must exclude it.
func (e *evidence) leavesOpen(err error) (open bool) {
	defer func() {
		if recover() != nil { // a method of somebody's nil pointer, say
			open = true
		}
	}()
	return branch{evidence: e}.leavesOpen(err)
}

// branch is the way from the error that the activity returned down to one that
// it wraps.
type branch struct {
	*evidence
	http     bool // net/http was on the way
	unproven bool // so was an error of a connection, of the last try: there may have been others
	answered bool // so was the status of an HTTP answer
}

func (b branch) leavesOpen(err error) bool {
	if verdict, said := once.Unlock.Decide(err); said {
		return verdict == once.Doubt
	}
	if b.http && b.neverConnected(err) || b.steps.isRefusal(err) {
		return false
	}
	if b.isOpen(err) || b.openByAnswer(err) {
		return true
	}
	if request, ok := err.(*url.Error); ok && request.Op != "parse" { //nolint:errorlint // its own branch only
		b.http, b.unproven = true, true
	}
	b.unproven = b.unproven || isOfConnection(err)
	b.answered = b.answered || httpStatus(err) != 0
	if causes := unwrap(err); len(causes) > 0 {
		return slices.ContainsFunc(causes, b.leavesOpen)
	}
	return b.unproven && !b.neverTried(err)
}

// unwrap returns what err wraps. Some lists of errors show each of theirs by an As
// method alone; an error that gives itself is not one of those.
func unwrap(err error) []error {
	var causes []error
	if e, ok := err.(interface{ As(any) bool }); ok {
		var cause error
		if e.As(&cause) && reflect.TypeOf(cause) != reflect.TypeOf(err) {
			causes = append(causes, cause)
		}
	}
	switch e := err.(type) { //nolint:errorlint // one step at a time
	case interface{ Unwrap() []error }:
		causes = append(causes, e.Unwrap()...)
	case interface{ Unwrap() error }:
		causes = append(causes, e.Unwrap())
	}
	return slices.DeleteFunc(causes, func(err error) bool { return err == nil })
}

// openErrors are those after which nobody knows: of a call that was given up, or
// of a connection that was there and is gone.
var openErrors = []error{
	context.Canceled, context.DeadlineExceeded, exec.ErrWaitDelay,
	io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, io.ErrShortWrite, net.ErrClosed,
	driver.ErrBadConn, sql.ErrConnDone, sql.ErrTxDone,
	syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, syscall.ENETRESET, syscall.ENOTCONN, syscall.ESHUTDOWN,
	syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN,
}

// isOpen reports whether err, whatever it wraps, says that nobody knows.
func (e *evidence) isOpen(err error) bool {
	is, _ := err.(interface{ Is(error) bool })
	if slices.ContainsFunc(openErrors, func(o error) bool { return err == o || is != nil && is.Is(o) }) { //nolint:errorlint // one step at a time
		return true
	}
	if open, known := e.says(err); known {
		return open
	}
	if isOpenRefusal(err) {
		return true
	}
	if x, ok := err.(*exec.ExitError); ok { //nolint:errorlint // one step at a time
		return killed(x)
	}
	if code, ok := grpcCode(err); ok {
		return !neverExecuted(code)
	}
	return sqlOpen(err) || isCanceled(err) || isOpenType(err) || isOpenText(err)
}

// isOfConnection reports whether err says that there was no connection, or no
// answer in time.
func isOfConnection(err error) bool {
	switch err.(type) { //nolint:errorlint // one step at a time
	case *net.OpError, *net.DNSError, *tls.CertificateVerificationError, *tls.ECHRejectionError, tls.RecordHeaderError, tls.AlertError,
		x509.UnknownAuthorityError, x509.HostnameError, x509.CertificateInvalidError, x509.SystemRootsError:
		return true
	}
	timeout, _ := err.(interface{ Timeout() bool })
	connection, _ := err.(interface{ ConnectionError() bool })
	return timeout != nil && timeout.Timeout() || connection != nil && connection.ConnectionError() || slices.Contains(openCodes, codeOf(err))
}

// grpcCode returns the code of the gRPC status that err has; ok is false if it has
// none. A program without gRPC does not link it for this.
func grpcCode(err error) (code uint64, ok bool) {
	v := reflect.ValueOf(err)
	for _, m := range []reflect.Value{v.MethodByName("GRPCStatus"), v.MethodByName("Status")} { // Status: of Temporal's own client
		if !m.IsValid() || m.Type().NumIn() != 0 || m.Type().NumOut() != 1 {
			continue
		}
		if t := m.Type().Out(0); t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "google.golang.org/grpc/internal/status" && t.Elem().Name() == "Status" {
			return m.Call(nil)[0].MethodByName("Code").Call(nil)[0].Uint(), true
		}
	}
	return 0, false
}

// neverExecuted reports whether a gRPC status excludes that the call did
// anything. https://grpc.io/docs/guides/status-codes/
func neverExecuted(code uint64) bool {
	switch code {
	case 3, 5, 6, 7, 9, 11, 12, 16: // InvalidArgument, NotFound, AlreadyExists, PermissionDenied, FailedPrecondition, OutOfRange, Unimplemented, Unauthenticated
		return true
	}
	return false
}
