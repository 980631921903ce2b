package atmostonce_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// rerun runs the body again, once the settle delay is over.
var rerun = once.Policy{Key: byID.Key, Match: byID.Match, InDoubt: once.Rerun}

// order is a function of steps.
type order struct {
	t      *testing.T
	guard  *atmostonce.Guard
	store  *store.Memory
	policy once.Policy

	effects []string // with the step's key
	fail    map[string]error
	crash   string // the step that does not return
	options []once.Policy
	after   error // what the body returns when its steps are done
}

func newOrder(t *testing.T, p once.Policy, o atmostonce.Options) *order {
	t.Helper()
	s := store.NewMemory(store.MemoryOptions{})
	g, err := atmostonce.New(s, o)
	require.NoError(t, err)
	return &order{t: t, guard: g, store: s, policy: p, fail: map[string]error{}}
}

func (o *order) step(ctx context.Context, name string, policy ...once.Policy) (receipt, error) {
	return atmostonce.Step(ctx, name, func(ctx context.Context) (receipt, error) {
		if err := o.fail[name]; err != nil {
			return receipt{}, err
		}
		o.effects = append(o.effects, name)
		if o.crash == name {
			o.crash = ""
			runtime.Goexit()
		}
		return receipt{fmt.Sprintf("%s_%d", once.Key(ctx), len(o.effects))}, nil
	}, policy...)
}

func (o *order) call() (all []receipt, err error) {
	o.t.Helper()
	var f func(context.Context, event) ([]receipt, error)
	ended := make(chan struct{})
	err = errors.New("it did not return")
	go func() { // which may end by Goexit
		defer close(ended)
		f = atmostonce.Func(o.guard, "order", o.policy, func(ctx context.Context, _ event) (all []receipt, err error) {
			for _, name := range []string{"reserve", "charge", "ship"} {
				r, err := o.step(ctx, name, o.options...)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", name, err)
				}
				all = append(all, r)
			}
			return all, o.after
		})
		all, err = f(o.t.Context(), event{ID: "7"})
	}()
	<-ended
	return all, err
}

func (o *order) records() map[string]store.Record {
	all := map[string]store.Record{}
	for r, err := range o.store.List(o.t.Context(), store.Query{}) {
		require.NoError(o.t, err)
		all[r.Key[strings.LastIndex(r.Key, "/")+1:]] = r
	}
	return all
}

func TestStep_IsReplayedWhenTheBodyRunsAgain(t *testing.T) {
	t.Parallel()
	o := newOrder(t, byID, atmostonce.Options{})
	o.fail["ship"] = errors.New("no stock")
	_, err := o.call()
	require.ErrorIs(t, err, o.fail["ship"])
	records := o.records()
	require.Equal(t, store.Succeeded, records["s:charge"].State)
	require.Equal(t, "order/step", records["s:charge"].Info.Activity)
	require.Equal(t, keys.Step(records["k:7"].Key, "charge"), records["s:charge"].Key)

	delete(o.fail, "ship")
	all, err := o.call()
	require.NoError(t, err)
	require.Equal(t, []string{"reserve", "charge", "ship"}, o.effects)
	for i, name := range []string{"reserve", "charge", "ship"} {
		require.Equal(t, receipt{fmt.Sprintf("%s_%d", keys.Downstream(keys.Step(records["k:7"].Key, name)), i+1)}, all[i])
	}
}

func TestStep_InDoubtHoldsItsCallUntilSomebodyDecides(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOrder(t, rerun, atmostonce.Options{})
		o.crash = "charge"
		_, err := o.call()
		require.EqualError(t, err, "it did not return")
		<-time.After(time.Hour)
		_, err = o.call()
		require.ErrorIs(t, err, once.InDoubt)
		require.ErrorContains(t, err, "order/step charge [key ")
		require.True(t, atmostonce.MayHaveHappened(err))
		records := o.records()
		require.Equal(t, store.InDoubt, records["k:7"].State)
		require.Equal(t, store.InDoubt, records["s:charge"].State, "a step is not run again because its call is")

		_, err = o.store.Resolve(t.Context(), records["s:charge"].Key, records["s:charge"], store.Resolution{
			ID: "x", To: store.Succeeded, By: store.ByOperator, TTL: time.Hour, Outcome: store.Outcome{State: store.Succeeded, Data: []byte(`{"Charge":"found"}`)},
		})
		require.NoError(t, err)
		<-time.After(time.Hour)
		all, err := o.call()
		require.NoError(t, err)
		require.Equal(t, receipt{"found"}, all[1])
		require.Equal(t, []string{"reserve", "charge", "ship"}, o.effects)
	})
}

