package interceptor_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/rpc"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/atmostonce/atmostonce"
	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/store"
)

// kindOfFailure is a row of docs/failures.md: what an activity returns, and why
// the guard takes it as it does.
type kindOfFailure struct {
	what, why string
	cases     map[string]failureOf
}

// failureOf is the body of an activity that fails.
type failureOf = func(t *testing.T, ctx context.Context) error

func returns(err error) failureOf {
	return func(*testing.T, context.Context) error { return err }
}

func each(errs ...error) map[string]failureOf {
	cases := map[string]failureOf{}
	for i, err := range errs {
		cases[fmt.Sprintf("%d %T", i, err)] = returns(err)
	}
	return cases
}

var errDeclined = errors.New("declined")

var inDoubtFailures = []kindOfFailure{
	{"`once.MaybeDone(err)`, alone or as a branch of a tree", "you said so", each(
		once.MaybeDone(errDeclined), errors.Join(errDeclined, once.MaybeDone(errDeclined)),
		fmt.Errorf("charge: %w", once.MaybeDone(once.NotDone(errDeclined))), errors.Join(once.NotDone(errDeclined), once.MaybeDone(errDeclined)),
	)},
	{"any error after `once.Begin(ctx)`", "you said so", map[string]failureOf{
		"plain": func(_ *testing.T, ctx context.Context) error { once.Begin(ctx); return errDeclined },
		"of net/http": func(t *testing.T, ctx context.Context) error {
			once.Begin(ctx)
			return post(ctx, http.DefaultClient, "http://"+nobody(t))
		},
	}},
	{"any error of a body that has a [step](steps.md) in doubt, or one that still runs", "the error is not about that step", map[string]failureOf{
		"plain": func(t *testing.T, ctx context.Context) error {
			_, err := atmostonce.Step(ctx, "charge", func(context.Context) (int, error) { return 0, once.MaybeDone(errDeclined) })
			require.ErrorIs(t, err, errDeclined)
			return errDeclined
		},
		"of another step": func(t *testing.T, ctx context.Context) error {
			_, _ = atmostonce.Step(ctx, "charge", func(context.Context) (int, error) { return 0, context.DeadlineExceeded })
			_, err := atmostonce.Step(ctx, "ship", func(context.Context) (int, error) { return 0, once.NotDone(errDeclined) })
			require.ErrorIs(t, err, errDeclined)
			return err
		},
	}},
	{"any error after the attempt's context has ended", "the attempt was given up, the request perhaps not", map[string]failureOf{
		"plain": func(_ *testing.T, ctx context.Context) error {
			ctx.Value(end{}).(context.CancelFunc)()
			return errDeclined
		},
		"proven otherwise": func(t *testing.T, ctx context.Context) error {
			err := post(ctx, http.DefaultClient, "http://"+nobody(t))
			ctx.Value(end{}).(context.CancelFunc)()
			return err
		},
	}},
	{"`context.Canceled`, `context.DeadlineExceeded`, and what Temporal makes of them", "a call was given up", each(
		context.Canceled, fmt.Errorf("charge: %w", context.DeadlineExceeded), temporal.NewCanceledError(),
		fmt.Errorf("waiting: %w", temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_START_TO_CLOSE, nil)),
		&temporal.TerminatedError{}, &temporal.PanicError{}, isLate{},
	)},
	{"an error of which the guard says `InDoubt` or the like, of another activity or a guarded function", "its effect is part of this one's", each(
		temporal.NewApplicationError("in doubt", string(once.InDoubt)), temporal.NewApplicationError("in flight", string(once.InFlight)),
		&atmostonce.Error{Refusal: once.Refusal{Reason: once.InDoubt}}, fmt.Errorf("pay: %w", &atmostonce.Error{Refusal: once.Refusal{Reason: once.InFlight}}),
	)},
	{"whatever has a `Timeout() bool` that is true", "no answer came in time", each(
		os.ErrDeadlineExceeded, fmt.Errorf("charge: %w", timeout(true)), syscall.EAGAIN, context.DeadlineExceeded,
	)},
	{"a connection that broke: `io.EOF`, `io.ErrUnexpectedEOF`, `io.ErrClosedPipe`, `io.ErrShortWrite`, `net.ErrClosed`, `rpc.ErrShutdown`, and the system's " +
		"ECONNRESET, ECONNABORTED, EPIPE, ENETRESET, ENOTCONN, ESHUTDOWN, ETIMEDOUT", "what was sent has perhaps arrived", each(
		io.EOF, fmt.Errorf("read: %w", io.ErrUnexpectedEOF), io.ErrClosedPipe, io.ErrShortWrite, net.ErrClosed, isClosed{}, rpc.ErrShutdown,
		syscall.ECONNRESET, syscall.ECONNABORTED, os.NewSyscallError("write", syscall.EPIPE), syscall.ENETRESET, syscall.ENOTCONN,
		syscall.ESHUTDOWN, &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)},
		temporal.NewApplicationErrorWithCause("x", "X", syscall.ECONNRESET), temporal.NewNonRetryableApplicationError("x", "X", io.EOF),
	)},
	{"a connection that was not to be had, without evidence: `*net.OpError`, `*net.DNSError`, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, " +
		"EHOSTDOWN, ENETDOWN, errors of `crypto/tls` and `crypto/x509`", "it was the last try, of perhaps several", map[string]failureOf{
		"refused": func(t *testing.T, _ context.Context) error { return dial(t.Context(), nobody(t)) },
		// The trace sees it, but no net/http that speaks of its tries.
		"refused, with the context": func(t *testing.T, ctx context.Context) error { return dial(ctx, nobody(t)) },
		"no such host":              returns(&net.DNSError{Err: "no such host", IsNotFound: true}),
		"certificate":               returns(x509.HostnameError{Host: "provider", Certificate: &x509.Certificate{}}),
		"TLS certificate":           returns(&tls.CertificateVerificationError{Err: errDeclined}),
		"TLS header":                returns(tls.RecordHeaderError{Msg: "no TLS"}),
		"TLS alert":                 returns(tls.AlertError(40)),
		"TLS hello":                 returns(&tls.ECHRejectionError{}),
		"old certificate":           returns(x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.Expired}),
		"no roots":                  returns(x509.SystemRootsError{}),
		"authority":                 returns(fmt.Errorf("handshake: %w", x509.UnknownAuthorityError{})),
		"errno":                     returns(syscall.ECONNREFUSED), "host": returns(syscall.EHOSTUNREACH), "host down": returns(syscall.EHOSTDOWN),
		"net": returns(syscall.ENETUNREACH), "net down": returns(syscall.ENETDOWN),
	}},
	{"an error of net/http (`*url.Error`), without evidence", "the request was perhaps sent", openRequests},
	{"HTTP/2: a stream or connection that ended, GOAWAY", "the request was perhaps handled", map[string]failureOf{
		"no answer": func(t *testing.T, ctx context.Context) error { return postTo(ctx, aborting(t, false)) },
		"no whole answer": func(t *testing.T, ctx context.Context) error {
			err := postTo(ctx, aborting(t, true))
			require.NotErrorAs(t, err, new(*url.Error), "nothing but the stream's error")
			return err
		},
		"golang.org/x/net, stream":     returns(http2.StreamError{StreamID: 1, Code: http2.ErrCodeInternal}),
		"golang.org/x/net, connection": returns(http2.ConnectionError(http2.ErrCodeProtocol)),
		"golang.org/x/net, going away": returns(&http2.GoAwayError{ErrCode: http2.ErrCodeEnhanceYourCalm}),
		"without a type":               returns(errors.New("http2: client connection lost")),
	}},
	{"HTTP status 2xx, 408, 409, 425, 429 or 5xx: by a method `StatusCode() int` or `HTTPStatusCode() int`, a field of that name, `Response *http.Response`, or `Code int` beside `Header http.Header`",
		"the answer does not exclude it", each(
			statusMethod(202), &responseField{&http.Response{StatusCode: 200}}, statusMethod(408), statusMethod(409), statusMethod(425), fmt.Errorf("charge: %w", statusMethod(429)), statusMethod(500), statusMethod(599),
			awsStatus{503, errDeclined}, &statusField{StatusCode: 502}, statusFieldToo{HTTPStatusCode: 409}, &statusAndHeader{Code: 503},
			&responseField{&http.Response{StatusCode: 500}}, &statusPromoted{&http.Response{StatusCode: 500}}, errors.Join(statusMethod(400), statusMethod(500)),
		)},
	{"gRPC status, unless InvalidArgument, NotFound, AlreadyExists, PermissionDenied, Unauthenticated, FailedPrecondition, OutOfRange or Unimplemented; " +
		"of Temporal's own client too", "the code does not exclude it", map[string]failureOf{
		"Unavailable":      returns(status.Error(codes.Unavailable, "x")),
		"Internal":         returns(fmt.Errorf("charge: %w", status.Error(codes.Internal, "x"))),
		"of a server":      func(t *testing.T, ctx context.Context) error { return invoke(ctx, t, codes.Aborted) },
		"of no server":     func(t *testing.T, ctx context.Context) error { return invokeAt(ctx, nobody(t)) },
		"of Temporal":      returns(serviceerror.NewUnavailable("x")),
		"and a clean one":  returns(errors.Join(status.Error(codes.NotFound, "x"), status.Error(codes.Unknown, "x"))),
		"with open causes": returns(&caused{status.Error(codes.NotFound, "x"), io.EOF}),
	}},
	{"a code in gRPC's words of another client, such as connect or twirp: unavailable, unknown, internal, …", "likewise", each(
		connectError{14}, connectError{2}, fmt.Errorf("charge: %w", connectError{1}), twirpError("deadline_exceeded"), twirpError("data_loss"),
	)},
	{"a fault of the server, a request canceled or not sent, an answer not understood, of the AWS clients (smithy)", "the request was perhaps handled", each(
		apiError(1), apiError(0), sendError{errDeclined}, canceledError{}, &DeserializationError{Err: errDeclined},
		fmt.Errorf("operation: %w", awsStatus{500, apiError(2)}),
	)},
	{"SQLSTATE 08xxx, 40003 or 57Pxx, `driver.ErrBadConn`, `sql.ErrConnDone`, `sql.ErrTxDone`, the MySQL driver's `invalid connection`",
		"the statement, or the commit, perhaps took effect", each(
			sqlError("08006"), sqlError("40003"), fmt.Errorf("commit: %w", sqlError("57P01")), driver.ErrBadConn, sql.ErrConnDone, sql.ErrTxDone,
			errors.New("invalid connection"), fmt.Errorf("begin: %w", errors.New("invalid connection")),
		)},
	{"a child that was killed: `*exec.ExitError` without an exit code, or with a shell's 129–159; `exec.ErrWaitDelay`", "it did not get to say what it did",
		map[string]failureOf{
			"killed":             func(t *testing.T, ctx context.Context) error { return sh(ctx, "kill -9 $$") },
			"killed, by a shell": func(t *testing.T, ctx context.Context) error { return sh(ctx, "sh -c 'kill -9 $$'; exit $?") },
			"wait delay":         returns(exec.ErrWaitDelay),
			"no state":           returns(&exec.ExitError{}),
		}},
	{"an error that panics when it is asked", "it says nothing", each(
		fmt.Errorf("charge: %w", (*nilStatus)(nil)), &statusPromoted{},
	)},
	{"a tree (`errors.Join`, several `%w`) of which any branch is one of these", "one of the things that failed may have had the effect", each(
		errors.Join(errDeclined, io.ErrUnexpectedEOF), fmt.Errorf("%w, then %w", status.Error(codes.InvalidArgument, "x"), syscall.ECONNRESET),
		errors.Join(once.NotDone(errDeclined), io.EOF), fmt.Errorf("all: %w", errors.Join(errDeclined, errors.Join(errDeclined, statusMethod(500)))),
		listed{statusMethod(500)}, fmt.Errorf("all: %w", listed{errDeclined, status.Error(codes.Unavailable, "x"), errDeclined}),
		listed{errDeclined, sqlError("08006")}, listed{once.NotDone(io.EOF), io.EOF}, listed{once.NotDone(errDeclined), once.MaybeDone(errDeclined)},
	)},
}

