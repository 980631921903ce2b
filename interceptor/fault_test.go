package interceptor_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

var errNetwork = errors.New("i/o timeout")

// faulty is a store whose verbs fail on request.
type faulty struct {
	*store.Memory
	mu     sync.Mutex
	faults map[string]fault
	fired  map[string]int
}

// fault says how a verb fails: before it is applied, or after, for so many
// calls.
type fault struct {
	applied bool
	times   int
	err     error
}

func newFaulty() *faulty {
	return &faulty{Memory: memory(), faults: map[string]fault{}, fired: map[string]int{}}
}

func (f *faulty) set(verb string, x fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x.err == nil {
		x.err = errNetwork
	}
	f.faults[verb] = x
}

func (f *faulty) count(verb string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fired[verb]
}

func (f *faulty) call(verb string, apply func() (store.Record, error)) (store.Record, error) {
	f.mu.Lock()
	x := f.faults[verb]
	if x.times > 0 {
		x.times--
		f.faults[verb] = x
		f.fired[verb]++
	} else {
		x = fault{}
	}
	f.mu.Unlock()
	if x.err != nil && !x.applied {
		return store.Record{}, x.err
	}
	r, err := apply()
	if x.err != nil {
		return store.Record{}, x.err
	}
	return r, err
}

func (f *faulty) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	return f.call("acquire", func() (store.Record, error) { return f.Memory.Acquire(ctx, b) })
}

func (f *faulty) Load(ctx context.Context, key string) (store.Record, error) {
	return f.call("load", func() (store.Record, error) { return f.Memory.Load(ctx, key) })
}

func (f *faulty) Renew(ctx context.Context, b store.Bid) (store.Record, error) {
	return f.call("renew", func() (store.Record, error) { return f.Memory.Renew(ctx, b) })
}

func (f *faulty) Settle(ctx context.Context, b store.Bid, o store.Outcome) (store.Record, error) {
	return f.call("settle", func() (store.Record, error) { return f.Memory.Settle(ctx, b, o) })
}

func (f *faulty) Release(ctx context.Context, b store.Bid) (store.Record, error) {
	return f.call("release", func() (store.Record, error) { return f.Memory.Release(ctx, b) })
}

func (f *faulty) Takeover(ctx context.Context, b store.Bid, from store.Record) (store.Record, error) {
	return f.call("takeover", func() (store.Record, error) { return f.Memory.Takeover(ctx, b, from) })
}

func (f *faulty) Resolve(ctx context.Context, key string, from store.Record, res store.Resolution) (store.Record, error) {
	return f.call("resolve", func() (store.Record, error) { return f.Memory.Resolve(ctx, key, from, res) })
}

const always = 1 << 30

func TestStoreDown_BeforeTheBody(t *testing.T) {
	t.Parallel()
	s, p := newFaulty(), &payments{}
	g := guarded(t, s, once.Policy{})
	s.set("acquire", fault{times: 1})
	_, err := execute(t, g, p.ChargeCard, order(7))
	requireReason(t, err, once.StoreDown, true)
	require.ErrorContains(t, err, "store down: ChargeCard [key ")
	require.ErrorContains(t, err, "Temporal tries again in 5s")
	require.ErrorContains(t, err, errNetwork.Error())
	require.True(t, once.MayHaveHappened(err), "an earlier attempt may have run")
	require.Empty(t, p.charges)
	require.Equal(t, 1, s.count("acquire"))
	_, err = execute(t, g, p.ChargeCard, order(7))
	require.NoError(t, err)
}

func TestStoreDown_LostReplyOfAClaimIsGivenBack(t *testing.T) {
	t.Parallel()
	s, p := newFaulty(), &payments{}
	g := guarded(t, s, once.Policy{})
	s.set("acquire", fault{applied: true, times: 1})
	_, err := execute(t, g, p.ChargeCard, order(7))
	requireReason(t, err, once.StoreDown, true)
	require.Equal(t, 1, s.count("acquire"))
	require.Eventually(t, func() bool { return only(t, s).State == store.Tombstone }, soon, time.Millisecond,
		"without that, a claim that never began would be in doubt")
	_, err = execute(t, g, p.ChargeCard, order(7))
	require.NoError(t, err)
}