func TestStep_HasAPolicyOfItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, tc := range map[string]struct {
			policy  once.Policy
			effects []string
			reason  error
		}{
			"reconcile": {once.Policy{InDoubt: once.Reconcile(func(_ context.Context, in event) (receipt, error) { return receipt{"found " + in.ID}, nil })}, []string{"reserve", "charge", "ship"}, nil},
			"not done":  {once.Policy{InDoubt: once.Reconcile(func(context.Context, event) (receipt, error) { return receipt{}, once.ErrNotDone })}, []string{"reserve", "charge", "charge", "ship"}, nil},
			"rerun":     {once.Policy{InDoubt: once.Rerun}, []string{"reserve", "charge", "charge", "ship"}, nil},
			"fail":      {once.Policy{InDoubt: once.Fail}, []string{"reserve", "charge"}, once.InDoubt},
		} {
			o := newOrder(t, rerun, atmostonce.Options{})
			o.crash, o.options = "charge", []once.Policy{tc.policy}
			_, _ = o.call()
			<-time.After(time.Hour)
			all, err := o.call()
			require.ErrorIs(t, err, tc.reason, name)
			require.Equal(t, tc.effects, o.effects, name)
			if name == "reconcile" {
				require.Equal(t, receipt{"found 7"}, all[1])
			}
		}
	})
}

func TestStep_MisuseIsAClearErrorInEachMode(t *testing.T) {
	t.Parallel()
	nothing := func(context.Context) (int, error) { return 1, nil }
	var lastCtx context.Context
	for complaint, body := range map[string]func(context.Context) (int, error){
		"two steps of this run are called charge": func(ctx context.Context) (int, error) {
			_, err := atmostonce.Step(ctx, "charge", nothing)
			require.NoError(t, err)
			return atmostonce.Step(ctx, "charge", nothing)
		},
		"step inner is called in step charge": func(ctx context.Context) (int, error) {
			return atmostonce.Step(ctx, "charge", func(ctx context.Context) (int, error) {
				n, err := atmostonce.Step(ctx, "inner", nothing)
				return n, once.NotDone(err)
			})
		},
		"the step has no name": func(ctx context.Context) (int, error) { return atmostonce.Step(ctx, "", nothing) },
		"the step has no function": func(ctx context.Context) (int, error) {
			return atmostonce.Step[int](ctx, "charge", nil)
		},
		"more than one policy": func(ctx context.Context) (int, error) {
			return atmostonce.Step(ctx, "charge", nothing, once.Policy{}, once.Policy{})
		},
		"has no Key, Match or Scope": func(ctx context.Context) (int, error) {
			return atmostonce.Step(ctx, "charge", nothing, byID)
		},
		"take Return or Wait": func(ctx context.Context) (int, error) {
			return atmostonce.Step(ctx, "charge", nothing, once.Policy{OnDuplicate: once.Reject})
		},
		"take Rerun or Reconcile": func(ctx context.Context) (int, error) {
			return atmostonce.Step(ctx, "charge", nothing, once.Policy{InDoubt: once.Resume})
		},
		"the function wants string, but the argument is of type atmostonce_test.event": func(ctx context.Context) (int, error) {
			return atmostonce.Step(ctx, "charge", nothing, once.Policy{InDoubt: once.Reconcile(func(context.Context, string) (int, error) { return 0, nil })})
		},
		"the function finds string, but the result is of type int": func(ctx context.Context) (int, error) {
			return atmostonce.Step(ctx, "charge", nothing, once.Policy{InDoubt: once.Reconcile(func(context.Context, event) (string, error) { return "", nil })})
		},
		"let it wait for its steps": func(ctx context.Context) (int, error) {
			if lastCtx == nil {
				lastCtx = ctx
				return 0, errors.New("later")
			}
			return atmostonce.Step(lastCtx, "charge", nothing)
		},
	} {
		for _, mode := range []once.Mode{once.Enforce, once.Observe, once.Off} {
			lastCtx = nil
			g := newGuard(t, atmostonce.Options{Mode: func(string) once.Mode { return mode }})
			f := atmostonce.Func(g, "order", byID, func(ctx context.Context, _ event) (int, error) { return body(ctx) })
			_, err := f(t.Context(), event{ID: "7"})
			if lastCtx != nil {
				_, err = f(t.Context(), event{ID: "7"})
			}
			require.ErrorIs(t, err, once.BadSetup, complaint)
			require.ErrorContains(t, err, complaint)
			require.NotContains(t, err.Error(), "Scope must be too", "a step has none")
			require.NotContains(t, err.Error(), "/step/step")
		}
	}
	_, err := atmostonce.Step(t.Context(), "charge", nothing)
	require.ErrorIs(t, err, once.BadSetup)
	require.ErrorContains(t, err, "a step needs the context of the guarded call")
}

