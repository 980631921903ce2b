package atmostonce_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

var errOther = errors.New("the order was not paid")

// A body that answers with an error of its own does not make a step certain that is not.
func TestStep_InDoubtIsNotHiddenByAnotherError(t *testing.T) {
	t.Parallel()
	unsure := func(context.Context) (int, error) { return 0, once.MaybeDone(errors.New("no answer")) }
	declined := func(context.Context) (int, error) { return 0, once.NotDone(errDeclined) }
	for name, body := range map[string]func(ctx context.Context) error{
		"another one": func(ctx context.Context) error {
			_, err := atmostonce.Step(ctx, "charge", unsure)
			require.ErrorIs(t, err, once.InDoubt)
			return errOther
		},
		"its text": func(ctx context.Context) error {
			_, err := atmostonce.Step(ctx, "charge", unsure)
			return errors.New(err.Error())
		},
		"of a step beside it": func(ctx context.Context) error {
			var all sync.WaitGroup
			all.Go(func() { _, _ = atmostonce.Step(ctx, "charge", unsure) })
			_, err := atmostonce.Step(ctx, "reserve", declined)
			all.Wait()
			require.ErrorIs(t, err, errDeclined)
			return err
		},
		"after a panic of the step": func(ctx context.Context) error {
			func() {
				defer func() { _ = recover() }()
				_, _ = atmostonce.Step(ctx, "charge", func(context.Context) (int, error) { panic("boom") })
			}()
			return errOther
		},
		"while the step runs": func(ctx context.Context) error {
			begun, end := make(chan struct{}), make(chan struct{})
			go func() {
				_, _ = atmostonce.Step(ctx, "charge", func(context.Context) (int, error) {
					close(begun)
					<-end
					return 1, nil
				})
			}()
			<-begun
			time.AfterFunc(time.Second, func() { close(end) })
			return errOther
		},
		"of a result that is not kept": func(ctx context.Context) error {
			_, err := atmostonce.Step(ctx, "charge", func(context.Context) (func(), error) { return func() {}, nil })
			require.ErrorIs(t, err, once.OutcomeNotKept)
			return errOther
		},
	} {
		for _, onFailure := range []once.FailurePolicy{once.Unlock, once.Lock} {
			synctest.Test(t, func(t *testing.T) {
				o := newOrder(t, byID, atmostonce.Options{Errors: []error{errOther, errDeclined}})
				f := atmostonce.Func(o.guard, "order", under(func(p *once.Policy) { p.OnFailure = onFailure }), func(ctx context.Context, _ event) (int, error) {
					return 0, body(ctx)
				})
				_, err := f(t.Context(), event{ID: "7"})
				require.ErrorIs(t, err, once.InDoubt, name)
				require.True(t, atmostonce.MayHaveHappened(err), name)
				require.Equal(t, store.InDoubt, o.records()["k:7"].State, name)
				require.NoError(t, o.guard.Close(t.Context()))
			})
		}
	}
}

// What is known of each step, or said of all of them, is believed.
func TestStep_ThatIsCertainLeavesItsCallCertain(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]func(ctx context.Context) error{
		"finished": func(ctx context.Context) error {
			_, err := atmostonce.Step(ctx, "charge", func(context.Context) (int, error) { return 1, nil })
			require.NoError(t, err)
			return errOther
		},
		"declined": func(ctx context.Context) error {
			_, err := atmostonce.Step(ctx, "charge", func(context.Context) (int, error) { return 0, errDeclined })
			require.ErrorIs(t, err, errDeclined)
			return errOther
		},
		"not done, beside a step that is finished": func(ctx context.Context) error {
			_, _ = atmostonce.Step(ctx, "reserve", func(context.Context) (int, error) { return 1, nil })
			_, err := atmostonce.Step(ctx, "charge", func(context.Context) (int, error) { return 0, once.NotDone(context.DeadlineExceeded) })
			return err
		},
		"misused": func(ctx context.Context) error {
			_, err := atmostonce.Step[int](ctx, "charge", nil)
			require.ErrorIs(t, err, once.BadSetup)
			return errOther
		},
		"in doubt, and taken back by the body": func(ctx context.Context) error {
			_, err := atmostonce.Step(ctx, "charge", func(context.Context) (int, error) { return 0, once.MaybeDone(errOther) })
			require.ErrorIs(t, err, once.InDoubt)
			return once.NotDone(errOther)
		},
	} {
		o := newOrder(t, byID, atmostonce.Options{})
		f := atmostonce.Func(o.guard, "order", byID, func(ctx context.Context, _ event) (int, error) { return 0, body(ctx) })
		_, err := f(t.Context(), event{ID: "7"})
		require.False(t, atmostonce.MayHaveHappened(err), "%s: %v", name, err)
		require.Equal(t, store.Tombstone, o.records()["k:7"].State, name)
	}
}