var provenFailures = []kindOfFailure{
	{"`once.NotDone(err)`; of a tree, each branch", "you said so, whatever `err` is", each(
		once.NotDone(syscall.ECONNRESET), fmt.Errorf("charge: %w", once.NotDone(io.EOF)), errors.Join(once.NotDone(io.EOF), once.NotDone(statusMethod(500))),
		errors.Join(once.NotDone(errors.Join(io.EOF, once.MaybeDone(io.EOF))), errDeclined),
		listed{once.NotDone(io.EOF)}, listed{once.NotDone(io.EOF), once.NotDone(statusMethod(500))}, itself{once.NotDone(io.EOF)},
	)},
	{"a connection that net/http did not get: refused, no such host, no TLS", "the request was made with the activity's context, so a trace in it saw this very failure, " +
		"and saw no request of this attempt written", refusedRequests},
	{"a request that net/http refuses to send: `unsupported protocol scheme`, `no Host in request URL`, `invalid method`, `invalid header field`, `invalid trailer`",
		"likewise: the trace was asked for, and saw no request of this attempt written", unsentRequests},
	{"a URL that cannot be parsed", "it is never sent", each(
		&url.Error{Op: "parse", URL: ":", Err: errors.New("missing protocol scheme")},
	)},
	{"gRPC status, or a code in its words, that is not among those above", "the code excludes it", map[string]failureOf{
		"InvalidArgument": returns(status.Error(codes.InvalidArgument, "x")),
		"NotFound":        returns(fmt.Errorf("charge: %w", status.Error(codes.NotFound, "x"))),
		"of a server":     func(t *testing.T, ctx context.Context) error { return invoke(ctx, t, codes.FailedPrecondition) },
		"of Temporal":     returns(serviceerror.NewNotFound("x")),
		"connect":         returns(connectError{3}), "twirp": returns(twirpError("permission_denied")),
		"all of a tree": returns(errors.Join(status.Error(codes.NotFound, "x"), connectError{5})),
	}},
	{"any other HTTP status, SQLSTATE or exit code; a child that was not started", "the callee has answered, and said no", map[string]failureOf{
		"method": returns(statusMethod(402)), "moved": returns(statusMethod(302)), "none": returns(statusMethod(0)), "field": returns(&statusField{StatusCode: 404}), "field too": returns(statusFieldToo{HTTPStatusCode: 400}), "with header": returns(&statusAndHeader{Code: 404}), "code alone": returns(&codeAlone{Code: 503}),
		"response": returns(&responseField{&http.Response{StatusCode: 422}}), "no response": returns(&responseField{}), "aws": returns(awsStatus{400, apiError(0)}),
		"client's fault": returns(apiError(2)), "sent": returns(notCanceled{}), "unique": returns(sqlError("23505")), "serialization": returns(sqlError("40001")),
		"exit":      func(t *testing.T, ctx context.Context) error { return sh(ctx, "exit 3") },
		"last exit": func(t *testing.T, ctx context.Context) error { return sh(ctx, "exit 255") },
		"not started": func(t *testing.T, ctx context.Context) error {
			return exec.CommandContext(ctx, "/nowhere/at-all").Run()
		},
	}},
}

