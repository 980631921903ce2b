package atmostonce_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

func echo(_ context.Context, in event) (receipt, error) { return receipt{in.ID}, nil }

func TestFunc_RefusesWhatCannotBeGuarded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		name   string
		policy once.Policy
		f      func(context.Context, event) (receipt, error)
		says   string
	}{
		"no function":                      {"charge", byID, nil, "the function is nil"},
		"no name":                          {"", byID, echo, "the name is empty"},
		"the name of steps":                {"charge/step", byID, echo, "the name ends in /step"},
		"a policy of retries":              {"charge", under(func(p *once.Policy) { p.InDoubt = once.Resume }), echo, "Resume"},
		"a scope of workflows":             {"charge", under(func(p *once.Policy) { p.Scope = keys.PerRun }), echo, "Scope PerRun is one of workflows"},
		"a key of another type":            {"charge", once.Policy{Key: keys.From(func(int) string { return "7" })}, echo, "Key"},
		"a match of another type":          {"charge", once.Policy{Match: keys.From(func(int) string { return "7" })}, echo, "Match"},
		"a question about another":         {"charge", once.Policy{InDoubt: once.Reconcile(func(context.Context, int) (receipt, error) { return receipt{}, nil })}, echo, "Reconcile"},
		"a question of another result":     {"charge", once.Policy{InDoubt: once.Reconcile(func(context.Context, event) (int, error) { return 0, nil })}, echo, "Reconcile"},
		"a policy that contradicts itself": {"charge", under(func(p *once.Policy) { p.InDoubt = once.HoldFor(-1) }), echo, "HoldFor"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuard(t, atmostonce.Options{})
			require.NoError(t, g.Err())
			charge := atmostonce.Func(g, c.name, c.policy, c.f)
			require.ErrorContains(t, g.Err(), c.says)
			require.ErrorContains(t, g.Start(t.Context()), c.says)
			_, err := charge(t.Context(), event{ID: "7"})
			e := refusalOf(t, err, once.BadSetup)
			require.ErrorContains(t, err, c.says)
			require.Zero(t, e.RetryAfter, "no other try gets another answer")
		})
	}
}

func TestFunc_OneNameIsOfOneType(t *testing.T) {
	t.Parallel()
	g := newGuard(t, atmostonce.Options{})
	first := atmostonce.Func(g, "charge", byID, echo)
	again := atmostonce.Func(g, "charge", byID, echo)
	require.NoError(t, g.Err())
	other := atmostonce.Func(g, "charge", once.Policy{}, func(context.Context, int) (receipt, error) { return receipt{}, nil })
	require.ErrorContains(t, g.Err(), "the name stands for a function of type")
	_, err := other(t.Context(), 7)
	requireRefusal(t, err, once.BadSetup)
	_, err = atmostonce.Do(t.Context(), g, "charge", "7", func(context.Context) (receipt, error) { return receipt{}, nil })
	requireRefusal(t, err, once.BadSetup)
	for _, charge := range []func(context.Context, event) (receipt, error){first, again} {
		r, err := charge(t.Context(), event{ID: "7"})
		require.NoError(t, err)
		require.Equal(t, receipt{"7"}, r)
	}
}

func TestNew_ReportsAllThatIsWrong(t *testing.T) {
	t.Parallel()
	same := errors.New("declined")
	_, err := atmostonce.New(nil, atmostonce.Options{
		Defaults: once.Policy{InDoubt: once.Resume, Scope: keys.PerWorkflow}, Lease: time.Millisecond, KeySecret: []byte("short"), MaxOutcome: -1,
		CountRecords: time.Millisecond, Errors: []error{nil, same, same, errors.New("declined")},
	})
	for _, says := range []string{"store is nil", "Resume", "Scope", "Lease", "KeySecret", "MaxOutcome", "CountRecords", "Errors[0] is nil", `two sentinels say "declined"`} {
		require.ErrorContains(t, err, says)
	}
	_, err = atmostonce.New((*store.Memory)(nil), atmostonce.Options{})
	require.ErrorContains(t, err, "store is nil")
}