// failing is a store that is down for the keys of some steps.
type failing struct {
	store.Store
	down string
}

func (f *failing) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	if f.down != "" && strings.HasSuffix(b.Key, f.down) {
		return store.Record{}, fmt.Errorf("dial: %w", context.DeadlineExceeded)
	}
	return f.Store.Acquire(ctx, b)
}

func TestStep_ThatWasNotRunPutsNothingInDoubtAndIsNeverKept(t *testing.T) {
	t.Parallel()
	for _, onFailure := range []once.FailurePolicy{once.Unlock, once.Lock} {
		s := &failing{store.NewMemory(store.MemoryOptions{}), "s:charge"}
		g, err := atmostonce.New(s, atmostonce.Options{})
		require.NoError(t, err)
		runs := map[string]int{}
		f := atmostonce.Func(g, "order", once.Policy{Key: byID.Key, OnFailure: onFailure}, func(ctx context.Context, _ event) (int, error) {
			for _, name := range []string{"reserve", "charge"} {
				if _, err := atmostonce.Step(ctx, name, func(context.Context) (int, error) { runs[name]++; return 1, nil }); err != nil {
					return 0, fmt.Errorf("%s: %w", name, err)
				}
			}
			return 2, nil
		})
		_, err = f(t.Context(), event{ID: "7"})
		require.ErrorIs(t, err, once.StoreDown)
		require.True(t, atmostonce.MayHaveHappened(err), "the step before it has")
		s.down = ""
		n, err := f(t.Context(), event{ID: "7"})
		require.NoError(t, err)
		require.Equal(t, 2, n)
		require.Equal(t, map[string]int{"reserve": 1, "charge": 1}, runs)
	}
}

func TestStep_ThatSaysNothingHappenedSaysSoForItsCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, tc := range map[string]struct {
			policy once.Policy
			err    error
			state  store.State
		}{
			"an answer": {once.Policy{}, errors.New("declined"), store.Tombstone},
			"not done":  {once.Policy{}, once.NotDone(context.DeadlineExceeded), store.Tombstone},
			"classified": {once.Policy{OnFailure: once.Classify(func(err error) once.FailurePolicy {
				return map[bool]once.FailurePolicy{true: once.Unlock, false: once.Doubt}[err.Error() != ""]
			})}, context.DeadlineExceeded, store.Tombstone},
			"ambiguous":    {once.Policy{}, context.DeadlineExceeded, store.InDoubt},
			"a maybe done": {once.Policy{}, once.MaybeDone(errors.New("?")), store.InDoubt},
		} {
			o := newOrder(t, byID, atmostonce.Options{})
			o.fail["charge"], o.options = tc.err, []once.Policy{tc.policy}
			_, err := o.call()
			require.Error(t, err, name)
			require.Equal(t, tc.state, o.records()["k:7"].State, name)
			require.Equal(t, tc.state, o.records()["s:charge"].State, name)
		}
	})
}

func TestStep_KeepsAFinalFailure(t *testing.T) {
	t.Parallel()
	o := newOrder(t, byID, atmostonce.Options{Errors: []error{errDeclined}})
	o.options = []once.Policy{{OnFailure: once.Lock}}
	o.fail["charge"] = errDeclined
	for range 2 {
		_, err := o.call()
		require.ErrorIs(t, err, errDeclined)
		delete(o.fail, "charge")
	}
	require.Equal(t, []string{"reserve"}, o.effects)
}

func TestStep_IsRefusedUnderALostClaim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOrder(t, rerun, atmostonce.Options{Lease: 30 * time.Second, SettleDelay: 15 * time.Second})
		f := atmostonce.Func(o.guard, "order", o.policy, func(ctx context.Context, _ event) (receipt, error) {
			r := o.records()["k:7"]
			_, err := o.store.Resolve(ctx, r.Key, r, store.Resolution{ID: "x", To: store.Tombstone, By: store.ByOperator, TTL: time.Hour, Force: true})
			require.NoError(t, err)
			<-time.After(time.Minute)
			return o.step(context.WithoutCancel(ctx), "charge")
		})
		_, err := f(t.Context(), event{ID: "7"})
		require.Error(t, err)
		require.Empty(t, o.effects)
	})
}

