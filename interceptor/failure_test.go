package interceptor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/store"
)

func TestGuard_UnlockRunsAgainAfterAnError(t *testing.T) {
	t.Parallel()
	s, p := memory(), &payments{fail: temporal.NewApplicationError("declined", "Declined")}
	g := guarded(t, s, once.Policy{})
	_, err := execute(t, g, p.ChargeCard, order(7))
	require.ErrorContains(t, err, "declined")
	require.False(t, once.MayHaveHappened(err))
	require.Equal(t, store.Tombstone, only(t, s).State)
	p.fail = nil
	got, err := execute(t, g, p.ChargeCard, order(7))
	require.NoError(t, err)
	require.Equal(t, "r-7", got.ID)
}

func TestGuard_LockReplaysTheFailure(t *testing.T) {
	t.Parallel()
	s := memory()
	cause := temporal.NewApplicationError("insufficient funds", "Funds", "detail")
	p := &payments{fail: temporal.NewApplicationErrorWithOptions("declined", "Declined", temporal.ApplicationErrorOptions{
		Cause: cause, Details: []any{42, "x"}, Category: temporal.ApplicationErrorCategoryBenign, NextRetryDelay: time.Hour,
	})}
	g := guarded(t, s, once.Policy{OnFailure: once.Lock})
	for range 2 {
		_, err := execute(t, g, p.ChargeCard, order(7))
		app := (*temporal.ApplicationError)(nil)
		require.ErrorAs(t, err, &app)
		require.Equal(t, "declined (type: Declined, retryable: false): insufficient funds (type: Funds, retryable: true)", app.Error())
		require.True(t, app.NonRetryable())
		require.Equal(t, temporal.ApplicationErrorCategoryBenign, app.Category())
		var n int
		var x string
		require.NoError(t, app.Details(&n, &x))
		require.Equal(t, 42, n)
		require.Equal(t, "x", x)
		inner := (*temporal.ApplicationError)(nil)
		require.ErrorAs(t, app.Unwrap(), &inner)
		require.Equal(t, "Funds", inner.Type())
		require.False(t, once.MayHaveHappened(err))
		p.fail = nil // the second time it is replayed
	}
	require.Empty(t, p.charges)
	require.Equal(t, store.Failed, only(t, s).State)
}