var believedFailures = []kindOfFailure{
	{"`errors.New`, Temporal's `ApplicationError`, your own types, without any of the above", "", each(
		errDeclined, temporal.NewApplicationError("declined", "Declined"), &json.SyntaxError{}, &net.ParseError{Type: "IP address", Text: "x"},
		timeout(false), errors.Join(errDeclined, errDeclined), errors.Join(errDeclined, once.NotDone(io.EOF)),
		listed{errDeclined, statusMethod(404)}, itself{errDeclined},
		errors.New("invalid connection string: no host"), errors.New("connection is shut down on Sundays"),
	)},
	{"an error of which only the text is left, as `%v` and `err.Error()` make it", "`%w` keeps it", each(
		fmt.Errorf("charge: %v", io.ErrUnexpectedEOF), //nolint:errorlint // what is not recognised
		errors.New("dial tcp 127.0.0.1:1: connect: connection refused"),
	)},
	{"an error of a client that has its own types and none of the methods and fields above", "for a message broker, say, an answer that cannot be decoded, or a status in a field of another name", each(
		errors.New("nats: timeout"), errors.New("invalid connection string"), codeField{503}, errors.New("invalid character '<' looking for beginning of value"),
	)},
	{"a method of such a name with another signature", "it is another method", each(
		codeOfText("unavailable"), codeOfNumber(14), otherSignatures{}, codeOfUnknownWord(1),
	)},
}

