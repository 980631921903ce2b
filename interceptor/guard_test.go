package interceptor_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// guarded is a guard over one activity, ChargeCard, with that policy and times
// that suit a test.
func guarded(t *testing.T, s store.Store, p once.Policy) *interceptor.Guard {
	t.Helper()
	o := options(once.Mark(p, "ChargeCard"))
	o.Lease, o.SettleDelay, o.HoldRetry = 60*time.Millisecond, 30*time.Millisecond, time.Second
	return newGuard(t, s, o)
}

// withPolicy returns options that mark ChargeCard.
func withPolicy(p once.Policy) interceptor.Options { return options(once.Mark(p, "ChargeCard")) }

func order(n int) charge { return charge{Order: fmt.Sprint(n), Cents: 100} }

// only returns the one record of the store.
func only(t *testing.T, s store.Store) (found store.Record) {
	t.Helper()
	n := 0
	for r, err := range s.List(t.Context(), store.Query{}) {
		require.NoError(t, err)
		found = r
		n++
	}
	require.Equal(t, 1, n, "records in the store")
	return found
}

func requireReason(t *testing.T, err error, reason once.Reason, retryable bool) {
	t.Helper()
	r, ok := once.Why(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, reason, r.Reason)
	require.Equal(t, "ChargeCard", r.Activity)
	app := (*temporal.ApplicationError)(nil)
	require.ErrorAs(t, err, &app)
	require.Equal(t, !retryable, app.NonRetryable())
	if retryable {
		require.GreaterOrEqual(t, app.NextRetryDelay(), time.Second)
	}
}

func TestGuard_RunsOnceAndReplaysTheResult(t *testing.T) {
	t.Parallel()
	s, p := memory(), &payments{}
	g := guarded(t, s, once.Policy{})
	for range 3 {
		got, err := execute(t, g, p.ChargeCard, order(7))
		require.NoError(t, err)
		require.Equal(t, receipt{ID: "r-7"}, got)
	}
	require.Equal(t, []string{"7"}, p.charges)
	_, err := execute(t, g, p.ChargeCard, order(8))
	require.NoError(t, err)
	require.Equal(t, []string{"7", "8"}, p.charges, "other input is another effect")
}

func TestGuard_ReplaysEveryKindOfResult(t *testing.T) {
	t.Parallel()
	replayed := func(t *testing.T, fn any, check func(t *testing.T, get func(any) error)) {
		t.Helper()
		g := guarded(t, memory(), once.Policy{})
		for range 2 {
			env := environment(t, g)
			env.RegisterActivityWithOptions(fn, sdkactivity.RegisterOptions{Name: "ChargeCard"})
			v, err := env.ExecuteActivity("ChargeCard")
			require.NoError(t, err)
			check(t, v.Get)
		}
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		runs := 0
		replayed(t, func(context.Context) error { runs++; return nil }, func(*testing.T, func(any) error) {})
		require.Equal(t, 1, runs)
	})
	t.Run("nil pointer", func(t *testing.T) {
		t.Parallel()
		replayed(t, func(context.Context) (*receipt, error) { return nil, nil }, func(t *testing.T, get func(any) error) {
			var r *receipt
			_ = get(&r)
			require.Nil(t, r)
		})
	})
	t.Run("zero", func(t *testing.T) {
		t.Parallel()
		replayed(t, func(context.Context) (int, error) { return 0, nil }, func(t *testing.T, get func(any) error) {
			n := 1
			require.NoError(t, get(&n))
			require.Zero(t, n)
		})
	})
	t.Run("bytes", func(t *testing.T) {
		t.Parallel()
		replayed(t, func(context.Context) ([]byte, error) { return []byte{0, 255, 10}, nil }, func(t *testing.T, get func(any) error) {
			var b []byte
			require.NoError(t, get(&b))
			require.Equal(t, []byte{0, 255, 10}, b)
		})
	})
}

// running starts a call whose body blocks until the returned function is called,
// which returns what the call returned.
func running(t *testing.T, g *interceptor.Guard, in charge) (finish func() (receipt, error)) {
	t.Helper()
	started, release, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var got receipt
	var err error
	go func() {
		defer close(done)
		got, err = execute(t, g, func(context.Context, charge) (receipt, error) {
			close(started)
			<-release
			return receipt{ID: "first"}, nil
		}, in)
	}()
	<-started
	return func() (receipt, error) {
		close(release)
		<-done
		return got, err
	}
}

