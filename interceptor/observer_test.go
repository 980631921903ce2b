package interceptor_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// rogue is an observer that does something where it should only look.
type rogue struct {
	begin, end, trace, getRecorder, record func()
	nilContext, nilEnd, nilRecorder        bool
	behaves                                observe.Kind // begins and ends well for this kind

	begun, ended atomic.Int32
}

func do(f func()) {
	if f != nil {
		f()
	}
}

func (r *rogue) Begin(ctx context.Context, e observe.Event) (context.Context, func(observe.Event)) {
	if e.Kind == r.behaves {
		return ctx, func(observe.Event) {}
	}
	r.begun.Add(1)
	do(r.begin)
	end := func(observe.Event) {
		do(r.end)
		r.ended.Add(1)
	}
	if r.nilContext {
		ctx = nil
	}
	if r.nilEnd {
		end = nil
	}
	return ctx, end
}

func (r *rogue) Traceparent(context.Context) string {
	do(r.trace)
	return ""
}

func (r *rogue) Recorder() func(context.Context, observe.Measurement) {
	do(r.getRecorder)
	if r.nilRecorder {
		return nil
	}
	return func(context.Context, observe.Measurement) { do(r.record) }
}

// places are where an observer can do something.
var places = map[string]func(f func()) *rogue{
	"Begin":    func(f func()) *rogue { return &rogue{begin: f} },
	"the end":  func(f func()) *rogue { return &rogue{end: f} },
	"Trace":    func(f func()) *rogue { return &rogue{trace: f} },
	"Recorder": func(f func()) *rogue { return &rogue{getRecorder: f} },
}

// observedCalls makes a call and its duplicate under the observer, and requires
// that both are answered as if it were not there, and reported to others. It
// returns how long that took.
func observedCalls(t *testing.T, o observe.Observer) time.Duration {
	t.Helper()
	began := time.Now()
	other, p := newWatch(observe.KindClaim), &payments{}
	g := observedBy(t, o, other)
	for range 2 {
		got, err := execute(t, g, p.ChargeCard, order(7))
		require.NoError(t, err)
		require.Equal(t, "r-7", got.ID)
	}
	require.Equal(t, []string{"7"}, p.charges)
	require.Len(t, other.begun, 2)
	return time.Since(began)
}

func observedBy(t *testing.T, observers ...observe.Observer) *interceptor.Guard {
	t.Helper()
	o := options(once.Mark(once.Policy{}, "ChargeCard"))
	o.Observers = observers
	return newGuard(t, memory(), o)
}

func TestObserver_ThatEndsBadlyChangesNothing(t *testing.T) {
	t.Parallel()
	for behaviour, f := range map[string]func(){
		"panic": func() { panic("observer") }, "panic with nil": func() { panic(error(nil)) }, "Goexit": runtime.Goexit,
	} {
		for place, at := range places {
			t.Run(behaviour+" in "+place, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					require.Zero(t, observedCalls(t, at(f)))
				})
			})
		}
	}
}

func TestRecorder_ThatPanicsChangesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		require.Zero(t, observedCalls(t, &rogue{record: func() { panic("recorder") }}))
	})
}

func TestRecorder_IsNotLeftOutWithItsObserver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		forever, recorded := make(chan struct{}), 0
		o := &rogue{begin: func() { <-forever }, record: func() { recorded++ }}
		observedCalls(t, o)
		before := recorded
		_, err := execute(t, observedBy(t, o), (&payments{}).ChargeCard, order(7))
		require.NoError(t, err)
		require.Greater(t, recorded, before, "what is stuck is an exporter of spans, as a rule")
		close(forever)
	})
}

// An observer's context can neither end the body's nor take its values away.
func TestObserver_GivesTheBodyValuesOnly(t *testing.T) {
	t.Parallel()
	type key struct{}
	canceled, cancel := context.WithCancelCause(context.WithValue(t.Context(), key{}, "value"))
	cancel(errors.New("the observer's"))
	_, err := execute(t, observedBy(t, elsewhere{canceled}), func(ctx context.Context, _ charge) (receipt, error) {
		require.Equal(t, "value", ctx.Value(key{}))
		require.True(t, sdkactivity.IsActivity(ctx))
		require.NotEmpty(t, once.Key(ctx))
		require.NoError(t, context.Cause(ctx))
		return receipt{}, ctx.Err()
	}, order(7))
	require.NoError(t, err)
}

