package interceptor_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atmostonce/atmostonce"
	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// stepOf returns the one record of a step, and that of its call.
func stepOf(t *testing.T, s store.Store, name string) (step, call store.Record) {
	t.Helper()
	for r, err := range s.List(t.Context(), store.Query{}) {
		require.NoError(t, err)
		if strings.HasSuffix(r.Key, "/s:"+name) {
			step = r
		} else if !strings.Contains(r.Key, "/s:") {
			call = r
		}
	}
	return step, call
}

func TestStep_OfAnActivityIsReplayedThroughItsConverters(t *testing.T) {
	t.Parallel()
	s := memory()
	g := guarded(t, s, once.Policy{})
	runs, fail := 0, errors.New("later")
	body := func(ctx context.Context, in charge) (string, error) {
		a, err := atmostonce.Step(ctx, "struct", func(context.Context) (receipt, error) { runs++; return receipt{in.Order}, nil })
		require.NoError(t, err)
		b, err := atmostonce.Step(ctx, "proto", func(context.Context) (*durationpb.Duration, error) { runs++; return durationpb.New(time.Hour), nil })
		require.NoError(t, err)
		c, err := atmostonce.Step(ctx, "bytes", func(context.Context) ([]byte, error) { runs++; return []byte{0, 1, 255}, nil })
		require.NoError(t, err)
		none, err := atmostonce.Step(ctx, "nothing", func(context.Context) (any, error) { runs++; return nil, nil })
		require.NoError(t, err)
		require.Nil(t, none)
		require.Equal(t, []byte{0, 1, 255}, c)
		return a.ID + b.AsDuration().String(), fail
	}
	_, err := execute(t, g, body, order(7))
	require.ErrorContains(t, err, "later")
	fail = nil
	got, err := execute(t, g, body, order(7))
	require.NoError(t, err)
	require.Equal(t, order(7).Order+"1h0m0s", got)
	require.Equal(t, 4, runs)
	step, call := stepOf(t, s, "struct")
	require.Equal(t, "ChargeCard/step", step.Info.Activity)
	require.Equal(t, call.Key+"/s:struct", step.Key)
	require.Equal(t, call.Info.Holder.WorkflowID, step.Info.Holder.WorkflowID)
}

func TestStep_InDoubtIsFoundAndResolvedAsACallIs(t *testing.T) {
	t.Parallel()
	for name, finding := range map[string]resolve.Finding{"done": resolve.AsDone(receipt{"found"}), "not done": resolve.AsNotDone()} {
		s := memory()
		g := guarded(t, s, once.Policy{TTL: 90 * 24 * time.Hour, InDoubt: once.Rerun})
		runs := 0
		body := func(ctx context.Context, _ charge) (receipt, error) {
			return atmostonce.Step(ctx, "charge", func(context.Context) (receipt, error) {
				if runs++; runs == 1 {
					return receipt{}, once.MaybeDone(errors.New("no answer"))
				}
				return receipt{"again"}, nil
			})
		}
		_, err := execute(t, g, body, order(7))
		requireReason(t, err, once.InDoubt, true)
		require.ErrorContains(t, err, "ChargeCard/step charge [key ")
		require.ErrorContains(t, err, "no answer")
		step, call := stepOf(t, s, "charge")
		require.Equal(t, store.InDoubt, call.State)
		require.Equal(t, store.InDoubt, step.State)

		found, err := g.Find(t.Context(), keys.Downstream(step.Key)[:16])
		require.NoError(t, err)
		require.Equal(t, step.Key, found.Key)
		now, err := g.Resolve(t.Context(), found, finding, forced("asked the provider"))
		require.NoError(t, err)
		require.WithinDuration(t, now.Now.Add(90*24*time.Hour), now.Expires, 10*24*time.Hour, "the TTL of its call")
		later(60 * time.Millisecond)
		got, err := execute(t, g, body, order(7))
		require.NoError(t, err, name)
		require.Equal(t, map[string]receipt{"done": {"found"}, "not done": {"again"}}[name], got)
	}
}