func TestStep_WhoseResultIsNotKeptRunsOnce(t *testing.T) {
	t.Parallel()
	o := newOrder(t, byID, atmostonce.Options{MaxOutcome: 10})
	o.after = errors.New("later")
	_, err := o.call()
	require.ErrorIs(t, err, o.after)
	_, err = o.call()
	require.ErrorIs(t, err, once.OutcomeNotKept)
	require.Equal(t, []string{"reserve", "charge", "ship"}, o.effects)

	g := newGuard(t, atmostonce.Options{})
	runs := 0
	f := atmostonce.Func(g, "odd", byID, func(ctx context.Context, _ event) (int, error) {
		_, err := atmostonce.Step(ctx, "charge", func(context.Context) (chan int, error) { runs++; return make(chan int), nil })
		return 0, err
	})
	for range 2 {
		_, err = f(t.Context(), event{ID: "7"})
		require.ErrorIs(t, err, once.InDoubt)
		require.ErrorContains(t, err, "odd/step charge")
	}
	require.Equal(t, 1, runs)
}

func TestStep_FollowsTheModeOfItsCall(t *testing.T) {
	t.Parallel()
	for mode, recorded := range map[once.Mode]int{once.Observe: 3, once.Off: 0} {
		o := newOrder(t, byID, atmostonce.Options{Mode: func(string) once.Mode { return mode }})
		for range 2 {
			all, err := o.call()
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(all[1].Charge, keys.Downstream("v1/functions/n/order/k:7/s:charge")), "the same key in each mode")
		}
		require.Len(t, o.effects, 6, mode)
		got := 0
		for name, r := range o.records() {
			if strings.HasPrefix(name, "s:") {
				require.Equal(t, store.Succeeded, r.State)
				got++
			}
		}
		require.Equal(t, recorded, got, mode)
	}
}

func TestStep_OfACallWithoutAKeyRunsPlainly(t *testing.T) {
	t.Parallel()
	skip := once.Policy{Key: keys.FromCall(func(keys.Call) (string, error) { return "", keys.ErrSkip })}
	o := newOrder(t, skip, atmostonce.Options{})
	all, err := o.call()
	require.NoError(t, err)
	require.Equal(t, []receipt{{"_1"}, {"_2"}, {"_3"}}, all)
	require.Empty(t, o.records())
}

func TestStep_OfDoHasNoArgumentToReconcile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, atmostonce.Options{Defaults: once.Policy{InDoubt: once.Rerun}})
		found := once.Policy{InDoubt: once.Reconcile(func(context.Context, struct{}) (string, error) { return "found", nil })}
		charge := func() (string, error) {
			return atmostonce.Do(t.Context(), g, "charge", "7", func(ctx context.Context) (string, error) {
				return atmostonce.Step(ctx, "charge", func(ctx context.Context) (string, error) {
					once.Begin(ctx)
					return "", errors.New("no answer")
				}, found)
			})
		}
		_, err := charge()
		require.ErrorIs(t, err, once.InDoubt)
		<-time.After(time.Hour)
		result, err := charge()
		require.NoError(t, err)
		require.Equal(t, "found", result)
	})
}

func TestStep_RunsBesideOthers(t *testing.T) {
	t.Parallel()
	f := atmostonce.Func(newGuard(t, atmostonce.Options{}), "order", byID, func(ctx context.Context, _ event) ([]string, error) {
		results := make(chan string, 10)
		for i := range 10 {
			go func() {
				r, err := atmostonce.Step(ctx, fmt.Sprint("line ", i), func(context.Context) (string, error) { return fmt.Sprint(i), nil })
				results <- fmt.Sprint(r, err)
			}()
		}
		var all []string
		for range 10 {
			all = append(all, <-results)
		}
		slices.Sort(all)
		return all, nil
	})
	all, err := f(t.Context(), event{ID: "7"})
	require.NoError(t, err)
	require.Equal(t, []string{"0<nil>", "1<nil>", "2<nil>", "3<nil>", "4<nil>", "5<nil>", "6<nil>", "7<nil>", "8<nil>", "9<nil>"}, all)
}

func TestStep_GoesOnWhileTheGuardCloses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOrder(t, byID, atmostonce.Options{})
		closed := make(chan error, 1)
		f := atmostonce.Func(o.guard, "order", byID, func(ctx context.Context, _ event) (receipt, error) {
			go func() { closed <- o.guard.Close(context.WithoutCancel(ctx)) }()
			<-time.After(time.Minute)
			return o.step(ctx, "charge")
		})
		_, err := f(t.Context(), event{ID: "7"})
		require.NoError(t, err)
		require.NoError(t, <-closed)
		require.Equal(t, store.Succeeded, o.records()["k:7"].State)
	})
}