// withFunc is an error that is equal to no other, not even to itself.
type withFunc struct {
	error
	_ func()
}

func (w withFunc) Unwrap() error { return w.error }

func TestStep_NotDoneHoldsForErrorsThatEqualNothing(t *testing.T) {
	t.Parallel()
	for _, p := range []once.Policy{{}, {OnFailure: once.Classify(func(error) once.FailurePolicy { return once.Unlock })}} {
		o := newOrder(t, byID, atmostonce.Options{})
		f := atmostonce.Func(o.guard, "order", byID, func(ctx context.Context, _ event) (int, error) {
			return atmostonce.Step(ctx, "charge", func(context.Context) (int, error) {
				err := withFunc{context.DeadlineExceeded, func() {}}
				if p.OnFailure == (once.FailurePolicy{}) {
					return 0, once.NotDone(err)
				}
				return 0, err
			}, p)
		})
		_, err := f(t.Context(), event{ID: "7"})
		require.NotErrorIs(t, err, once.InDoubt)
		require.Equal(t, store.Tombstone, o.records()["k:7"].State)
	}
}

// A run that was certain of itself says nothing of the one before it, which is in doubt:
// neither does its mark.
func TestFunc_TheMarkOfAnInnerCallSaysNothingOfItsDoubt(t *testing.T) {
	t.Parallel()
	fails := func(run int) error {
		if run == 1 {
			return once.MaybeDone(errors.New("no answer"))
		}
		return fmt.Errorf("charge: %w", once.NotDone(errDeclined))
	}
	for name, inner := range map[string]func(*atmostonce.Guard, *int) func(context.Context, event) (int, error){
		"a step": func(_ *atmostonce.Guard, runs *int) func(context.Context, event) (int, error) {
			return func(ctx context.Context, _ event) (int, error) {
				return atmostonce.Step(ctx, "charge", func(context.Context) (int, error) { *runs++; return 0, fails(*runs) }, once.Policy{InDoubt: once.Rerun})
			}
		},
		"a function": func(g *atmostonce.Guard, runs *int) func(context.Context, event) (int, error) {
			return atmostonce.Func(g, "charge", rerun, func(context.Context, event) (int, error) { *runs++; return 0, fails(*runs) })
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			o := newOrder(t, byID, atmostonce.Options{})
			runs := 0
			charge := inner(o.guard, &runs)
			f := atmostonce.Func(o.guard, "order", rerun, func(ctx context.Context, in event) (int, error) {
				n, err := charge(ctx, in)
				if runs == 1 {
					return n, once.NotDone(err) // the key of the call is free, and its next run is a first one
				}
				return n, err
			})
			_, err := f(t.Context(), event{ID: "7"})
			require.Error(t, err, name)
			<-time.After(time.Hour)
			_, err = f(t.Context(), event{ID: "7"})
			require.Equal(t, 2, runs)
			require.ErrorIs(t, err, once.InDoubt, name)
			require.Equal(t, store.InDoubt, o.records()["k:7"].State, name)
		})
	}
}

func TestMayHaveHappened_AsksEveryBranch(t *testing.T) {
	t.Parallel()
	inDoubt := &atmostonce.Error{Refusal: once.Refusal{Reason: once.InDoubt}}
	untouched := &atmostonce.Error{Refusal: once.Refusal{Reason: once.InFlight, Untouched: true}}
	for _, err := range []error{errors.Join(untouched, inDoubt), fmt.Errorf("%w, %w", errors.Join(untouched, errDeclined), fmt.Errorf("b: %w", inDoubt))} {
		require.True(t, atmostonce.MayHaveHappened(err), err)
	}
	for _, err := range []error{nil, untouched, errDeclined, errors.Join(untouched, errDeclined)} {
		require.False(t, atmostonce.MayHaveHappened(err), err)
	}
}