func TestGuard_DuplicateOfARunningCall(t *testing.T) {
	t.Parallel()
	p := &payments{}
	t.Run("Return", func(t *testing.T) {
		t.Parallel()
		g := guarded(t, memory(), once.Policy{})
		finish := running(t, g, order(7))
		_, err := execute(t, g, p.ChargeCard, order(7))
		requireReason(t, err, once.InFlight, true)
		require.True(t, once.MayHaveHappened(err))
		app := (*temporal.ApplicationError)(nil)
		require.ErrorAs(t, err, &app)
		require.Equal(t, temporal.ApplicationErrorCategoryBenign, app.Category())
		_, err = finish()
		require.NoError(t, err)
		got, err := execute(t, g, p.ChargeCard, order(7))
		require.NoError(t, err)
		require.Equal(t, "first", got.ID)
	})
	t.Run("Reject", func(t *testing.T) {
		t.Parallel()
		g := guarded(t, memory(), once.Policy{OnDuplicate: once.Reject})
		finish := running(t, g, order(7))
		_, err := execute(t, g, p.ChargeCard, order(7))
		requireReason(t, err, once.Duplicate, false)
		require.True(t, once.Is(err, once.Duplicate))
		_, err = finish()
		require.NoError(t, err)
		_, err = execute(t, g, p.ChargeCard, order(7))
		requireReason(t, err, once.Duplicate, false)
	})
	t.Run("Wait", func(t *testing.T) {
		t.Parallel()
		waits := newWatch(observe.KindWait)
		o := options(once.Mark(once.Policy{OnDuplicate: once.Wait}, "ChargeCard"))
		o.Observers = []observe.Observer{waits}
		g := newGuard(t, memory(), o)
		finish := running(t, g, order(7))
		got := make(chan receipt)
		for range 3 {
			go func() {
				r, _ := execute(t, g, p.ChargeCard, order(7))
				got <- r
			}()
		}
		for range 3 {
			receive(t, waits.begun)
		}
		_, err := finish()
		require.NoError(t, err)
		for range 3 {
			require.Equal(t, receipt{ID: "first"}, receive(t, got))
		}
	})
	t.Cleanup(func() { require.Empty(t, p.charges) })
}

// watch is an observer that reports when an event of its kind begins.
type watch struct {
	kind  observe.Kind
	begun chan observe.Event
	ended chan observe.Event
}

func newWatch(k observe.Kind) *watch {
	return &watch{k, make(chan observe.Event, 100), make(chan observe.Event, 100)}
}

func (w *watch) Begin(ctx context.Context, e observe.Event) (context.Context, func(observe.Event)) {
	if e.Kind == w.kind {
		w.begun <- e
	}
	return ctx, func(e observe.Event) {
		if e.Kind == w.kind {
			w.ended <- e
		}
	}
}

func TestGuard_MismatchComesBeforeReplay(t *testing.T) {
	t.Parallel()
	byOrderOnly := once.Policy{Key: keys.From(byOrder), Scope: keys.PerNamespace}
	g, p := guarded(t, memory(), byOrderOnly), &payments{}
	_, err := execute(t, g, p.ChargeCard, charge{"7", 100})
	require.NoError(t, err)
	_, err = execute(t, g, p.ChargeCard, charge{"7", 200})
	requireReason(t, err, once.Mismatch, false)

	finish := running(t, g, charge{"8", 100})
	_, err = execute(t, g, p.ChargeCard, charge{"8", 200})
	requireReason(t, err, once.Mismatch, false)
	_, err = finish()
	require.NoError(t, err)

	byOrderOnly.Match = keys.Any()
	got, err := execute(t, guarded(t, memory(), byOrderOnly), p.ChargeCard, charge{"9", 100})
	require.NoError(t, err)
	require.Equal(t, "r-9", got.ID)
}

func TestGuard_BadKeysAreRefused(t *testing.T) {
	t.Parallel()
	p := &payments{}
	g := guarded(t, memory(), once.Policy{Key: keys.From(byOrder), Scope: keys.PerNamespace})
	_, err := execute(t, g, p.ChargeCard, charge{})
	requireReason(t, err, once.BadKey, false)
	require.ErrorContains(t, err, "keys: empty key")
	require.True(t, once.MayHaveHappened(err), "an earlier attempt may have run")
	require.Empty(t, p.charges)
}

