package interceptor_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Errors as drivers and clients have them.

type timeout bool

func (timeout) Error() string   { return "too late" }
func (e timeout) Timeout() bool { return bool(e) }

type isLate struct{}

func (isLate) Error() string        { return "the callee was slow" }
func (isLate) Is(target error) bool { return target == context.DeadlineExceeded }

type isClosed struct{}

func (isClosed) Error() string        { return "the session is gone" }
func (isClosed) Is(target error) bool { return target == net.ErrClosed }

type statusMethod int

func (e statusMethod) Error() string   { return http.StatusText(int(e)) }
func (e statusMethod) StatusCode() int { return int(e) }

type awsStatus struct {
	code int
	err  error
}

func (e awsStatus) Error() string       { return e.err.Error() }
func (e awsStatus) Unwrap() error       { return e.err }
func (e awsStatus) HTTPStatusCode() int { return e.code }

type statusField struct{ StatusCode int }

func (*statusField) Error() string { return "refused" }

type statusAndHeader struct {
	Code   int
	Header http.Header
}

func (*statusAndHeader) Error() string { return "refused" }

type codeAlone struct{ Code int }

func (*codeAlone) Error() string { return "refused" }

type statusFieldToo struct{ HTTPStatusCode int }

func (statusFieldToo) Error() string { return "refused" }

type responseField struct{ Response *http.Response }

func (*responseField) Error() string { return "refused" }

type statusPromoted struct{ *http.Response }

func (*statusPromoted) Error() string { return "refused" }

// caused is a status that wraps more.
type caused struct{ status, cause error }

func (e *caused) Error() string              { return e.status.Error() }
func (e *caused) Unwrap() error              { return e.cause }
func (e *caused) GRPCStatus() *status.Status { return status.Convert(e.status) }

type connectCode uint32

func (c connectCode) String() string { return strings.ToLower(codes.Code(c).String()) }

type connectError struct{ code connectCode }

func (e connectError) Error() string     { return e.code.String() }
func (e connectError) Code() connectCode { return e.code }

type twirpCode string

type twirpError twirpCode

func (e twirpError) Error() string   { return string(e) }
func (e twirpError) Code() twirpCode { return twirpCode(e) }

type faultOf int

func (f faultOf) String() string { return []string{"unknown", "server", "client"}[f] }

type apiError int

func (e apiError) Error() string       { return "api error" }
func (e apiError) ErrorFault() faultOf { return faultOf(e) }

type sendError struct{ err error }

func (e sendError) Error() string         { return e.err.Error() }
func (e sendError) Unwrap() error         { return e.err }
func (e sendError) ConnectionError() bool { return true }

type canceledError struct{}

func (canceledError) Error() string       { return "canceled" }
func (canceledError) CanceledError() bool { return true }

type notCanceled struct{}

func (notCanceled) Error() string         { return "refused" }
func (notCanceled) CanceledError() bool   { return false }
func (notCanceled) ConnectionError() bool { return false }

// DeserializationError has a name that is not our choice.
type DeserializationError struct {
	Err      error
	Snapshot []byte
}

func (e *DeserializationError) Error() string { return e.Err.Error() }
func (e *DeserializationError) Unwrap() error { return e.Err }

type sqlError string

func (e sqlError) Error() string    { return string(e) }
func (e sqlError) SQLState() string { return string(e) }

type nilStatus struct{ code int }

func (*nilStatus) Error() string     { return "refused" }
func (e *nilStatus) StatusCode() int { return e.code }

// Errors that have methods of these names by chance.

type codeField struct{ Code int }

func (codeField) Error() string { return "refused" }

type codeOfText string

func (e codeOfText) Error() string { return string(e) }
func (e codeOfText) Code() string  { return string(e) }

type codeOfNumber uint32

func (e codeOfNumber) Error() string { return "refused" }
func (e codeOfNumber) Code() uint32  { return uint32(e) }

type otherSignatures struct{}

func (otherSignatures) Error() string                { return "refused" }
func (otherSignatures) Code(int) twirpCode           { return "unavailable" }
func (otherSignatures) StatusCode() (int, error)     { return 500, nil }
func (otherSignatures) HTTPStatusCode() string       { return "500" }
func (otherSignatures) SQLState() []byte             { return []byte("08006") }
func (otherSignatures) Timeout(context.Context) bool { return true }
func (otherSignatures) ErrorFault() string           { return "server" }
func (otherSignatures) ConnectionError() error       { return nil }

type colour uint32

func (colour) String() string { return "red" }

type codeOfUnknownWord uint32

func (e codeOfUnknownWord) Error() string { return "refused" }
func (e codeOfUnknownWord) Code() colour  { return colour(e) }

// listed is a list that shows its first error by As and Is alone, and the others as
// what it wraps.
type listed []error

func (e listed) Error() string        { return fmt.Sprint([]error(e)) }
func (e listed) As(target any) bool   { return errors.As(e[0], target) }
func (e listed) Is(target error) bool { return errors.Is(e[0], target) }

func (e listed) Unwrap() error {
	if len(e) == 1 {
		return nil
	}
	return e[1:]
}

// itself gives itself to whoever asks for any error.
type itself struct{ error }

func (e itself) Unwrap() error { return e.error }

func (e itself) As(target any) bool {
	t, ok := target.(*error)
	if ok {
		*t = e
	}
	return ok
}