// Who has given up a call will not write down what more it does.
func TestStep_IsNotBegunAfterTheGuardHasGivenUpItsCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOrder(t, byID, atmostonce.Options{})
		givenUp, stepErr := make(chan struct{}), make(chan error, 1)
		f := atmostonce.Func(o.guard, "order", byID, func(ctx context.Context, _ event) (receipt, error) {
			<-givenUp
			r, err := o.step(ctx, "charge")
			stepErr <- err
			return r, err
		})
		go func() { _, _ = f(t.Context(), event{ID: "7"}) }()
		synctest.Wait()
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Error(t, o.guard.Close(short))
		close(givenUp)
		err := <-stepErr
		require.ErrorIs(t, err, once.InFlight)
		require.ErrorContains(t, err, "the guard is being closed")
		require.Empty(t, o.effects)
	})
}

// hanging is a store that gives no answer.
type hanging struct{ store.Store }

func (hanging) Acquire(ctx context.Context, _ store.Bid) (store.Record, error) {
	<-ctx.Done()
	return store.Record{}, ctx.Err()
}

func (hanging) Release(ctx context.Context, _ store.Bid) (store.Record, error) {
	<-ctx.Done()
	return store.Record{}, ctx.Err()
}

// The steps of a call that is observed do not ask again a store that hangs.
func TestStep_OfAnObservedCallDoesNotWaitForTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, err := atmostonce.New(hanging{store.NewMemory(store.MemoryOptions{})}, atmostonce.Options{Mode: func(string) once.Mode { return once.Observe }})
		require.NoError(t, err)
		f := atmostonce.Func(g, "order", byID, func(ctx context.Context, _ event) (all []string, err error) {
			for i := range 20 {
				key, err := atmostonce.Step(ctx, fmt.Sprint("line ", i), func(ctx context.Context) (string, error) { return once.Key(ctx), nil })
				require.NoError(t, err)
				all = append(all, key)
			}
			return all, nil
		})
		began := time.Now()
		all, err := f(t.Context(), event{ID: "7"})
		require.NoError(t, err)
		require.LessOrEqual(t, time.Since(began), 5*time.Second)
		require.Equal(t, keys.Downstream("v1/functions/n/order/k:7/s:line%2019"), all[19])
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_ = g.Close(short)
	})
}

// Two guards of one store and one namespace guard one effect: the second would wait for
// the first, which waits for it.
func TestFunc_CallsItselfThroughAnotherGuardOfTheStore(t *testing.T) {
	t.Parallel()
	s := store.NewMemory(store.MemoryOptions{})
	o := atmostonce.Options{Defaults: once.Policy{OnDuplicate: once.Wait}}
	inner := atmostonce.Func(newGuardOver(t, s, o), "charge", byID, echo)
	outer := atmostonce.Func(newGuardOver(t, s, o), "charge", byID, func(ctx context.Context, in event) (receipt, error) { return inner(ctx, in) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := outer(ctx, event{ID: "7"})
	require.ErrorContains(t, err, "calls itself under its own key")
	require.ErrorIs(t, errors.Unwrap(err), once.BadSetup)
}

func TestStep_IsResolvedUnderThePolicyOfItsCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, finding := range map[string]resolve.Finding{"done": resolve.AsDone(receipt{"found"}), "failed": resolve.AsFailed(errDeclined), "not done": resolve.AsNotDone()} {
			p := rerun
			p.TTL = 90 * 24 * time.Hour
			o := newOrder(t, p, atmostonce.Options{Defaults: once.Policy{TTL: time.Hour}, Errors: []error{errDeclined}})
			o.fail["charge"] = once.MaybeDone(errors.New("no answer"))
			_, err := o.call()
			var e *atmostonce.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, "order", e.Activity)
			require.ErrorAs(t, errors.Unwrap(err), &e)
			require.Equal(t, "order/step charge", e.Activity)
			<-time.After(10 * 24 * time.Hour)

			found, err := o.guard.Find(t.Context(), e.Key)
			require.NoError(t, err)
			require.Equal(t, o.records()["s:charge"].Key, found.Key)
			_, err = o.guard.Forget(t.Context(), found, ann)
			require.ErrorContains(t, err, "in doubt")
			now, err := o.guard.Resolve(t.Context(), found, finding, ann)
			require.NoError(t, err, name)
			if name != "not done" {
				require.GreaterOrEqual(t, now.Expires.Sub(now.Now), p.TTL, name)
			}
			delete(o.fail, "charge")
			_, err = o.call()
			if name == "failed" {
				require.ErrorIs(t, err, errDeclined)
			} else {
				require.NoError(t, err)
				require.Equal(t, map[string][]string{"done": {"reserve", "ship"}, "not done": {"reserve", "charge", "ship"}}[name], o.effects)
			}
			now, err = o.guard.Forget(t.Context(), o.records()["s:reserve"], ann)
			require.NoError(t, err)
			require.Equal(t, store.Tombstone, now.State)
		}
	})
}