func TestGuard_NilIsRefused(t *testing.T) {
	t.Parallel()
	for _, g := range []*atmostonce.Guard{nil, {}} {
		_, err := atmostonce.Func(g, "charge", byID, echo)(t.Context(), event{ID: "7"})
		requireRefusal(t, err, once.BadSetup)
		_, err = atmostonce.Do(t.Context(), g, "charge", "7", func(context.Context) (int, error) { return 1, nil })
		requireRefusal(t, err, once.BadSetup)
		require.True(t, atmostonce.MayHaveHappened(err), "nobody has asked a store")
		require.Error(t, g.Err())
		require.Error(t, g.Start(t.Context()))
		require.NoError(t, g.Close(t.Context()))
		_, err = g.Find(t.Context(), "b4b653605d0cd823")
		require.Error(t, err)
	}
}

type chatty struct{ panics bool }

func (c chatty) MarshalJSON() ([]byte, error) {
	if c.panics {
		panic("secret input")
	}
	return []byte(`{}`), nil
}

func TestFunc_WithoutAKeyNothingRuns(t *testing.T) {
	t.Parallel()
	g := newGuard(t, atmostonce.Options{})
	ran := false
	panics := atmostonce.Func(g, "panics", once.Policy{Key: keys.From(func(in event) string { return strings.Repeat("x", -len(in.ID)) })},
		func(context.Context, event) (int, error) { ran = true; return 0, nil })
	empty := atmostonce.Func(g, "empty", byID, func(context.Context, event) (int, error) { ran = true; return 0, nil })
	channel := atmostonce.Func(g, "channel", once.Policy{}, func(context.Context, chan int) (int, error) { ran = true; return 0, nil })
	talks := atmostonce.Func(g, "talks", once.Policy{}, func(context.Context, chatty) (int, error) { ran = true; return 0, nil })
	byNothing := atmostonce.Func(g, "matched", once.Policy{Key: keys.From(func(chan int) string { return "7" })}, func(context.Context, chan int) (int, error) { ran = true; return 0, nil })
	require.NoError(t, g.Err())
	for name, call := range map[string]func() error{
		"the key function panics":           func() error { _, err := panics(t.Context(), event{ID: "secret input"}); return err },
		"the key is empty":                  func() error { _, err := empty(t.Context(), event{}); return err },
		"the argument cannot be encoded":    func() error { _, err := channel(t.Context(), make(chan int)); return err },
		"the argument panics":               func() error { _, err := talks(t.Context(), chatty{true}); return err },
		"what must match cannot be encoded": func() error { _, err := byNothing(t.Context(), make(chan int)); return err },
		"Do has an empty key": func() error {
			_, err := atmostonce.Do(t.Context(), g, "once", "", func(context.Context) (int, error) { ran = true; return 0, nil })
			return err
		},
	} {
		err := call()
		e := refusalOf(t, err, once.BadKey)
		require.Zero(t, e.RetryAfter, name)
		require.NotContains(t, err.Error(), "secret input")
		require.False(t, ran, name)
	}
	keyed := atmostonce.Func(g, "keyed", once.Policy{Key: keys.From(func(chan int) string { return "7" }), Match: keys.Any()},
		func(context.Context, chan int) (int, error) { return 1, nil })
	_, err := channel(t.Context(), make(chan int))
	require.ErrorContains(t, err, "with a Policy.Key, and Match keys.Any(), it need not be")
	_, err = keyed(t.Context(), make(chan int))
	require.NoError(t, err, "as it says")
}

func TestFunc_WhatCannotBeKeptIsAnError(t *testing.T) {
	t.Parallel()
	g := newGuard(t, atmostonce.Options{MaxOutcome: 100})
	runs := 0
	counted := func(result any) func(context.Context, event) (any, error) {
		return func(context.Context, event) (any, error) { runs++; return result, nil }
	}
	for name, c := range map[string]struct {
		result any
		first  bool // it gets its result
	}{
		"a channel":        {make(chan int), false},
		"a panic":          {chatty{true}, false},
		"over the limit":   {strings.Repeat("x", 99), true},
		"within the limit": {strings.Repeat("x", 98), true},
	} {
		runs = 0
		f := atmostonce.Func(g, name, byID, counted(c.result))
		result, err := f(t.Context(), event{ID: "7"})
		if c.first {
			require.NoError(t, err, name)
			require.Equal(t, c.result, result)
		} else {
			requireRefusal(t, err, once.OutcomeNotKept)
			require.True(t, atmostonce.MayHaveHappened(err))
		}
		_, err = f(t.Context(), event{ID: "7"})
		if name == "within the limit" {
			require.NoError(t, err)
		} else {
			requireRefusal(t, err, once.OutcomeNotKept)
		}
		require.Equal(t, 1, runs, name)
	}
	atmostonce.Func(g, "a result that JSON cannot give back", byID, func(context.Context, event) (error, error) { return nil, nil })
	atmostonce.Func(g, "a channel of them", byID, func(context.Context, event) (chan int, error) { return nil, nil })
	atmostonce.Func(g, "a function of them", byID, func(context.Context, event) (func(), error) { return nil, nil })
	for _, what := range []string{"error", "chan int", "func()"} {
		require.ErrorContains(t, g.Err(), "a result of type "+what+" cannot be decoded from JSON")
	}
}

func TestFunc_AContextThatEndsWhileItWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, atmostonce.Options{Defaults: once.Policy{OnDuplicate: once.Wait}})
		release := make(chan struct{})
		charge := atmostonce.Func(g, "charge", byID, func(context.Context, event) (receipt, error) { <-release; return receipt{}, nil })
		go func() { _, _ = charge(t.Context(), event{ID: "7"}) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		_, err := charge(ctx, event{ID: "7"})
		require.Equal(t, 10*time.Second, time.Since(began))
		requireRefusal(t, err, once.InFlight)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "is being run by")
		require.True(t, atmostonce.MayHaveHappened(err), "the other call runs")
		cancelled, stop := context.WithCancelCause(t.Context())
		stop(errors.New("the client has gone"))
		_, err = charge(cancelled, event{ID: "8"})
		requireRefusal(t, err, once.InFlight)
		require.ErrorContains(t, err, "the client has gone")
		close(release)
		require.NoError(t, g.Close(t.Context()))
	})
}

func TestWebhook_FinishesForASenderThatHangsUp(t *testing.T) {
	t.Parallel()
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	for _, handler := range []http.Handler{
		webhook(newGuard(t, atmostonce.Options{})),
		Webhook(atmostonce.Func(newGuard(t, atmostonce.Options{}), "charge", once.Policy{}, func(ctx context.Context, o Order) (Receipt, error) {
			return Receipt{"R-" + o.ID}, ctx.Err()
		})),
	} {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequestWithContext(gone, http.MethodPost, "/?order=7", strings.NewReader(`{"ID": "7", "Cents": 1200}`)))
		require.Equal(t, "R-7\n", answer.Body.String())
	}
}

func TestFunc_StoreThatIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newWatched()
		g := newGuardOver(t, s, atmostonce.Options{})
		runs := 0
		charge := atmostonce.Func(g, "charge", byID, func(context.Context, event) (receipt, error) { runs++; return receipt{"ch_7"}, nil })
		broken := errors.New("the disk is gone")

		s.down.Store(&broken)
		_, err := charge(t.Context(), event{ID: "7"})
		e := refusalOf(t, err, once.StoreDown)
		require.ErrorIs(t, err, broken)
		require.Positive(t, e.RetryAfter)
		require.True(t, atmostonce.MayHaveHappened(err), "an earlier call may have run")
		require.Zero(t, runs)
		s.down.Store(nil)

		s.deaf.Store(&broken)
		began := time.Now()
		r, err := charge(t.Context(), event{ID: "7"})
		require.NoError(t, err, "it ran, and the write goes on in the background")
		require.Equal(t, receipt{"ch_7"}, r)
		require.Equal(t, 10*time.Second, time.Since(began))
		_, err = charge(t.Context(), event{ID: "7"})
		requireRefusal(t, err, once.InFlight)
		s.deaf.Store(nil)
		time.Sleep(10 * time.Second) //nolint:forbidigo // a bubble's clock
		_, err = charge(t.Context(), event{ID: "7"})
		require.NoError(t, err)
		require.Equal(t, 1, runs)
		require.NoError(t, g.Close(t.Context()))
	})
}