// The type of what a dynamic activity gets is not known before it is decoded.
func TestStep_OfADynamicActivityIsAskedAboutWithItsArgument(t *testing.T) {
	t.Parallel()
	g := guarded(t, memory(), once.Policy{InDoubt: once.Rerun})
	asked := charge{}
	find := once.Reconcile(func(_ context.Context, in charge) (receipt, error) { asked = in; return receipt{"found"}, nil })
	env := environment(t, g)
	env.RegisterDynamicActivity(func(ctx context.Context, _ converter.EncodedValues) (receipt, error) {
		return atmostonce.Step(ctx, "charge", func(context.Context) (receipt, error) {
			return receipt{}, once.MaybeDone(errors.New("no answer"))
		}, once.Policy{InDoubt: find})
	}, sdkactivity.DynamicRegisterOptions{})
	_, err := env.ExecuteActivity("ChargeCard", order(7))
	requireReason(t, err, once.InDoubt, true)
	later(60 * time.Millisecond)
	got, err := env.ExecuteActivity("ChargeCard", order(7))
	require.NoError(t, err)
	var r receipt
	require.NoError(t, got.Get(&r))
	require.Equal(t, receipt{"found"}, r)
	require.Equal(t, order(7), asked)
}

func TestStep_ThatFailsForGoodEndsItsCall(t *testing.T) {
	t.Parallel()
	s := memory()
	g := guarded(t, s, once.Policy{InDoubt: once.Rerun})
	_, err := execute(t, g, func(ctx context.Context, _ charge) (receipt, error) {
		return atmostonce.Step(ctx, "charge", func(context.Context) (receipt, error) {
			return receipt{}, temporal.NewNonRetryableApplicationError("declined", "Declined", nil)
		}, once.Policy{OnFailure: once.Lock})
	}, order(7))
	var declined *temporal.ApplicationError
	require.ErrorAs(t, err, &declined)
	require.Equal(t, "Declined", declined.Type())
	step, call := stepOf(t, s, "charge")
	require.Equal(t, store.Failed, step.State)
	require.Equal(t, store.Tombstone, call.State)
}

// A worker that stops begins no step: another one goes on.
func TestStep_IsNotBegunWhileTheWorkerStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mem, done := memory(), 0
		sc := &scene{}
		var stepErr error
		guard := newGuard(t, mem, options(once.Mark(once.Policy{OnFailure: once.Lock}, "ChargeCard")))
		_ = sc.play(t, guard, func(ctx context.Context) {
			_, err := atmostonce.Step(ctx, "reserve", func(context.Context) (int, error) { done++; return 1, nil })
			require.NoError(t, err)
			close(sc.stop)
			_, stepErr = atmostonce.Step(ctx, "charge", func(context.Context) (int, error) { done++; return 1, nil })
		})
		why, _ := once.Why(stepErr)
		require.Equal(t, once.InFlight, why.Reason)
		require.Equal(t, "ChargeCard/step charge", why.Activity)
		require.ErrorContains(t, stepErr, "the worker is stopping")
		require.True(t, once.MayHaveHappened(stepErr), "a step before it has")
		require.Equal(t, 1, done)
	})
}

// A step does not need half of the attempt, as a call does.
func TestStep_IsBegunLateInTheAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sc := &scene{within: time.Minute}
		require.NoError(t, sc.play(t, newGuard(t, memory(), options(once.Mark(once.Policy{}, "ChargeCard"))), func(ctx context.Context) {
			later(50 * time.Second)
			_, err := atmostonce.Step(ctx, "charge", func(context.Context) (int, error) { return 1, nil })
			require.NoError(t, err)
			later(9 * time.Second)
			_, err = atmostonce.Step(ctx, "ship", func(context.Context) (int, error) { return 1, nil })
			require.Error(t, err, "the answer would come too late")
		}))
	})
}

func TestStep_OfAZombieAndItsSuccessorRunsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cut := newFaulty()
		p := once.Mark(once.Policy{InDoubt: once.Rerun}, "ChargeCard")
		effects := 0
		begun, zombie := make(chan struct{}), make(chan error, 1)
		body := func(wait bool) func(context.Context, charge) (int, error) {
			return func(ctx context.Context, _ charge) (int, error) {
				if wait { // its claim is lost meanwhile
					close(begun)
					later(10 * time.Minute)
					ctx = context.WithoutCancel(ctx)
				}
				n, err := atmostonce.Step(ctx, "charge", func(context.Context) (int, error) { effects++; return effects, nil })
				if wait {
					zombie <- err
				}
				return n, err
			}
		}
		first := newGuard(t, cut, options(p))
		go func() { _, _ = execute(t, first, body(true), order(7)) }()
		<-begun
		cut.set("renew", fault{times: always})
		later(5 * time.Minute) // the lease is over, and nobody renews it
		second := newGuard(t, cut.Memory, options(p))
		_, err := execute(t, second, body(false), order(7))
		if err != nil { // it put the key in doubt
			later(time.Minute)
			_, err = execute(t, second, body(false), order(7))
		}
		require.NoError(t, err)
		require.Error(t, <-zombie)
		require.Equal(t, 1, effects)
	})
}