// A panic of a key function is no panic of the activity, which did not run.
func TestGuard_AKeyFunctionThatPanicsIsABadKey(t *testing.T) {
	t.Parallel()
	var none map[string][]string
	thrown := map[string]func(in charge) string{
		"a value of type string, at guard_test.go:":                           func(in charge) string { panic("order " + in.Order) },
		"a value of type *errors.errorString, at guard_test.go:":              func(in charge) string { panic(errors.New(in.Order)) },
		"index out of range [0] with length 0, at guard_test.go:":             func(in charge) string { return none[in.Order][0] },
		"invalid memory address or nil pointer dereference, at guard_test.go": func(charge) string { return (*charge)(nil).Order },
	}
	for want, f := range thrown {
		for part, policy := range map[string]once.Policy{
			"Key":   {Key: keys.From(f), Scope: keys.PerNamespace},
			"Match": {Key: keys.From(byOrder), Match: keys.From(f), Scope: keys.PerNamespace},
		} {
			t.Run(part+", "+want, func(t *testing.T) {
				t.Parallel()
				s, p := memory(), &payments{}
				fails := newWatch(observe.KindFail)
				o := options(once.Mark(policy, "ChargeCard"))
				o.Observers = []observe.Observer{fails}
				_, err := execute(t, newGuard(t, s, o), p.ChargeCard, charge{Order: "secret"})
				requireReason(t, err, once.BadKey, false)
				require.ErrorContains(t, err, "a key function panicked: ")
				require.ErrorContains(t, err, want)
				require.NotContains(t, err.Error(), "secret")
				require.True(t, once.MayHaveHappened(err), "the store was not asked")
				require.Equal(t, once.BadKey, receive(t, fails.ended).Reason)
				require.Empty(t, fails.ended)
				require.Empty(t, p.charges)
				require.Empty(t, records(t, s))
			})
		}
	}
}

func TestGuard_GoexitOfAKeyFunctionPasses(t *testing.T) {
	t.Parallel()
	p := &payments{}
	g := guarded(t, memory(), once.Policy{Scope: keys.PerNamespace, Key: keys.From(func(charge) string { runtime.Goexit(); return "" })})
	done := make(chan bool)
	go func() {
		returned := false
		defer func() { done <- returned }()
		_, _ = execute(t, g, p.ChargeCard, order(7))
		returned = true
	}()
	require.False(t, receive(t, done))
	require.Empty(t, p.charges)
}

func TestGuard_ErrSkipRunsUnguarded(t *testing.T) {
	t.Parallel()
	s, p := memory(), &payments{}
	skips := newWatch(observe.KindSkip)
	o := options(once.Mark(once.Policy{Key: keys.FromCall(func(keys.Call) (string, error) { return "", keys.ErrSkip }), Scope: keys.PerRun}, "ChargeCard"))
	o.Observers = []observe.Observer{skips}
	g := newGuard(t, s, o)
	for range 2 {
		_, err := execute(t, g, p.ChargeCard, order(7))
		require.NoError(t, err)
	}
	require.Len(t, p.charges, 2)
	require.Len(t, skips.ended, 2)
}

func TestGuard_InterceptorWithoutAConverterRunsNothing(t *testing.T) {
	t.Parallel()
	g := newGuard(t, memory(), interceptor.Options{Activities: once.Mark(once.Policy{}, "ChargeCard")})
	p := &payments{}
	env := environment(t)
	env.SetWorkerOptions(worker.Options{Interceptors: []sdkinterceptor.WorkerInterceptor{g}})
	env.RegisterActivity(p)
	_, err := env.ExecuteActivity("ChargeCard", order(7))
	requireReason(t, err, once.BadSetup, true)
	require.ErrorContains(t, err, "list it in client.Options.Plugins")
	require.Empty(t, p.charges)
}

func TestGuard_InstalledTwicePassesThroughOnce(t *testing.T) {
	t.Parallel()
	p := &payments{}
	g := guarded(t, memory(), once.Policy{OnDuplicate: once.Wait})
	for range 2 {
		env := environment(t)
		env.SetWorkerOptions(worker.Options{Plugins: []worker.Plugin{g}, Interceptors: []sdkinterceptor.WorkerInterceptor{g}})
		env.RegisterActivity(p)
		_, err := env.ExecuteActivity("ChargeCard", order(7))
		require.NoError(t, err)
	}
	require.Len(t, p.charges, 1)
}

func TestGuard_GuardsMethodsUnderEveryPrefix(t *testing.T) {
	t.Parallel()
	p := &payments{}
	g := newGuard(t, memory(), options(once.Mark(once.Policy{}, p.ChargeCard)))
	for range 2 {
		for _, prefix := range []string{"eu_", "us_"} {
			env := environment(t, g)
			env.RegisterActivityWithOptions(p, sdkactivity.RegisterOptions{Name: prefix})
			_, err := env.ExecuteActivity(prefix+"ChargeCard", order(7))
			require.NoError(t, err)
		}
	}
	require.Len(t, p.charges, 2, "two types are two effects")
}