func TestStoreDown_LostReplyOfATakeoverGoesBackInDoubt(t *testing.T) {
	t.Parallel()
	s, p := newFaulty(), &payments{}
	g := guarded(t, s, once.Policy{InDoubt: once.Rerun})
	inDoubt(t, s, g)
	s.set("takeover", fault{applied: true, times: 1})
	_, err := execute(t, g, p.ChargeCard, order(7))
	requireReason(t, err, once.StoreDown, true)
	require.Equal(t, 1, s.count("takeover"))
	require.Empty(t, p.charges)
	require.Eventually(t, func() bool { return only(t, s).State == store.InDoubt }, soon, time.Millisecond,
		"the first run is still in doubt")
}

// inDoubt leaves the key of order 7 in doubt, past the settle delay.
func inDoubt(t *testing.T, s store.Store, g *interceptor.Guard) {
	t.Helper()
	_, err := execute(t, g, (&payments{fail: once.MaybeDone(errors.New("?"))}).ChargeCard, order(7))
	requireReason(t, err, once.InDoubt, true)
	require.Eventually(t, func() bool { return time.Since(only(t, s).Doubted) > 40*time.Millisecond }, soon, time.Millisecond)
}

func TestStoreDown_AfterTheBodyTheResultIsReturned(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		verb string
		err  error
	}{
		"settle": {"settle", nil}, "release": {"release", nil},
		"settle, full": {"settle", store.ErrFull}, "release, full": {"release", store.ErrFull}, // there may be room later
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			verb, p := c.verb, &payments{}
			if verb == "release" {
				p.fail = errors.New("declined")
			}
			s := newFaulty()
			g := guarded(t, s, once.Policy{})
			s.set(verb, fault{times: 3, err: c.err})
			got, err := execute(t, g, p.ChargeCard, order(7))
			if p.fail == nil {
				require.NoError(t, err)
				require.Equal(t, "r-7", got.ID)
			} else {
				require.ErrorContains(t, err, "declined")
			}
			want := map[string]store.State{"settle": store.Succeeded, "release": store.Tombstone}[verb]
			require.Eventually(t, func() bool { return only(t, s).State == want }, soon, time.Millisecond)
			require.Equal(t, 3, s.count(verb))
		})
	}
}

func TestStoreDown_LostReplyOfASettleChangesNothing(t *testing.T) {
	t.Parallel()
	s, p := newFaulty(), &payments{}
	g := guarded(t, s, once.Policy{})
	s.set("settle", fault{applied: true, times: 2})
	_, err := execute(t, g, p.ChargeCard, order(7))
	require.NoError(t, err)
	require.Equal(t, 2, s.count("settle"))
	_, err = execute(t, g, p.ChargeCard, order(7))
	require.NoError(t, err)
	require.Len(t, p.charges, 1)
}

func TestBadRecord_IsNeverTakenForAbsent(t *testing.T) {
	t.Parallel()
	for _, bad := range []error{store.ErrCorrupt, store.ErrVersion} {
		s, p := newFaulty(), &payments{}
		s.set("acquire", fault{times: always, err: bad})
		_, err := execute(t, guarded(t, s, once.Policy{}), p.ChargeCard, order(7))
		requireReason(t, err, once.BadRecord, true)
		require.Empty(t, p.charges)
	}
}

func TestSettleThatFails_IsToldBeforeTheWorkerHasStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, notices := newFaulty(), newWatch(observe.KindNotice)
		o := options(once.Mark(once.Policy{}, "ChargeCard"))
		o.Observers = []observe.Observer{notices}
		g := newGuard(t, s, o)
		s.set("settle", fault{times: always})
		w := worker.PluginConfigureWorkerOptions{WorkerInstanceKey: "worker", WorkerOptions: &worker.Options{},
			WorkerRegistryOptions: &worker.PluginConfigureWorkerRegistryOptions{}}
		require.NoError(t, g.ConfigureWorker(t.Context(), w))
		require.NoError(t, g.StartWorker(t.Context(), worker.PluginStartWorkerOptions{WorkerInstanceKey: "worker"},
			func(context.Context, worker.PluginStartWorkerOptions) error { return nil }))
		env := environment(t)
		env.SetWorkerOptions(worker.Options{Interceptors: w.WorkerOptions.Interceptors})
		env.RegisterActivityWithOptions((&payments{}).ChargeCard, sdkactivity.RegisterOptions{Name: "ChargeCard"})
		_, err := env.ExecuteActivity("ChargeCard", order(7))
		require.NoError(t, err)
		g.StopWorker(t.Context(), worker.PluginStopWorkerOptions{WorkerInstanceKey: "worker"}, func(context.Context, worker.PluginStopWorkerOptions) {})
		require.Len(t, notices.ended, 2)
		require.Equal(t, observe.SettleDelayed, receive(t, notices.ended).Notice)
		require.Equal(t, observe.SettleFailed, receive(t, notices.ended).Notice)
	})
}