func TestGuard_TellsAmbiguousErrorsFromClean(t *testing.T) {
	t.Parallel()
	request := func(err error) error { return &url.Error{Op: "Post", URL: "http://provider", Err: err} }
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	for name, tc := range map[string]struct {
		err   error
		doubt bool
	}{
		"connection reset":            {request(&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}), true},
		"a bare reset":                {syscall.ECONNRESET, true},
		"broken pipe":                 {fmt.Errorf("charge: %w", syscall.EPIPE), true},
		"EOF":                         {request(io.EOF), true},
		"unexpected EOF":              {io.ErrUnexpectedEOF, true},
		"no whole answer":             {request(errors.New("http: server closed idle connection")), true},
		"deadline":                    {fmt.Errorf("x: %w", context.DeadlineExceeded), true},
		"canceled":                    {context.Canceled, true},
		"Temporal's canceled":         {temporal.NewCanceledError(), true},
		"a workflow's time-out":       {fmt.Errorf("waiting: %w", temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_START_TO_CLOSE, nil)), true},
		"timeout":                     {os.ErrDeadlineExceeded, true},
		"write":                       {&net.OpError{Op: "write", Err: syscall.ENOBUFS}, true},
		"gRPC unavailable":            {status.Error(codes.Unavailable, "x"), true},
		"gRPC internal":               {status.Error(codes.Internal, "x"), true},
		"gRPC unknown":                {status.Error(codes.Unknown, "x"), true},
		"inside an application error": {temporal.NewApplicationErrorWithCause("x", "X", syscall.ECONNRESET), true},
		"non-retryable, ambiguous":    {temporal.NewNonRetryableApplicationError("x", "X", io.EOF), true},
		"refused, nobody saw it":      {request(dial), true},
		"no such host, likewise":      {request(&net.OpError{Op: "dial", Err: &net.DNSError{IsTimeout: true}}), true},
		"bad URL":                     {&url.Error{Op: "parse", URL: ":", Err: errors.New("missing scheme")}, false},
		"plain":                       {errors.New("declined"), false},
		"application error":           {temporal.NewApplicationError("declined", "Declined"), false},
		"Temporal unavailable":        {serviceerror.NewUnavailable("x"), true},
		"Temporal not found":          {serviceerror.NewNotFound("x"), false},
		"gRPC invalid":                {status.Error(codes.InvalidArgument, "x"), false},
		"gRPC not found":              {fmt.Errorf("x: %w", status.Error(codes.NotFound, "x")), false},
		"gRPC denied":                 {status.Error(codes.PermissionDenied, "x"), false},
		"said to be not done":         {once.NotDone(syscall.ECONNRESET), false},
		"said to be maybe done":       {once.MaybeDone(errors.New("declined")), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, policy := range []once.FailurePolicy{once.Unlock, once.Lock} {
				s := memory()
				_, err := execute(t, guarded(t, s, once.Policy{OnFailure: policy}), (&payments{fail: tc.err}).ChargeCard, order(7))
				require.Error(t, err)
				require.Equal(t, tc.doubt, once.MayHaveHappened(err), "%v", err)
				switch {
				case tc.doubt:
					requireReason(t, err, once.InDoubt, true)
					require.Equal(t, store.InDoubt, only(t, s).State)
				case policy == once.Lock && !errors.Is(tc.err, syscall.ECONNRESET):
					require.Equal(t, store.Failed, only(t, s).State)
				default:
					require.Equal(t, store.Tombstone, only(t, s).State)
				}
			}
		})
	}
}

func TestGuard_ClassifyHasTheLastWord(t *testing.T) {
	t.Parallel()
	classify := once.Classify(func(err error) once.FailurePolicy {
		switch {
		case errors.Is(err, syscall.ECONNRESET):
			return once.Unlock
		case err.Error() == "declined":
			return once.Lock
		}
		return once.FailurePolicy{}
	})
	for state, err := range map[store.State]error{
		store.Tombstone: syscall.ECONNRESET, store.Failed: errors.New("declined"), store.InDoubt: errors.New("what?"),
	} {
		s := memory()
		_, got := execute(t, guarded(t, s, once.Policy{OnFailure: classify}), (&payments{fail: err}).ChargeCard, order(7))
		require.Error(t, got)
		require.Equal(t, state, only(t, s).State)
	}
	s := memory()
	_, err := execute(t, guarded(t, s, once.Policy{OnFailure: once.Doubt}), (&payments{fail: errors.New("declined")}).ChargeCard, order(7))
	requireReason(t, err, once.InDoubt, true)
	require.ErrorContains(t, err, "declined", "the cause is there to read")
}

func TestGuard_PanicAndGoexitLeaveTheEffectInDoubt(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(){
		"panic":  func() { panic("at the disco") },
		"Goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := memory()
			g := guarded(t, s, once.Policy{InDoubt: once.Fail})
			done := make(chan error, 1)
			go func() {
				var err error
				defer func() { done <- err }()
				_, err = execute(t, g, func(context.Context, charge) (receipt, error) { leave(); return receipt{}, nil }, order(7))
			}()
			err := <-done
			require.Equal(t, store.InDoubt, only(t, s).State)
			if name == "panic" {
				p := (*temporal.PanicError)(nil)
				require.ErrorAs(t, err, &p)
				require.Contains(t, p.StackTrace(), "failure_test.go", "the stack of the panic itself")
				require.True(t, once.MayHaveHappened(err))
			}
		})
	}
}