// What no other run would get past, none is asked for.
func TestStep_ThatFailsInDoubtForGoodEndsItsCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			step once.DoubtPolicy
			want []time.Duration // of the first call, and of those after the settle delay
		}{
			{once.Fail, []time.Duration{30 * time.Second, 0, 0}},
			{once.HoldFor(time.Minute), []time.Duration{30 * time.Second, 0, 0}},
			{once.Hold, []time.Duration{30 * time.Second, 30 * time.Second, 30 * time.Second}},
		} {
			o := newOrder(t, rerun, atmostonce.Options{})
			o.options = []once.Policy{{InDoubt: tc.step}}
			o.fail["charge"] = once.MaybeDone(errors.New("no answer"))
			for _, want := range tc.want {
				_, err := o.call()
				require.Equal(t, want, refusalOf(t, err, once.InDoubt).RetryAfter, tc.step)
				require.Equal(t, store.InDoubt, o.records()["k:7"].State)
				<-time.After(time.Hour)
			}
			require.Equal(t, []string{"reserve"}, o.effects)
		}
	})
}

// A build that cannot read what a step has recorded neither runs it nor forgets it.
func TestStep_WhoseRecordCannotBeReadHoldsUntilAnotherBuildCan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory(store.MemoryOptions{})
		runs := 0
		before := atmostonce.Func(newGuardOver(t, s, atmostonce.Options{}), "order", rerun, func(ctx context.Context, in event) (string, error) {
			charge, err := atmostonce.Step(ctx, "charge", func(context.Context) (string, error) { runs++; return "ch", nil })
			if in.Note == "" {
				err = errOther
			}
			return charge, err
		})
		after := atmostonce.Func(newGuardOver(t, s, atmostonce.Options{}), "order", rerun, func(ctx context.Context, _ event) (string, error) {
			n, err := atmostonce.Step(ctx, "charge", func(context.Context) (int, error) { runs++; return 1, nil })
			return fmt.Sprint(n), err
		})
		_, err := before(t.Context(), event{ID: "7"})
		require.ErrorIs(t, err, errOther)
		for range 2 {
			_, err = after(t.Context(), event{ID: "7"})
			require.ErrorIs(t, errors.Unwrap(err), once.BadRecord)
			require.Positive(t, refusalOf(t, err, once.InDoubt).RetryAfter)
			<-time.After(time.Hour)
		}
		got, err := before(t.Context(), event{ID: "7", Note: "now"})
		require.NoError(t, err)
		require.Equal(t, "ch", got)
		require.Equal(t, 1, runs)
	})
}

