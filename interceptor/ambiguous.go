package interceptor

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/url"
	"syscall"

	"go.temporal.io/sdk/temporal"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ambiguous reports whether err leaves open that the effect took place: a
// request may have been sent, and no answer says that it was refused.
func ambiguous(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	// Of another workflow or activity that the body has waited for, too.
	canceled, timedOut, terminated := (*temporal.CanceledError)(nil), (*temporal.TimeoutError)(nil), (*temporal.TerminatedError)(nil)
	if errors.As(err, &canceled) || errors.As(err, &timedOut) || errors.As(err, &terminated) {
		return true
	}
	if s := (interface{ GRPCStatus() *status.Status })(nil); errors.As(err, &s) {
		return !neverExecuted(s.GRPCStatus().Code())
	}
	if s := (interface{ Status() *status.Status })(nil); errors.As(err, &s) { // of Temporal's own client
		return !neverExecuted(s.Status().Code())
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op.Op != "dial" // without a connection, nothing was sent
	}
	if timeout := (interface{ Timeout() bool })(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return true
	}
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED} {
		if errors.Is(err, broken) {
			return true
		}
	}
	// An HTTP client wraps whatever kept it from an answer: a malformed
	// response, a connection that the server closed, GOAWAY.
	request, cert := (*url.Error)(nil), (*tls.CertificateVerificationError)(nil)
	return errors.As(err, &request) && request.Op != "parse" && !errors.As(err, &cert)
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