func TestStep_ReportsToTheTokenOfItsCall(t *testing.T) {
	t.Parallel()
	_, err := execute(t, guarded(t, memory(), once.Policy{}), func(ctx context.Context, _ charge) (int, error) {
		outer, _ := once.FromContext(ctx)
		return atmostonce.Step(ctx, "charge", func(ctx context.Context) (int, error) {
			inner, _ := once.FromContext(ctx)
			require.NotEqual(t, outer.Key, inner.Key)
			require.Equal(t, outer.Token(), inner.Token())
			return 1, nil
		})
	}, order(7))
	require.NoError(t, err)
	_, err = execute(t, guarded(t, memory(), once.Policy{}), func(ctx context.Context, _ charge) (int, error) {
		return atmostonce.Step(ctx, "charge", func(context.Context) (int, error) { return 0, sdkactivity.ErrResultPending })
	}, order(7))
	requireReason(t, err, once.InDoubt, true)
}

// watcher notes what has ended.
type watcher struct{ all []string }

func (w *watcher) Begin(ctx context.Context, _ observe.Event) (context.Context, func(observe.Event)) {
	return ctx, func(e observe.Event) {
		w.all = append(w.all, strings.Join(slices.DeleteFunc([]string{e.Kind.String(), string(e.Notice), e.Activity}, func(s string) bool { return s == "" }), " "))
	}
}

func TestStep_IsReportedUnderOneTypeAndWithoutTheNoticesOfItsCall(t *testing.T) {
	t.Parallel()
	var ends watcher
	o := options(once.Mark(once.Policy{}, "ChargeCard"))
	o.Observers = []observe.Observer{&ends}
	sc := &scene{info: onlyAttempt}
	require.NoError(t, sc.play(t, newGuard(t, memory(), o), func(ctx context.Context) {
		_, err := atmostonce.Step(ctx, "charge", func(context.Context) (int, error) { return 1, nil })
		require.NoError(t, err)
	}))
	require.Equal(t, []string{"notice one_attempt ChargeCard", "execute ChargeCard/step", "execute ChargeCard"}, ends.all)
}

func TestStep_NeedsAMarkedActivity(t *testing.T) {
	t.Parallel()
	g := newGuard(t, memory(), options(once.Mark(once.Policy{}, "Refund"), once.Exempt("ChargeCard")))
	env := environment(t, g)
	env.RegisterActivityWithOptions((&payments{}).Refund, sdkactivity.RegisterOptions{Name: "Refund"})
	env.RegisterActivityWithOptions(func(ctx context.Context, _ charge) (int, error) {
		return atmostonce.Step(ctx, "charge", func(context.Context) (int, error) { return 1, nil })
	}, sdkactivity.RegisterOptions{Name: "ChargeCard"})
	_, err := env.ExecuteActivity("ChargeCard", order(7))
	require.ErrorContains(t, err, "a step needs the context of the guarded call")
}

// The call has been asked about; its steps are not asked about again.
func TestStep_OfADistrustedCallRunsOnceThatIsDecided(t *testing.T) {
	t.Parallel()
	s := memory()
	o := options(once.Mark(once.Policy{}, "ChargeCard"))
	o.DistrustBefore = time.Now().Add(time.Hour)
	g := newGuard(t, s, o)
	body := func(ctx context.Context, _ charge) (int, error) {
		return atmostonce.Step(ctx, "charge", func(context.Context) (int, error) { return 5, nil })
	}
	_, err := execute(t, g, body, order(7))
	requireReason(t, err, once.InDoubt, true)
	_, err = g.Resolve(t.Context(), only(t, s), resolve.AsNotDone(), forced("asked the provider"))
	require.NoError(t, err)
	got, err := execute(t, g, body, order(7))
	require.NoError(t, err)
	require.Equal(t, 5, got)
}

func TestStep_ThatFailsInDoubtEndsItsCall(t *testing.T) {
	t.Parallel()
	g := guarded(t, memory(), once.Policy{InDoubt: once.Rerun})
	body := func(ctx context.Context, _ charge) (int, error) {
		return atmostonce.Step(ctx, "charge", func(context.Context) (int, error) { return 0, once.MaybeDone(errors.New("no answer")) },
			once.Policy{InDoubt: once.Fail})
	}
	_, err := execute(t, g, body, order(7))
	requireReason(t, err, once.InDoubt, true)
	later(60 * time.Millisecond)
	_, err = execute(t, g, body, order(7))
	requireReason(t, err, once.InDoubt, false)
	require.ErrorContains(t, err, "ChargeCard/step charge")
}