// elsewhere returns a context of another time.
type elsewhere struct{ ctx context.Context }

func (o elsewhere) Begin(context.Context, observe.Event) (context.Context, func(observe.Event)) {
	return o.ctx, func(observe.Event) {}
}

func TestObserver_ThatReturnsNilChangesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, o := range []*rogue{{nilContext: true}, {nilEnd: true}, {nilContext: true, nilEnd: true}, {nilRecorder: true}} {
			require.Zero(t, observedCalls(t, o))
		}
	})
}

// A blocked observer costs its limit once, not at each event.
func TestObserver_ThatBlocksChangesNothing(t *testing.T) {
	t.Parallel()
	for place, at := range places {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				forever := make(chan struct{})
				require.Equal(t, time.Second, observedCalls(t, at(func() { <-forever })))
				close(forever)
			})
		})
	}
}

func TestObserver_ThatComesLateChangesNothing(t *testing.T) {
	t.Parallel()
	for place, at := range places {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var first sync.Once
				took := observedCalls(t, at(func() { first.Do(func() { later(time.Second + 1) }) }))
				require.LessOrEqual(t, took, time.Second+1)
				later(time.Second)
			})
		})
	}
}

func TestObserver_ThatIsSlowIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &rogue{begin: func() { later(900 * time.Millisecond) }}
		g := observedBy(t, o)
		_, err := execute(t, g, (&payments{}).ChargeCard, order(7))
		require.NoError(t, err)
		require.EqualValues(t, 1, o.ended.Load())
	})
}

func TestObserver_IsLeftOutWhileItIsStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		o := &rogue{begin: func() { <-release }}
		g := observedBy(t, o)
		call := func() time.Duration {
			began := time.Now()
			_, err := execute(t, g, (&payments{}).ChargeCard, order(7))
			require.NoError(t, err)
			return time.Since(began)
		}
		require.Equal(t, time.Second, call())
		require.Zero(t, call())
		require.EqualValues(t, 1, o.begun.Load())
		close(release)
		synctest.Wait()
		require.Zero(t, call())
		require.EqualValues(t, 3, o.begun.Load(), "the call, and its notice same_run")
		require.EqualValues(t, 2, o.ended.Load(), "what it was not waited for is not told to have ended")
	})
}

func TestObserver_BlocksManyCallsNoLongerThanOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		o := &rogue{begin: func() { <-release }}
		g := observedBy(t, o)
		began := time.Now()
		var calls sync.WaitGroup
		for n := range 20 {
			calls.Go(func() {
				_, err := execute(t, g, (&payments{}).ChargeCard, order(n))
				assert.NoError(t, err)
			})
		}
		calls.Wait()
		require.Equal(t, time.Second, time.Since(began))
		close(release)
		synctest.Wait()
		told := o.begun.Load()
		_, err := execute(t, g, (&payments{}).ChargeCard, order(7))
		require.NoError(t, err)
		require.Greater(t, o.begun.Load(), told, "all have come back")
	})
}

// choosy is an observer that has no use for some events.
type choosy struct {
	*watch
	selects func(k observe.Kind) bool
}

func (c choosy) Selects(k observe.Kind) bool { return c.selects(k) }

func TestObserver_IsToldOfWhatItHasAUseFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		selects        func(k observe.Kind) bool
		calls, notices int
	}{
		"calls":   {func(k observe.Kind) bool { return k == observe.KindClaim }, 2, 0},
		"notices": {func(k observe.Kind) bool { return k == observe.KindNotice }, 0, 1},
		"nothing": {func(observe.Kind) bool { return false }, 0, 0},
		"panics":  {func(observe.Kind) bool { panic("selects") }, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				calls, notices := newWatch(observe.KindClaim), newWatch(observe.KindNotice)
				g := observedBy(t, choosy{calls, c.selects}, choosy{notices, c.selects})
				for range 2 {
					_, err := execute(t, g, (&payments{}).ChargeCard, order(7))
					require.NoError(t, err)
					later(time.Second) // or else it is the same call
				}
				require.Len(t, calls.begun, c.calls)
				require.Len(t, notices.begun, c.notices)
			})
		})
	}
}