func TestGuard_AsKeepsTheRecordsOfARenamedActivity(t *testing.T) {
	t.Parallel()
	s, p := memory(), &payments{}
	_, err := execute(t, guarded(t, s, once.Policy{}), p.ChargeCard, order(7))
	require.NoError(t, err)
	g := newGuard(t, s, options(once.Mark(once.Policy{}, once.As("ChargeCard", "ChargeCardV2"))))
	env := environment(t, g)
	env.RegisterActivityWithOptions(p.ChargeCard, sdkactivity.RegisterOptions{Name: "ChargeCardV2"})
	_, err = env.ExecuteActivity("ChargeCardV2", order(7))
	require.NoError(t, err)
	require.Len(t, p.charges, 1)
}

func TestGuard_OutcomeThatCannotBeKept(t *testing.T) {
	t.Parallel()
	t.Run("too large", func(t *testing.T) {
		t.Parallel()
		o := options(once.Mark(once.Policy{}, "ChargeCard"))
		o.MaxOutcome = 100
		g := newGuard(t, memory(), o)
		large := func(context.Context, charge) (string, error) { return strings.Repeat("x", 200), nil }
		got, err := execute(t, g, large, order(7))
		require.NoError(t, err)
		require.Len(t, got, 200)
		_, err = execute(t, g, large, order(7))
		requireReason(t, err, once.OutcomeNotKept, false)
		require.True(t, once.MayHaveHappened(err))
	})
	t.Run("not encodable", func(t *testing.T) {
		t.Parallel()
		g, runs := guarded(t, memory(), once.Policy{}), 0
		broken := func(context.Context, charge) (any, error) { runs++; return make(chan int), nil }
		for range 2 {
			_, err := execute(t, g, broken, order(7))
			requireReason(t, err, once.OutcomeNotKept, false)
		}
		require.Equal(t, 1, runs)
	})
	t.Run("a failure", func(t *testing.T) {
		t.Parallel()
		s := memory()
		g, r := doubted(t, s, once.Policy{})
		_, err := s.Resolve(t.Context(), r.Key, r, store.Resolution{
			ID: "1", By: store.ByOperator, Why: "asked", TTL: time.Hour, To: store.Failed,
			Outcome: store.Outcome{State: store.Failed, Missing: "it is too large"},
		})
		require.NoError(t, err)
		_, err = execute(t, g, (&payments{}).ChargeCard, order(7))
		requireReason(t, err, once.OutcomeNotKept, false)
		require.ErrorContains(t, err, "ended in a final failure")
		require.NotContains(t, err.Error(), "took effect")
	})
}

func TestGuard_PendingIsNeitherRunNorReplayed(t *testing.T) {
	t.Parallel()
	s := memory()
	g := guarded(t, s, once.Policy{})
	_, err := execute(t, g, func(context.Context, charge) (receipt, error) { return receipt{}, sdkactivity.ErrResultPending }, order(7))
	require.ErrorIs(t, err, sdkactivity.ErrResultPending)
	require.Equal(t, store.Pending, only(t, s).State)
	p := &payments{}
	_, err = execute(t, g, p.ChargeCard, order(7))
	requireReason(t, err, once.InFlight, true)
	require.Empty(t, p.charges)
}

func TestGuard_BodyMayModifyItsInput(t *testing.T) {
	t.Parallel()
	g, runs := guarded(t, memory(), once.Policy{}), 0
	spoil := func(_ context.Context, in map[string]int) (int, error) { runs++; in["n"]++; return runs, nil }
	for range 2 {
		_, err := execute(t, g, spoil, map[string]int{"n": 1})
		require.NoError(t, err)
	}
	require.Equal(t, 1, runs)
}

func TestKey_IsTheSameInEveryAttemptAndToTheReconcileFunction(t *testing.T) {
	t.Parallel()
	g := guarded(t, memory(), once.Policy{})
	var claims []once.Claim
	attempt := func(ctx context.Context, _ charge) (receipt, error) {
		c, ok := once.FromContext(ctx)
		require.True(t, ok)
		require.Equal(t, c.Key, once.Key(ctx))
		claims = append(claims, c)
		return receipt{}, errors.New("declined")
	}
	for range 2 {
		_, err := execute(t, g, attempt, order(7))
		require.Error(t, err)
	}
	require.Equal(t, claims[0].Key, claims[1].Key)
	require.Greater(t, claims[1].Fence, claims[0].Fence)
	require.False(t, claims[1].Takeover)
}
