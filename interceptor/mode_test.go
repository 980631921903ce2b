package interceptor_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// inMode returns a guard in that mode, and what it observes.
func inMode(t *testing.T, s store.Store, m once.Mode, p once.Policy) (*interceptor.Guard, *watch) {
	t.Helper()
	o := options(once.Mark(p, "ChargeCard"))
	o.Lease, o.SettleDelay, o.HoldRetry = 60*time.Millisecond, 30*time.Millisecond, time.Second
	o.Mode = func(activity string) once.Mode {
		require.Equal(t, "ChargeCard", activity)
		return m
	}
	events := newWatch(observe.KindNotice)
	o.Observers = []observe.Observer{events}
	return newGuard(t, s, o), events
}

func TestObserve_RunsAndTellsWhatEnforceWouldHaveDone(t *testing.T) {
	t.Parallel()
	s := newFaulty()
	g, events := inMode(t, s, once.Observe, once.Policy{})
	told := func() observe.Event {
		e := receive(t, events.ended)
		require.Equal(t, observe.Observed, e.Notice)
		return e
	}
	p := &payments{}
	_, err := execute(t, g, p.ChargeCard, order(7))
	require.NoError(t, err)
	require.Equal(t, store.Succeeded, only(t, s).State)
	require.Empty(t, events.ended, "a first run is what Enforce does")

	got, err := execute(t, g, p.ChargeCard, order(7))
	require.NoError(t, err)
	require.Equal(t, "r-7", got.ID)
	require.Empty(t, told().Reason, "a replay")
	require.Len(t, p.charges, 2)

	s.set("acquire", fault{times: 1})
	_, err = execute(t, g, p.ChargeCard, order(7))
	require.NoError(t, err)
	require.Equal(t, once.StoreDown, told().Reason)
	require.Len(t, p.charges, 3)
}

func TestObserve_RunsBesideARunningCall(t *testing.T) {
	t.Parallel()
	s, p := memory(), &payments{}
	finish := running(t, guarded(t, s, once.Policy{}), order(7))
	g, events := inMode(t, s, once.Observe, once.Policy{OnDuplicate: once.Wait})
	_, err := execute(t, g, p.ChargeCard, order(7))
	require.NoError(t, err)
	require.Equal(t, once.InFlight, receive(t, events.ended).Reason)
	_, err = finish()
	require.NoError(t, err)
}

func TestObserve_TakesOverWhatIsInDoubt(t *testing.T) {
	t.Parallel()
	s, p := memory(), &payments{}
	doubted(t, s, once.Policy{})
	g, events := inMode(t, s, once.Observe, once.Policy{})
	_, err := execute(t, g, p.ChargeCard, order(7))
	require.NoError(t, err)
	require.Equal(t, once.InDoubt, receive(t, events.ended).Reason)
	require.Len(t, p.charges, 1)
	require.Equal(t, store.Succeeded, only(t, s).State)
}

func TestObserve_PassesErrorsUnchanged(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for name, policy := range map[string]once.FailurePolicy{"Unlock": once.Unlock, "Lock": once.Lock, "Doubt": once.Doubt} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := memory()
			g, _ := inMode(t, s, once.Observe, once.Policy{OnFailure: policy})
			_, err := execute(t, g, (&payments{fail: boom}).ChargeCard, order(7))
			_, plain := execute(t, unguarded(t), (&payments{fail: boom}).ChargeCard, order(7))
			require.Equal(t, plain.Error(), err.Error())
			var app, want *temporal.ApplicationError
			require.ErrorAs(t, plain, &want)
			require.ErrorAs(t, err, &app)
			require.Equal(t, want.NonRetryable(), app.NonRetryable())
			require.Equal(t, want.Type(), app.Type())
			state := map[string]store.State{"Unlock": store.Tombstone, "Lock": store.Failed, "Doubt": store.InDoubt}[name]
			require.Equal(t, state, only(t, s).State)
		})
	}
	_, err := execute(t, func() *interceptor.Guard {
		g, _ := inMode(t, memory(), once.Observe, once.Policy{})
		return g
	}(), func(context.Context, charge) (receipt, error) { return receipt{}, sdkactivity.ErrResultPending }, order(8))
	require.ErrorIs(t, err, sdkactivity.ErrResultPending)
}

// unguarded is a guard that has nothing to do.
func unguarded(t *testing.T) *interceptor.Guard {
	t.Helper()
	g, _ := inMode(t, memory(), once.Off, once.Policy{})
	return g
}

func TestOff_AsksAndRecordsNothing(t *testing.T) {
	t.Parallel()
	s, p := newFaulty(), &payments{}
	s.set("acquire", fault{times: 100})
	g, events := inMode(t, s, once.Off, once.Policy{})
	for range 2 {
		_, err := execute(t, g, p.ChargeCard, order(7))
		require.NoError(t, err)
	}
	require.Len(t, p.charges, 2)
	require.Zero(t, s.count("acquire"))
	require.Empty(t, events.ended)
}

// A call for which no key can be made runs, and has an idempotency key.
func TestMode_WithoutAKey(t *testing.T) {
	t.Parallel()
	broken := once.Policy{Scope: keys.PerNamespace, Key: keys.FromCall(func(keys.Call) (string, error) { return "", errors.New("no order") })}
	for name, mode := range map[string]once.Mode{"Off": once.Off, "Observe": once.Observe} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, events := inMode(t, memory(), mode, broken)
			_, err := execute(t, g, func(ctx context.Context, _ charge) (receipt, error) {
				require.Len(t, once.Key(ctx), 64)
				claim, _ := once.FromContext(ctx)
				require.NotEmpty(t, claim.Token())
				return receipt{}, nil
			}, order(7))
			require.NoError(t, err)
			if mode == once.Observe {
				require.Equal(t, once.BadKey, receive(t, events.ended).Reason)
			}
		})
	}
}