func TestStoreFull_DoesNotRun(t *testing.T) {
	t.Parallel()
	s, p := store.NewMemory(store.MemoryOptions{MaxRecords: 1}), &payments{}
	g := guarded(t, s, once.Policy{})
	_, err := execute(t, g, p.ChargeCard, order(7))
	require.NoError(t, err)
	_, err = execute(t, g, p.ChargeCard, order(8))
	requireReason(t, err, once.StoreDown, true)
	require.Equal(t, []string{"7"}, p.charges)
}

func TestStoreThatForgot_GetsTheOutcomeAndSaysSo(t *testing.T) {
	t.Parallel()
	s, lost := memory(), newWatch(observe.KindNotice)
	o := options(once.Mark(once.Policy{}, "ChargeCard"))
	o.Observers = []observe.Observer{lost}
	g := newGuard(t, s, o)
	finish := running(t, g, order(7))
	s.Clear()
	got, err := finish()
	require.NoError(t, err)
	require.Equal(t, "first", got.ID)
	require.Equal(t, observe.StoreLost, receive(t, lost.ended).Notice)
	again, err := execute(t, g, (&payments{}).ChargeCard, order(7))
	require.NoError(t, err)
	require.Equal(t, got, again)
}

func TestConflict_TwoExecutionsAreReported(t *testing.T) {
	t.Parallel()
	s, notices := memory(), newWatch(observe.KindNotice)
	o := options(once.Mark(once.Policy{}, "ChargeCard"))
	o.Observers = []observe.Observer{notices}
	g := newGuard(t, s, o)
	finish := running(t, g, order(7))
	s.Clear()
	_, err := execute(t, g, (&payments{}).ChargeCard, order(7))
	require.NoError(t, err)
	_, err = finish()
	require.NoError(t, err)
	require.Equal(t, observe.Conflict, receive(t, notices.ended).Notice)
}

func TestReleaseThatFindsAnEarlierSuccess_ReplaysIt(t *testing.T) {
	t.Parallel()
	s := memory()
	g := guarded(t, s, once.Policy{})
	finish := running(t, g, order(7)) // A
	s.Clear()
	b, fail := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	var got receipt
	go func() { // B runs because the store forgot A
		var err error
		got, err = execute(t, g, func(context.Context, charge) (receipt, error) {
			close(b)
			<-fail
			return receipt{}, errors.New("declined")
		}, order(7))
		done <- err
	}()
	<-b
	_, err := finish() // A succeeded
	require.NoError(t, err)
	close(fail)
	require.NoError(t, <-done, "the effect did take place")
	require.Equal(t, "first", got.ID)
}

func TestCleanErrorOfASupersededRun_IsNotTheLastWord(t *testing.T) {
	t.Parallel()
	s := memory()
	g := guarded(t, s, once.Policy{})
	started, fail, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() { // A
		_, err := execute(t, g, func(context.Context, charge) (receipt, error) {
			close(started)
			<-fail
			return receipt{}, errors.New("declined")
		}, order(7))
		done <- err
	}()
	<-started
	s.Clear()
	finish := running(t, g, order(7)) // B runs because the store forgot A
	close(fail)
	err := <-done
	requireReason(t, err, once.InFlight, true)
	require.ErrorContains(t, err, "declined")
	_, err = finish()
	require.NoError(t, err)
}

func TestUnmarkedActivity_CostsNothing(t *testing.T) {
	t.Parallel()
	var ran atomic.Int32
	g := guarded(t, memory(), once.Policy{})
	env := environment(t, g)
	env.RegisterActivity((&payments{}).ChargeCard)
	env.RegisterActivityWithOptions(func(ctx context.Context, in charge) error {
		ran.Add(1)
		_, ok := once.FromContext(ctx)
		require.False(t, ok)
		require.Len(t, once.Key(ctx), 64)
		return nil
	}, sdkactivity.RegisterOptions{Name: "Other"})
	for range 2 {
		_, err := env.ExecuteActivity("Other", order(7))
		require.NoError(t, err)
	}
	require.EqualValues(t, 2, ran.Load())
}