func TestFunc_CallsItself(t *testing.T) {
	t.Parallel()
	for _, p := range []once.DuplicatePolicy{once.Return, once.Reject, once.Wait} {
		s := store.NewMemory(store.MemoryOptions{})
		g := newGuardOver(t, s, atmostonce.Options{Defaults: once.Policy{OnDuplicate: p}})
		elsewhere := newGuard(t, atmostonce.Options{Defaults: once.Policy{OnDuplicate: p}})
		var charge, through func(context.Context, event) (receipt, error)
		charge = atmostonce.Func(g, "charge", byID, func(ctx context.Context, in event) (receipt, error) {
			switch in.Note {
			case "itself":
				return charge(ctx, in)
			case "through another":
				return through(ctx, in)
			case "another key":
				return charge(ctx, event{ID: in.ID + "0"})
			case "another store":
				return atmostonce.Func(elsewhere, "charge", byID, echo)(ctx, in)
			}
			return receipt{in.ID}, nil
		})
		through = atmostonce.Func(g, "through", byID, func(ctx context.Context, in event) (receipt, error) { return charge(ctx, event{ID: in.ID}) })
		for i, note := range []string{"itself", "through another"} {
			_, err := charge(t.Context(), event{ID: string(rune('1' + i)), Note: note})
			requireRefusal(t, err, once.InDoubt) // what the inner call's refusal leaves open
			require.ErrorIs(t, errors.Unwrap(err), once.BadSetup)
			require.ErrorContains(t, err, "calls itself under its own key")
		}
		for i, note := range []string{"another key", "another store"} {
			_, err := charge(t.Context(), event{ID: string(rune('3' + i)), Note: note})
			require.NoError(t, err, "%v, %s", p, note)
		}
	}
	g := newGuard(t, atmostonce.Options{})
	charge := atmostonce.Func(g, "charge", byID, echo)
	var outlived context.Context
	_, err := atmostonce.Func(g, "outer", byID, func(ctx context.Context, in event) (receipt, error) {
		outlived = context.WithoutCancel(ctx)
		return charge(ctx, in)
	})(t.Context(), event{ID: "7"})
	require.NoError(t, err)
	_, err = atmostonce.Func(g, "outer", byID, echo)(outlived, event{ID: "7"})
	require.NoError(t, err, "a context that outlives its call is in it no more")
}

func TestFunc_TenThousandDuplicatesAreOneEffect(t *testing.T) { // alone: it counts what the process has
	const callers = 10_000
	s := newWatched()
	g := newGuardOver(t, s, atmostonce.Options{Defaults: once.Policy{OnDuplicate: once.Wait}})
	var runs atomic.Int32
	release := make(chan struct{})
	charge := atmostonce.Func(g, "charge", byID, func(context.Context, event) (receipt, error) {
		runs.Add(1)
		<-release
		return receipt{"ch_7"}, nil
	})
	before, began := runtime.NumGoroutine(), time.Now()
	var all sync.WaitGroup
	var started, wrong atomic.Int32
	for range callers {
		all.Go(func() {
			started.Add(1)
			if r, err := charge(t.Context(), event{ID: "7"}); err != nil || r.Charge != "ch_7" {
				wrong.Add(1)
			}
		})
	}
	require.Eventually(t, func() bool { return started.Load() == callers && runs.Load() == 1 }, time.Minute, time.Millisecond)
	require.LessOrEqual(t, runtime.NumGoroutine()-before, callers+callers/2, "and those of tests beside this one")
	require.LessOrEqual(t, s.calls.Load(), 2+int64(time.Since(began)/(500*time.Millisecond)), "those that wait share a look about every second")
	close(release)
	all.Wait()
	require.Zero(t, wrong.Load())
	require.EqualValues(t, 1, runs.Load())
	// Who has not begun to wait by then asks for himself.
	require.Less(t, s.calls.Load(), int64(callers/2))
	require.NoError(t, g.Close(t.Context()))
}

// Calls that wait get on one after the other where each one fails, and all at once where
// the guard refuses.
func TestFunc_WaitersGetOnWhereTheFirstHasNoAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newWatched()
		g := newGuardOver(t, s, atmostonce.Options{Defaults: once.Policy{OnDuplicate: once.Wait}})
		var runs atomic.Int32
		charge := atmostonce.Func(g, "charge", byID, func(_ context.Context, in event) (receipt, error) {
			time.Sleep(time.Second) //nolint:forbidigo // a bubble's clock
			switch n := runs.Add(1); {
			case in.ID == "doubt":
				return receipt{}, once.MaybeDone(errors.New("no answer"))
			case in.ID == "panics" && n == 1:
				panic("boom")
			case n < 3:
				return receipt{}, errors.New("try again")
			}
			return receipt{"ch"}, nil
		})
		wave := func(id string) (failed, doubts, good int32) {
			runs.Store(0)
			var all sync.WaitGroup
			var f, d, ok atomic.Int32
			for range 10 {
				all.Go(func() {
					defer func() { _ = recover() }()
					switch _, err := charge(t.Context(), event{ID: id}); {
					case err == nil:
						ok.Add(1)
					case errors.Is(err, once.InDoubt):
						d.Add(1)
					default:
						f.Add(1)
					}
				})
			}
			all.Wait()
			return f.Load(), d.Load(), ok.Load()
		}
		failed, doubts, good := wave("unlock")
		require.Equal(t, []int32{2, 0, 8}, []int32{failed, doubts, good})
		require.GreaterOrEqual(t, s.calls.Load(), int64(6), "three that ran")
		require.LessOrEqual(t, s.calls.Load(), int64(6+6), "those that waited for three seconds have shared a look about every second")
		_, doubts, _ = wave("doubt")
		require.EqualValues(t, 10, doubts)
		require.EqualValues(t, 1, runs.Load())
		_, doubts, _ = wave("panics")
		require.EqualValues(t, 9, doubts)
		require.NoError(t, g.Close(t.Context()))
	})
}