func TestFailures_AreTakenAsTheDocsSay(t *testing.T) {
	t.Parallel()
	for doubt, groups := range map[bool][][]kindOfFailure{
		true: {inDoubtFailures}, false: {provenFailures, believedFailures},
	} {
		for _, kinds := range groups {
			for _, kind := range kinds {
				for name, fail := range kind.cases {
					t.Run(kind.what+"/"+name, func(t *testing.T) {
						t.Parallel()
						judged(t, once.Policy{}, fail, doubt)
						judged(t, once.Policy{OnFailure: once.Lock}, fail, doubt)
					})
				}
			}
		}
	}
}

// end is the key of what ends the context of the activity.
type end struct{}

// judged asserts how the guard takes a failure, in both modes that record it.
func judged(t *testing.T, p once.Policy, fail failureOf, doubt bool) {
	t.Helper()
	for _, mode := range []once.Mode{once.Enforce, once.Observe} {
		s := memory()
		o := options(once.Mark(p, "ChargeCard"))
		o.Mode = func(string) once.Mode { return mode }
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		env := environment(t)
		env.SetWorkerOptions(worker.Options{
			Plugins:                   []worker.Plugin{newGuard(t, s, o)},
			BackgroundActivityContext: context.WithValue(ctx, end{}, cancel),
		})
		var returned error
		env.RegisterActivityWithOptions(func(ctx context.Context, _ charge) (receipt, error) {
			returned = fail(t, ctx)
			return receipt{}, returned
		}, sdkactivity.RegisterOptions{Name: "ChargeCard"})
		_, err := env.ExecuteActivity("ChargeCard", order(7))
		require.Error(t, err)
		require.Error(t, returned)
		if mode == once.Enforce {
			require.Equal(t, doubt, once.MayHaveHappened(err), "%v", returned)
			require.Equal(t, doubt, once.Is(err, once.InDoubt), "%v", err)
		}
		want := []store.State{store.InDoubt}
		if !doubt {
			want = []store.State{store.Tombstone, store.Failed}
		}
		_, call := stepOf(t, s, "")
		require.Contains(t, want, call.State, "%T: %v", returned, returned)
	}
}

