package interceptor_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// watched is a store that answers each Check with the next error.
type watched struct {
	*store.Memory
	mu    sync.Mutex
	news  []error
	asked int
}

func (w *watched) Check(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if len(w.news) == 0 {
		return nil
	}
	err := w.news[0]
	w.news = w.news[1:]
	return err
}

func (w *watched) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked
}

func TestStoreWatch_TellsWhatHasHappenedToTheStore(t *testing.T) {
	t.Parallel()
	for notice, err := range map[observe.Notice]error{
		observe.StoreForgot:   store.ErrForgot,
		observe.StoreReplaced: store.ErrReplaced,
		observe.StoreUnsafe:   store.ErrUnsafe,
		"":                    store.ErrUnverified, // reported at start
		"none":                errNetwork,          // for the claim to find out
	} {
		t.Run(err.Error(), func(t *testing.T) {
			t.Parallel()
			s := &watched{Memory: memory(), news: []error{fmt.Errorf("node 7: %w", err)}}
			g, events := watching(t, s)
			callUnplugged(t, g)
			if notice == "" || notice == "none" {
				require.Empty(t, events.ended)
				return
			}
			e := receive(t, events.ended)
			require.Equal(t, notice, e.Notice)
			require.ErrorContains(t, e.Err, "node 7")
		})
	}
}

// watching returns a guard over s, and what it notices.
func watching(t *testing.T, s store.Store) (*interceptor.Guard, *watch) {
	t.Helper()
	o := options(once.Mark(once.Policy{}, "ChargeCard"))
	events := newWatch(observe.KindNotice)
	o.Observers = []observe.Observer{events}
	return newGuard(t, s, o), events
}

// callUnplugged makes a call on a worker that does not check the store at its
// start.
func callUnplugged(t *testing.T, g *interceptor.Guard) {
	t.Helper()
	env := environment(t)
	env.SetWorkerOptions(worker.Options{Interceptors: []sdkinterceptor.WorkerInterceptor{g}})
	env.RegisterActivity((&payments{}).ChargeCard)
	_, err := env.ExecuteActivity("ChargeCard", order(7))
	require.NoError(t, err)
}

func TestStoreWatch_AsksOnceInAWhile(t *testing.T) {
	t.Parallel()
	s := &watched{Memory: memory()}
	g, _ := watching(t, s)
	for range 5 {
		callUnplugged(t, g)
	}
	require.Equal(t, 1, s.count())

	o := options(once.Mark(once.Policy{}, "ChargeCard"))
	o.Lease = 60 * time.Millisecond
	short := newGuard(t, s, o)
	require.Eventually(t, func() bool {
		callUnplugged(t, short)
		return s.count() > 3
	}, soon, time.Millisecond)
}

func TestStart_GoesOnAfterALoss(t *testing.T) {
	t.Parallel()
	for _, err := range []error{store.ErrForgot, store.ErrReplaced} {
		s := &watched{Memory: memory(), news: []error{err}}
		g := newGuard(t, s, interceptor.Options{Activities: once.Mark(once.Policy{}, "ChargeCard")})
		requireUnreachable(t, startError(t, g, func(r worker.Registry) { r.RegisterActivity(&payments{}) }))
		require.Equal(t, 1, s.count())
	}
}

func TestStart_LeavesALossForTheFirstCallToTell(t *testing.T) {
	t.Parallel()
	s := &watched{Memory: memory(), news: []error{store.ErrForgot}}
	g, events := watching(t, s)
	requireUnreachable(t, startError(t, g, func(r worker.Registry) { r.RegisterActivity(&payments{}) }))
	require.Empty(t, events.ended)
	for range 2 {
		_, err := execute(t, g, (&payments{}).ChargeCard, order(7))
		require.NoError(t, err)
	}
	require.Equal(t, observe.StoreForgot, receive(t, events.ended).Notice)
	require.Equal(t, observe.SameRun, receive(t, events.ended).Notice)
	require.Empty(t, events.ended, "it is told once")
}

func TestQuarantine_DoesNotRun(t *testing.T) {
	t.Parallel()
	s, p := newFaulty(), &payments{}
	g := guarded(t, s, once.Policy{})
	s.set("acquire", fault{times: 1, err: store.ErrQuarantine})
	s.set("release", fault{times: 1})
	_, err := execute(t, g, p.ChargeCard, order(7))
	requireReason(t, err, once.StoreDown, true)
	require.ErrorContains(t, err, "no new claims for a while")
	require.Empty(t, p.charges)
	_, err = execute(t, g, p.ChargeCard, order(7))
	require.NoError(t, err)
	require.Zero(t, s.count("release"), "what was refused needs no release")
}

func TestTooFewReplicas_DoesNotRunAndGivesBack(t *testing.T) {
	t.Parallel()
	s, p := newFaulty(), &payments{}
	g := guarded(t, s, once.Policy{})
	s.set("acquire", fault{applied: true, times: 1, err: store.ErrUnreplicated})
	_, err := execute(t, g, p.ChargeCard, order(7))
	requireReason(t, err, once.StoreDown, true)
	require.ErrorContains(t, err, "too few replicas")
	require.Empty(t, p.charges)
	require.Eventually(t, func() bool { return only(t, s).State == store.Tombstone }, soon, time.Millisecond)
}

func TestTooFewReplicas_SettleIsRepeated(t *testing.T) {
	t.Parallel()
	s := newFaulty()
	g := guarded(t, s, once.Policy{})
	s.set("settle", fault{applied: true, times: 3, err: store.ErrUnreplicated})
	_, err := execute(t, g, (&payments{}).ChargeCard, order(7))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.count("settle") == 3 }, soon, time.Millisecond)
}