// Goroutines that wait for the next event end with the last call: a bubble with one left fails.
func TestObserver_LeavesNoGoroutineBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := observedBy(t, &rogue{}, &rogue{})
		var calls sync.WaitGroup
		for n := range 100 {
			calls.Go(func() {
				_, err := execute(t, g, func(context.Context, charge) (receipt, error) { later(time.Minute); return receipt{}, nil }, order(n))
				assert.NoError(t, err)
			})
		}
		calls.Wait()
	})
}

// Nor do they stay where a call ended while the observer was stuck in another one.
func TestObserver_ThatWasStuckLeavesNoGoroutineBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var begun atomic.Int32
		g := observedBy(t, &rogue{begin: func() {
			if begun.Add(1) == 2 {
				<-release
			}
		}})
		var calls sync.WaitGroup
		call := func(n int, took time.Duration) {
			calls.Go(func() {
				_, err := execute(t, g, func(context.Context, charge) (receipt, error) { later(took); return receipt{}, nil }, order(n))
				assert.NoError(t, err)
			})
			synctest.Wait()
		}
		call(1, 10*time.Second)
		call(2, 0)
		calls.Wait()
		close(release)
	})
}

// hurried gives an attempt so much time.
type hurried struct {
	sdkinterceptor.WorkerInterceptorBase
	within time.Duration
}

func (h *hurried) InterceptActivity(_ context.Context, next sdkinterceptor.ActivityInboundInterceptor) sdkinterceptor.ActivityInboundInterceptor {
	i := &hurriedInbound{within: h.within}
	i.Next = next
	return i
}

type hurriedInbound struct {
	sdkinterceptor.ActivityInboundInterceptorBase
	within time.Duration
}

func (i *hurriedInbound) ExecuteActivity(ctx context.Context, in *sdkinterceptor.ExecuteActivityInput) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, i.within)
	defer cancel()
	return i.Next.ExecuteActivity(ctx, in)
}

// hurry makes a call that has so much time.
func hurry(t *testing.T, g *interceptor.Guard, within time.Duration, body func(context.Context, charge) (receipt, error)) (time.Duration, error) {
	t.Helper()
	env := environment(t)
	env.SetWorkerOptions(worker.Options{Interceptors: []sdkinterceptor.WorkerInterceptor{&hurried{within: within}}, Plugins: []worker.Plugin{g}})
	env.RegisterActivityWithOptions(body, sdkactivity.RegisterOptions{Name: "ChargeCard"})
	began := time.Now()
	_, err := env.ExecuteActivity("ChargeCard", order(7))
	return time.Since(began), err
}

func TestObserver_HasATenthOfWhatIsLeft(t *testing.T) {
	t.Parallel()
	for place, at := range places {
		if place == "Recorder" {
			continue // is asked before any call
		}
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				forever := make(chan struct{})
				g := observedBy(t, at(func() { <-forever }))
				took, err := hurry(t, g, 2*time.Second, (&payments{}).ChargeCard)
				require.NoError(t, err)
				require.Equal(t, 200*time.Millisecond, took)
				close(forever)
			})
		})
	}
}

// A call that overran its deadline is reported too, to an observer that exports at
// once.
func TestObserver_HearsOfWhatIsLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &rogue{end: func() { later(20 * time.Millisecond) }}
		_, _ = hurry(t, observedBy(t, o), time.Second, func(context.Context, charge) (receipt, error) {
			later(2 * time.Second)
			return receipt{}, nil
		})
		require.Positive(t, o.begun.Load())
		require.Equal(t, o.begun.Load(), o.ended.Load())
	})
}

func TestObserver_OfWhatIsLateIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		forever := make(chan struct{})
		o := &rogue{end: func() { <-forever }, behaves: observe.KindNotice} // a kind other than the call's
		took, _ := hurry(t, observedBy(t, o), time.Second, func(context.Context, charge) (receipt, error) {
			later(2 * time.Second)
			return receipt{}, nil
		})
		require.Equal(t, 2*time.Second+100*time.Millisecond, took)
		close(forever)
	})
}