// Whatever becomes of the claim, the body runs and its answer is the answer. That
// a store does not answer a call that is over says nothing about the store.
func TestObserve_RunsThoughTheCallIsOver(t *testing.T) {
	t.Parallel()
	for name, over := range map[string]*scene{
		"canceled":  {over: true},
		"timed out": {within: time.Nanosecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, events := inMode(t, memory(), once.Observe, once.Policy{})
			_ = over.play(t, g, nothing)
			require.Equal(t, 1, over.runs)
			require.Empty(t, events.ended)
		})
	}
	t.Run("a store that is down is told of", func(t *testing.T) {
		t.Parallel()
		s := newFaulty()
		s.set("acquire", fault{times: 1, err: context.DeadlineExceeded})
		g, events := inMode(t, s, once.Observe, once.Policy{})
		require.NoError(t, (&scene{}).play(t, g, nothing))
		require.Equal(t, once.StoreDown, receive(t, events.ended).Reason)
	})
}

func TestMode_OffStartsThoughTheStoreIsDown(t *testing.T) {
	t.Parallel()
	for _, mode := range []once.Mode{once.Off, once.Enforce} {
		o := interceptor.Options{Activities: once.Mark(once.Policy{}, "ChargeCard"), Mode: func(string) once.Mode { return mode }}
		g := newGuard(t, checkedStore{memory(), errNetwork}, o)
		err := startError(t, g, func(r worker.Registry) { r.RegisterActivity(&payments{}) })
		if mode == once.Off {
			requireUnreachable(t, err)
		} else {
			require.ErrorIs(t, err, errNetwork)
		}
	}
}

func TestMode_KeepsTheKey(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, m := range []once.Mode{once.Enforce, once.Observe, once.Off} {
		g, _ := inMode(t, memory(), m, once.Policy{})
		_, err := execute(t, g, func(ctx context.Context, _ charge) (receipt, error) {
			seen[once.Key(ctx)] = true
			return receipt{}, nil
		}, order(7))
		require.NoError(t, err)
	}
	require.Len(t, seen, 1)
}

func TestKeySecret_HidesInputAndKey(t *testing.T) {
	t.Parallel()
	pin := charge{Order: "4711", Cents: 100}
	records := map[string]store.Record{}
	for name, secret := range map[string]string{"": "", "a": "0123456789abcdef", "b": "fedcba9876543210"} {
		for kind, p := range map[string]once.Policy{
			"hash": {}, "key": {Key: keys.From(byOrder), Scope: keys.PerNamespace, Match: keys.From(byOrder)},
		} {
			s := memory()
			o := options(once.Mark(p, "ChargeCard"))
			o.KeySecret = []byte(secret)
			g := newGuard(t, s, o)
			for range 2 {
				_, err := execute(t, g, (&payments{}).ChargeCard, pin)
				require.NoError(t, err)
			}
			r := only(t, s)
			require.Equal(t, secret == "" && kind == "key", strings.Contains(r.Key+r.Info.Match, "4711"))
			records[kind+name] = r
		}
	}
	for _, kind := range []string{"hash", "key"} {
		for _, part := range []func(store.Record) string{
			func(r store.Record) string { return r.Key }, func(r store.Record) string { return r.Info.Input },
			func(r store.Record) string { return r.Info.Match },
		} {
			require.NotEqual(t, part(records[kind]), part(records[kind+"a"]))
			require.NotEqual(t, part(records[kind+"b"]), part(records[kind+"a"]))
		}
	}
	o := options()
	o.KeySecret = []byte("short")
	_, err := interceptor.New(memory(), o)
	require.ErrorContains(t, err, "KeySecret has 5 bytes")
}

func TestMode_SurvivesPanicsOfThePolicy(t *testing.T) {
	t.Parallel()
	panics := keys.FromCall(func(keys.Call) (string, error) { panic("no order") })
	classify := once.Classify(func(error) once.FailurePolicy { panic("no idea") })
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		mode   once.Mode
		policy once.Policy
	}{
		"Off, key":          {once.Off, once.Policy{Scope: keys.PerNamespace, Key: panics}},
		"Observe, key":      {once.Observe, once.Policy{Scope: keys.PerNamespace, Key: panics}},
		"Observe, Classify": {once.Observe, once.Policy{OnFailure: classify}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, _ := inMode(t, memory(), c.mode, c.policy)
			_, err := execute(t, g, (&payments{fail: boom}).ChargeCard, order(7))
			require.ErrorContains(t, err, "boom")
			require.NotContains(t, err.Error(), "no idea")
		})
	}
}

// Mode is asked for the names that activities are registered under.
func TestMode_OffIsOfTheRegisteredName(t *testing.T) {
	t.Parallel()
	start := func(off string) error {
		o := interceptor.Options{Activities: once.Mark(once.Policy{}, (&payments{}).ChargeCard), Mode: func(name string) once.Mode {
			if name == off {
				return once.Off
			}
			return once.Enforce
		}}
		g := newGuard(t, checkedStore{memory(), store.ErrUnsafe}, o)
		return startError(t, g, func(r worker.Registry) {
			r.RegisterActivityWithOptions(&payments{}, sdkactivity.RegisterOptions{Name: "eu_"})
		})
	}
	requireUnreachable(t, start("eu_ChargeCard"))
	require.ErrorIs(t, start("ChargeCard"), store.ErrUnsafe)
}