func TestStep_IsRememberedAtLeastAsLongAsItsCall(t *testing.T) {
	t.Parallel()
	for own, want := range map[time.Duration]time.Duration{0: 48 * time.Hour, time.Hour: 48 * time.Hour, 96 * time.Hour: 96 * time.Hour} {
		o := newOrder(t, once.Policy{Key: byID.Key, TTL: 48 * time.Hour, OnDuplicate: once.Reject}, atmostonce.Options{})
		o.options = []once.Policy{{TTL: own}}
		o.fail["ship"] = errors.New("later")
		_, err := o.call()
		require.ErrorContains(t, err, "later")
		r := o.records()["s:charge"]
		require.WithinDuration(t, r.Settled.Add(want), r.Expires, want/12, "with the slack of the store")
		delete(o.fail, "ship")
		_, err = o.call()
		require.NoError(t, err, "a step of a call that rejects duplicates is replayed all the same")
	}
}

func TestStep_WaitsForTheOneThatRunsIfItsCallDoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOrder(t, rerun, atmostonce.Options{})
		begun, runs := make(chan struct{}), 0
		charge := func(ctx context.Context, p once.Policy) (int, error) {
			return atmostonce.Step(ctx, "charge", func(context.Context) (int, error) {
				if runs++; runs == 1 {
					close(begun)
					<-time.After(20 * time.Second)
				}
				return runs, nil
			}, p)
		}
		f := atmostonce.Func(o.guard, "order", rerun, func(ctx context.Context, _ event) (int, error) {
			return charge(ctx, once.Policy{OnDuplicate: once.Wait})
		})
		go func() { _, _ = f(t.Context(), event{ID: "7"}) }()
		<-begun
		r := o.records()["k:7"] // somebody says that its call did nothing
		_, err := o.store.Resolve(t.Context(), r.Key, r, store.Resolution{ID: "x", To: store.Tombstone, By: store.ByOperator, TTL: time.Hour, Force: true})
		require.NoError(t, err)
		got, err := f(t.Context(), event{ID: "7"})
		require.NoError(t, err)
		require.Equal(t, 1, got)
		require.Equal(t, 1, runs)
	})
}

// A call that runs plainly has the key of the call around it; its steps must not share that.
func TestStep_OfACallWithoutAKeyHasAKeyOfItsOwn(t *testing.T) {
	t.Parallel()
	g := newGuard(t, atmostonce.Options{})
	inner := atmostonce.Func(g, "inner", once.Policy{Key: keys.FromCall(func(keys.Call) (string, error) { return "", keys.ErrSkip })},
		func(ctx context.Context, _ event) (all []string, err error) {
			for _, name := range []string{"a", "b"} {
				key, err := atmostonce.Step(ctx, name, func(ctx context.Context) (string, error) { return once.Key(ctx), nil })
				require.NoError(t, err)
				all = append(all, key)
			}
			return append(all, once.Key(ctx)), nil
		})
	outer := atmostonce.Func(g, "outer", byID, inner)
	all, err := outer(t.Context(), event{ID: "7"})
	require.NoError(t, err)
	require.Len(t, all[0], 64)
	require.NotEqual(t, all[0], all[1])
	require.NotContains(t, all[:2], all[2])
}

// A key is free after a failure, also for another input: that gets no results of the first.
func TestStep_OfAnotherInputIsAMismatch(t *testing.T) {
	t.Parallel()
	for match, reason := range map[keys.Func]error{{}: once.Mismatch, keys.Any(): nil} {
		o := newOrder(t, byID, atmostonce.Options{})
		f := atmostonce.Func(o.guard, "order", once.Policy{Key: byID.Key, Match: match}, func(ctx context.Context, _ event) (receipt, error) {
			if _, err := o.step(ctx, "charge"); err != nil {
				return receipt{}, err
			}
			return o.step(ctx, "ship")
		})
		o.fail["ship"] = errors.New("no stock")
		_, err := f(t.Context(), event{ID: "7", Note: "2 pieces"})
		require.ErrorIs(t, err, o.fail["ship"])
		delete(o.fail, "ship")
		_, err = f(t.Context(), event{ID: "7", Note: "3 pieces"})
		require.ErrorIs(t, err, reason)
		_, err = f(t.Context(), event{ID: "7", Note: "2 pieces"})
		require.NoError(t, err, "the mismatch was not kept, and put nothing in doubt")
		require.Equal(t, []string{"charge", "ship"}, o.effects)
	}
}