func TestGuard_LockAfterATakeoverCannotSpeakForTheFirstRun(t *testing.T) {
	t.Parallel()
	s := memory()
	g := guarded(t, s, once.Policy{InDoubt: once.Rerun, OnFailure: once.Lock})
	inDoubt(t, s, g)
	_, err := execute(t, g, (&payments{fail: errors.New("declined")}).ChargeCard, order(7))
	requireReason(t, err, once.InDoubt, true)
	require.True(t, once.MayHaveHappened(err))
	require.Equal(t, store.InDoubt, only(t, s).State)
}

func TestGuard_PanicOfAClassifierLeavesTheEffectInDoubt(t *testing.T) {
	t.Parallel()
	s := memory()
	bad := once.Classify(func(error) once.FailurePolicy { panic("classifier") })
	_, err := execute(t, guarded(t, s, once.Policy{OnFailure: bad}), (&payments{fail: errors.New("x")}).ChargeCard, order(7))
	require.ErrorContains(t, err, "classifier")
	require.Equal(t, store.InDoubt, only(t, s).State)
}

func TestGuard_PanicOfAReconcileFunctionDecidesNothing(t *testing.T) {
	t.Parallel()
	s, p := memory(), &payments{}
	g := guarded(t, s, once.Policy{InDoubt: once.Reconcile(func(context.Context, charge) (receipt, error) { panic("find") })})
	inDoubt(t, s, g)
	before := only(t, s)
	_, err := execute(t, g, p.ChargeCard, order(7))
	require.ErrorContains(t, err, "find")
	require.True(t, once.MayHaveHappened(err))
	require.Empty(t, p.charges)
	require.Equal(t, before.Revision, only(t, s).Revision)
}

func TestGuard_PanicOfAModeFunctionRunsNothing(t *testing.T) {
	t.Parallel()
	s, p := memory(), &payments{}
	o := options(once.Mark(once.Policy{}, "ChargeCard"))
	o.Mode = func(string) once.Mode { panic("mode") }
	_, err := execute(t, newGuard(t, s, o), p.ChargeCard, order(7))
	require.ErrorContains(t, err, "mode")
	require.Empty(t, p.charges)
	require.Empty(t, records(t, s))
}

// Every later call gets what left the key in doubt, also one of another workflow.
func TestGuard_LaterRefusalsHaveTheFirstCause(t *testing.T) {
	t.Parallel()
	reset := temporal.NewApplicationErrorWithCause("reset by peer", "ConnReset", io.EOF, "details")
	leave := map[string]func(t *testing.T, g *interceptor.Guard){
		"an error": func(t *testing.T, g *interceptor.Guard) {
			_, err := execute(t, g, (&payments{fail: once.MaybeDone(reset)}).ChargeCard, order(7))
			require.Error(t, err)
		},
		"an end reported from outside": func(t *testing.T, g *interceptor.Guard) {
			require.NoError(t, g.Complete(t.Context(), &completions{}, pending(t, g, order(7)), nil, once.MaybeDone(reset)))
		},
	}
	for way, leave := range leave {
		for name, policy := range map[string]once.DoubtPolicy{
			"Hold": once.Hold, "HoldFor": once.HoldFor(time.Hour), "Fail": once.Fail, "Resume": once.Resume,
			"Reconcile": once.Reconcile(unreachable),
		} {
			t.Run(name+", "+way, func(t *testing.T) {
				t.Parallel()
				s := memory()
				g := guarded(t, s, once.Policy{InDoubt: policy})
				leave(t, g)
				for range 2 { // within the settle delay and after it
					_, err := execute(t, g, (&payments{}).ChargeCard, order(7))
					r, _ := once.Why(err)
					require.Equal(t, once.InDoubt, r.Reason)
					require.ErrorContains(t, err, "reset by peer (type: ConnReset, retryable: true)")
					require.Eventually(t, func() bool { return time.Since(only(t, s).Doubted) > 31*time.Millisecond }, soon, time.Millisecond)
				}
				require.LessOrEqual(t, len(only(t, s).Outcome.Data), 4096)
			})
		}
	}
}