// The store's clock decides; that of a process may be wrong by any amount.
func TestFunc_AClockThatIsTenMinutesOff(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			s := newWatched()
			s.ahead = ahead
			g := newGuardOver(t, s, atmostonce.Options{Defaults: once.Policy{OnDuplicate: once.Wait, InDoubt: once.Rerun, TTL: 5 * time.Minute}})
			runs := 0
			charge := atmostonce.Func(g, "charge", byID, func(_ context.Context, in event) (receipt, error) {
				if runs++; in.Note == "dies" {
					return receipt{}, once.MaybeDone(errors.New("no answer"))
				}
				return receipt{"ch"}, nil
			})
			for range 2 {
				_, err := charge(t.Context(), event{ID: "7"})
				require.NoError(t, err)
			}
			require.Equal(t, 1, runs)
			_, err := charge(t.Context(), event{ID: "8", Note: "dies"})
			requireRefusal(t, err, once.InDoubt)
			began := time.Now()
			_, err = charge(t.Context(), event{ID: "8"})
			require.NoError(t, err)
			require.InDelta(t, 30*time.Second, time.Since(began), float64(time.Second), "the settle delay")
			time.Sleep(6 * time.Minute) //nolint:forbidigo // a bubble's clock
			_, err = charge(t.Context(), event{ID: "7"})
			require.NoError(t, err)
			require.Equal(t, 4, runs, "remembered for the TTL, and no longer")
			require.NoError(t, g.Close(t.Context()))
		})
	}
}

// One of two processes that share a store has such a clock: neither gets on before it may.
func TestFunc_TheClockOfOneProcessIsTenMinutesOff(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			shared := store.NewMemory(store.MemoryOptions{})
			o := atmostonce.Options{Defaults: once.Policy{OnDuplicate: once.Wait, InDoubt: once.Rerun}}
			right, wrong := newGuardOver(t, &watched{Memory: shared}, o), newGuardOver(t, &watched{Memory: shared, ahead: off}, o)
			var runs atomic.Int32
			pay := func(_ context.Context, in event) (receipt, error) {
				runs.Add(1)
				time.Sleep(15 * time.Minute) //nolint:forbidigo // a bubble's clock
				if in.Note == "dies" {
					return receipt{}, once.MaybeDone(errors.New("no answer"))
				}
				return receipt{"ch"}, nil
			}
			for i, pair := range [][2]*atmostonce.Guard{{right, wrong}, {wrong, right}} {
				first, second := atmostonce.Func(pair[0], "pay", byID, pay), atmostonce.Func(pair[1], "pay", byID, pay)
				id := strconv.Itoa(i)
				runs.Store(0)
				go func() { _, _ = first(t.Context(), event{ID: "runs" + id}) }()
				synctest.Wait()
				r, err := second(t.Context(), event{ID: "runs" + id})
				require.NoError(t, err)
				require.Equal(t, receipt{"ch"}, r)
				require.EqualValues(t, 1, runs.Load(), "it was alive")

				_, err = first(t.Context(), event{ID: "doubt" + id, Note: "dies"})
				requireRefusal(t, err, once.InDoubt)
				began := time.Now()
				_, err = second(t.Context(), event{ID: "doubt" + id})
				require.NoError(t, err)
				require.InDelta(t, 15*time.Minute+30*time.Second, time.Since(began), float64(time.Second), "the settle delay, and a run")
			}
			require.NoError(t, right.Close(t.Context()))
			require.NoError(t, wrong.Close(t.Context()))
		})
	}
}