// tableOf is a table below a comment with its name.
func tableOf(name, header string, kinds []kindOfFailure) string {
	columns := strings.Count(header, "|") - 1
	lines := []string{"<!-- table: " + name + " -->", header, "|" + strings.Repeat("---|", columns)}
	for _, k := range kinds {
		line := "| " + k.what + " | " + k.why + " |"
		lines = append(lines, strings.ReplaceAll(line, "|  |", "| |"))
	}
	return strings.Join(lines, "\n") + "\n"
}

func TestDocs_ListTheFailures(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "docs", "failures.md")
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	now := string(page)
	for _, table := range []string{
		tableOf("in doubt", "| what the activity returns | why |", inDoubtFailures),
		tableOf("clean", "| what the activity returns | on which evidence |", provenFailures),
		tableOf("believed", "| what the activity returns | note |", believedFailures),
	} {
		mark, _, _ := strings.Cut(table, "\n")
		before, rest, found := strings.Cut(now, mark+"\n")
		require.True(t, found, "docs/failures.md has no place %q", mark)
		_, after, _ := strings.Cut(rest, "\n\n")
		now = before + table + "\n" + after
	}
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(now), 0o644))
		return
	}
	require.Equal(t, string(page), now, "docs/failures.md is not up to date; to write it anew: go test ./interceptor -run TestDocs -update")
}

func dial(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err == nil {
		_ = conn.Close()
	}
	return err
}

func sh(ctx context.Context, script string) error {
	return exec.CommandContext(ctx, "sh", "-c", script).Run()
}

// invoke calls a real server, which answers with that code.
func invoke(ctx context.Context, t *testing.T, code codes.Code) error {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return status.Error(code, "no") }))
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return invokeAt(ctx, l.Addr().String())
}

func invokeAt(ctx context.Context, address string) error {
	c, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return c.Invoke(ctx, "/payments/charge", &emptypb.Empty{}, &emptypb.Empty{})
}