func TestGuard_LaterRefusalsKnowOfAPanic(t *testing.T) {
	t.Parallel()
	g := guarded(t, memory(), once.Policy{})
	_, err := execute(t, g, func(context.Context, charge) (receipt, error) { panic("at the disco") }, order(7))
	require.Error(t, err)
	_, err = execute(t, g, (&payments{}).ChargeCard, order(7))
	requireReason(t, err, once.InDoubt, true)
	require.ErrorContains(t, err, "the activity panicked")
}

// What a takeover has made of it is another matter.
func TestGuard_ACauseEndsWithItsDoubt(t *testing.T) {
	t.Parallel()
	s := memory()
	g := guarded(t, s, once.Policy{InDoubt: once.Rerun})
	inDoubt(t, s, g)
	require.NotEmpty(t, only(t, s).Outcome.Data)
	finish := running(t, g, order(7))
	require.Empty(t, only(t, s).Outcome.Data)
	_, err := finish()
	require.NoError(t, err)
}

func TestGuard_InDoubtPolicies(t *testing.T) {
	t.Parallel()
	landed := receipt{ID: "found"}
	for name, tc := range map[string]struct {
		policy    once.DoubtPolicy
		reason    once.Reason // of the refusal; "" if the body runs or the outcome is replayed
		retryable bool
		runs      int
		want      receipt
	}{
		"Hold":                 {policy: once.Hold, reason: once.InDoubt, retryable: true},
		"HoldFor":              {policy: once.HoldFor(time.Hour), reason: once.InDoubt, retryable: true},
		"HoldFor over":         {policy: once.HoldFor(time.Nanosecond), reason: once.InDoubt},
		"Fail":                 {policy: once.Fail, reason: once.InDoubt},
		"Resume, another call": {policy: once.Resume, reason: once.InDoubt, retryable: true},
		"Rerun":                {policy: once.Rerun, runs: 1, want: receipt{ID: "r-7"}},
		"Reconcile: not done":  {policy: once.Reconcile(findCharge), runs: 1, want: receipt{ID: "r-7"}},
		"Reconcile: found": {policy: once.Reconcile(func(ctx context.Context, in charge) (receipt, error) {
			if len(once.Key(ctx)) != 64 || in.Order != "7" {
				return receipt{}, errors.New("wrong question")
			}
			return landed, nil
		}), want: landed},
		"Reconcile: unknown": {policy: once.Reconcile(func(context.Context, charge) (receipt, error) {
			return receipt{}, errors.New("provider is down")
		}), reason: once.InDoubt, retryable: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := memory()
			g := guarded(t, s, once.Policy{InDoubt: tc.policy})
			_, err := execute(t, g, (&payments{fail: io.EOF}).ChargeCard, order(7))
			requireReason(t, err, once.InDoubt, true) // nothing is decided before the delay

			early, err := execute(t, g, (&payments{}).ChargeCard, order(7))
			if time.Since(only(t, s).Doubted) < 30*time.Millisecond {
				require.Zero(t, early)
				requireReason(t, err, once.InDoubt, true)
			}
			require.Eventually(t, func() bool {
				return time.Since(only(t, s).Doubted) > 30*time.Millisecond || only(t, s).State != store.InDoubt
			}, soon, time.Millisecond)
			p := &payments{}
			got, err := execute(t, g, p.ChargeCard, order(7))
			if tc.reason != "" {
				requireReason(t, err, tc.reason, tc.retryable)
				require.Empty(t, p.charges)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
			require.Len(t, p.charges, tc.runs)
			again, err := execute(t, g, p.ChargeCard, order(7))
			require.NoError(t, err)
			require.Equal(t, tc.want, again, "and it stays so")
		})
	}
}