type valueKey struct{}

// valued gives the call a value, and collects what notices see of it.
type valued struct{ seen *[]any }

func (v valued) Begin(ctx context.Context, e observe.Event) (context.Context, func(observe.Event)) {
	switch e.Kind {
	case observe.KindClaim:
		ctx = context.WithValue(ctx, valueKey{}, "of the call")
	case observe.KindNotice:
		if e.Notice == observe.OtherRun {
			*v.seen = append(*v.seen, ctx.Value(valueKey{}))
		}
	}
	return ctx, func(observe.Event) {}
}

// A run ends in doubt, and an earlier one's success has come meanwhile: the notices
// of its replay have the values of the call, as all others.
func TestObserver_ItsValuesReachTheNoticesOfALateReplay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, known, s := t.Context(), memory(), memory()
		_, err := execute(t, guarded(t, known, once.Policy{}), (&payments{}).ChargeCard, order(7))
		require.NoError(t, err)
		first := store.Bid{Key: only(t, known).Key, Owner: "first", Lease: time.Second, TTL: time.Hour, Info: only(t, known).Info}
		first.Info.Holder.RunID = "an earlier run"
		r, err := s.Acquire(ctx, first)
		require.NoError(t, err)
		first.Fence = r.Fence
		<-time.After(2 * time.Second)

		var seen []any
		o := options(once.Mark(once.Policy{InDoubt: once.Rerun}, "ChargeCard"))
		o.Observers = []observe.Observer{valued{&seen}}
		g := newGuard(t, s, o)
		body := func(context.Context, charge) (receipt, error) {
			r := only(t, s)
			_, err := s.Resolve(ctx, r.Key, r, store.Resolution{ID: "a", To: store.Tombstone, By: store.ByOperator, Why: "test", TTL: time.Hour, Force: true})
			require.NoError(t, err)
			_, err = s.Settle(ctx, first, only(t, known).Outcome)
			require.ErrorIs(t, err, store.ErrConflict)
			return receipt{}, io.ErrUnexpectedEOF
		}
		_, err = execute(t, g, body, order(7))
		requireReason(t, err, once.InDoubt, true)
		<-time.After(time.Minute)
		_, err = execute(t, g, body, order(7))
		require.NoError(t, err)
		require.Equal(t, []any{"of the call"}, seen)
	})
}

// stamper stamps the context of each call, and notes which notices come without one.
type stamper struct {
	mu      sync.Mutex
	stamped map[observe.Notice]bool
}

type stampKey struct{}

func (s *stamper) Begin(ctx context.Context, e observe.Event) (context.Context, func(observe.Event)) {
	if e.Kind == observe.KindClaim {
		return context.WithValue(ctx, stampKey{}, true), func(observe.Event) {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Kind == observe.KindNotice {
		s.stamped[e.Notice] = ctx.Value(stampKey{}) != nil
	}
	return ctx, func(observe.Event) {}
}

// Also where a call is answered with what a successor of its has recorded meanwhile.
func TestObserver_GetsEachNoticeInTheContextOfItsCall(t *testing.T) {
	t.Parallel()
	o, s := &stamper{stamped: map[observe.Notice]bool{}}, memory()
	all := options(once.Mark(once.Policy{}, "ChargeCard"))
	all.Observers = []observe.Observer{o}
	g := newGuard(t, s, all)
	got, err := execute(t, g, func(ctx context.Context, in charge) (receipt, error) {
		_, err := g.Resolve(ctx, only(t, s), resolve.AsNotDone(), resolve.Decision{By: "ann", Why: "the worker is gone", Force: true})
		require.NoError(t, err)
		_, err = execute(t, g, (&payments{}).ChargeCard, in)
		require.NoError(t, err)
		return receipt{}, context.DeadlineExceeded // nobody knows
	}, order(7))
	require.NoError(t, err)
	require.Equal(t, "r-7", got.ID, "the successor's")
	require.Equal(t, map[observe.Notice]bool{observe.Resolved: true, observe.LeaseLost: true, observe.SameRun: true}, o.stamped)
}