// Steps keep what the guard keeps secret, and answers of many callers are those of one run.
func TestStep_OfASecretCallThatManyWaitFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory(store.MemoryOptions{})
		g := newGuardOver(t, s, atmostonce.Options{KeySecret: []byte("0123456789abcdef"), Codec: sealed{key: [32]byte{1}}, Defaults: once.Policy{OnDuplicate: once.Wait, InDoubt: once.Rerun}})
		var mu sync.Mutex
		runs := map[string]int{}
		f := atmostonce.Func(g, "order", byID, func(ctx context.Context, in event) (string, error) {
			results := make([]string, 8)
			var all sync.WaitGroup
			for i := range results {
				all.Go(func() {
					name := fmt.Sprint("line ", i)
					results[i], _ = atmostonce.Step(ctx, name, func(context.Context) (string, error) {
						<-time.After(time.Second)
						mu.Lock()
						defer mu.Unlock()
						if runs[name]++; i == 3 && runs[name] == 1 {
							return "", once.MaybeDone(errOther)
						}
						return "secret " + name, nil
					}, once.Policy{InDoubt: once.Rerun})
				})
			}
			all.Wait()
			if results[3] == "" {
				return "", errOther
			}
			return fmt.Sprint(results), nil
		})
		answers := map[string]int{}
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				got, err := f(t.Context(), event{ID: "card4711"})
				if err != nil {
					require.ErrorIs(t, err, once.InDoubt)
				}
				mu.Lock()
				defer mu.Unlock()
				answers[got]++
			})
		}
		all.Wait()
		require.Equal(t, 1, answers[""], "of the run that was in doubt")
		require.Len(t, answers, 2)
		for name, n := range runs {
			require.Equal(t, map[bool]int{true: 2, false: 1}[name == "line 3"], n, name)
		}
		for r, err := range s.List(t.Context(), store.Query{}) {
			require.NoError(t, err)
			require.NotContains(t, r.Key+string(r.Outcome.Data), "card4711")
			require.NotContains(t, string(r.Outcome.Data), "secret")
		}
		require.NoError(t, g.Close(t.Context()))
	})
}

// A step that has lost its key to another run answers with what that means, and not with
// what it says of itself.
func TestStep_ThatWasSupersededSpeaksForNobody(t *testing.T) {
	t.Parallel()
	for name, begins := range map[string]bool{"begun": true, "not begun": false} {
		o := newOrder(t, byID, atmostonce.Options{})
		f := atmostonce.Func(o.guard, "order", byID, func(ctx context.Context, _ event) (receipt, error) {
			if begins {
				once.Begin(ctx)
			}
			return atmostonce.Step(ctx, "charge", func(ctx context.Context) (receipt, error) {
				r := o.records()["s:charge"]
				free, err := o.store.Resolve(ctx, r.Key, r, store.Resolution{ID: "x", To: store.Tombstone, By: store.ByOperator, TTL: time.Hour, Force: true})
				require.NoError(t, err)
				_, err = o.store.Acquire(ctx, store.Bid{Key: free.Key, Owner: "another", Info: r.Info, Lease: time.Minute, TTL: time.Hour})
				require.NoError(t, err)
				return receipt{}, once.NotDone(errDeclined)
			})
		})
		_, err := f(t.Context(), event{ID: "7"})
		require.ErrorIs(t, err, once.InFlight, name)
		require.Equal(t, begins, errors.Is(err, once.InDoubt), name)
		require.True(t, atmostonce.MayHaveHappened(err), name)
	}
}

// Steps are decided about apart from their call.
func TestStep_OfACallThatIsReopenedIsReplayedUnlessItIsReopenedToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOrder(t, byID, atmostonce.Options{})
		reopen := func(names ...string) {
			<-time.After(time.Hour)
			for i, name := range names {
				var err error
				if r := o.records()[name]; i == 0 {
					_, err = o.guard.Forget(t.Context(), r, ann)
				} else {
					_, err = o.guard.Resolve(t.Context(), r, resolve.AsNotDone(), ann)
				}
				require.NoError(t, err, name)
			}
			_, err := o.call()
			require.NoError(t, err)
		}
		reopen()
		require.Equal(t, []string{"reserve", "charge", "ship"}, o.effects)
		reopen("k:7")
		require.Equal(t, []string{"reserve", "charge", "ship"}, o.effects)
		reopen("s:charge", "s:ship", "k:7")
		require.Equal(t, []string{"reserve", "charge", "ship", "charge", "ship"}, o.effects)
	})
}
