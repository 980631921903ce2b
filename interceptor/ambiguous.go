package interceptor

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

	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	once "github.com/atmostonce/atmostonce/activity"
)

// leavesOpen reports whether err leaves open that the effect took place: a
// request may have been sent, and no answer says that it was refused. Of a tree
// of errors every branch must exclude it.
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
	unproven bool // so was an error of a connection: the last try's, of who knows how many
	answered bool // so was the status of an HTTP answer
}

func (b branch) leavesOpen(err error) bool {
	if verdict, said := once.Unlock.Decide(err); said {
		return verdict == once.Doubt
	}
	if b.http && b.neverConnected(err) {
		return false
	}
	if isOpen(err) || b.openByAnswer(err) {
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
	context.Canceled, context.DeadlineExceeded, sdkactivity.ErrResultPending, exec.ErrWaitDelay,
	io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, io.ErrShortWrite, net.ErrClosed,
	driver.ErrBadConn, sql.ErrConnDone, sql.ErrTxDone,
	syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, syscall.ENETRESET, syscall.ENOTCONN, syscall.ESHUTDOWN,
	syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN,
}

// isOpen reports whether err, whatever it wraps, says that nobody knows.
func isOpen(err error) bool {
	is, _ := err.(interface{ Is(error) bool })
	if slices.ContainsFunc(openErrors, func(o error) bool { return err == o || is != nil && is.Is(o) }) { //nolint:errorlint // one step at a time
		return true
	}
	switch e := err.(type) { //nolint:errorlint // one step at a time
	case *temporal.CanceledError, *temporal.TimeoutError, *temporal.TerminatedError, *temporal.PanicError:
		return true // of another workflow or activity that the body has waited for, too
	case *temporal.ApplicationError: // another activity's, likewise
		_, guarded := once.Why(e)
		return guarded && once.MayHaveHappened(e)
	case *exec.ExitError:
		return killed(e)
	case interface{ GRPCStatus() *status.Status }:
		return !neverExecuted(e.GRPCStatus().Code())
	case interface{ Status() *status.Status }: // of Temporal's own client
		return !neverExecuted(e.Status().Code())
	}
	return sqlOpen(err) || isCanceled(err) || isOpenType(err) || isOpenText(err)
}

// isOfConnection reports whether err says that a connection, or an answer in
// time, was not to be had.
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

// neverExecuted reports whether a gRPC status excludes that the call did
// anything. https://grpc.io/docs/guides/status-codes/
func neverExecuted(c codes.Code) bool {
	switch c {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
		codes.Unauthenticated, codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented:
		return true
	}
	return false
}
