package interceptor_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// slow starts a call whose body ends when its context does, and returns the
// cause.
func slow(t *testing.T, g *interceptor.Guard) (started chan struct{}, cause chan error) {
	t.Helper()
	started, cause = make(chan struct{}), make(chan error, 1)
	go func() {
		_, _ = execute(t, g, func(ctx context.Context, _ charge) (receipt, error) {
			close(started)
			<-ctx.Done()
			cause <- context.Cause(ctx)
			return receipt{}, ctx.Err()
		}, order(7))
	}()
	return started, cause
}

func TestLease_IsRenewedWhileTheBodyRuns(t *testing.T) {
	t.Parallel()
	s, p := newFaulty(), &payments{}
	g := guarded(t, s, once.Policy{InDoubt: once.Fail})
	finish := running(t, g, order(7))
	first := only(t, s)
	require.Eventually(t, func() bool { return only(t, s).LeaseEnd.After(first.LeaseEnd.Add(first.LeaseEnd.Sub(first.Claimed))) }, soon, time.Millisecond)
	_, err := execute(t, g, p.ChargeCard, order(7))
	requireReason(t, err, once.InFlight, true)
	_, err = finish()
	require.NoError(t, err)
}

func TestLease_OwnClockCutsTheBodyOffWhereOthersMayTakeOver(t *testing.T) {
	t.Parallel()
	for _, policy := range []once.DoubtPolicy{once.Rerun, once.Resume, once.Reconcile(findCharge)} {
		synctest.Test(t, func(t *testing.T) {
			s := newFaulty()
			g := underDefaults(t, s, once.Policy{InDoubt: policy})
			s.set("renew", fault{times: always})
			started, cause := slow(t, g)
			receive(t, started)
			later(2 * time.Minute)
			require.ErrorContains(t, receive(t, cause), "could not be renewed in time")
			require.NotZero(t, s.count("renew"))
		})
	}
}

func TestLease_ABlipDoesNotCancelWhereNobodyTakesOver(t *testing.T) {
	t.Parallel()
	for _, policy := range []once.DoubtPolicy{once.Hold, once.HoldFor(time.Hour), once.Fail} {
		synctest.Test(t, func(t *testing.T) {
			s := newFaulty()
			g := underDefaults(t, s, once.Policy{InDoubt: policy})
			s.set("renew", fault{times: 8}) // more than two leases
			started, cause := slow(t, g)
			receive(t, started)
			later(2 * time.Minute)
			_, err := execute(t, g, (&payments{}).ChargeCard, order(7)) // marks the doubt if the lease is over
			require.Error(t, err)
			require.Equal(t, store.InDoubt, only(t, s).State)
			later(90 * time.Second)
			require.Equal(t, 8, s.count("renew"))
			require.Equal(t, store.Running, only(t, s).State, "a renewal takes the doubt back")
			select {
			case err := <-cause:
				require.Fail(t, "canceled", "%v", err)
			default:
			}
			decide(t, s, store.Tombstone) // now it is superseded
			later(time.Minute)
			require.ErrorContains(t, receive(t, cause), "another call has taken over")
		})
	}
}

// resolve decides as an operator does, by force.
func decide(t *testing.T, s store.Store, to store.State) {
	t.Helper()
	var err error
	for range 10 { // a renewal may come in between
		r := only(t, s)
		if _, err = s.Resolve(t.Context(), r.Key, r, store.Resolution{
			ID: t.Name(), To: to, By: store.ByOperator, Why: "test", TTL: time.Hour, Force: true,
		}); err == nil {
			return
		}
	}
	require.NoError(t, err)
}

func TestResolved_ARunningCallIsNotInDoubt(t *testing.T) {
	t.Parallel()
	for _, to := range []store.State{store.Tombstone, store.Failed} {
		s := newFaulty()
		g := guarded(t, s, once.Policy{InDoubt: once.Fail})
		_, err := execute(t, g, func(context.Context, charge) (receipt, error) {
			decide(t, s, to)
			return receipt{}, once.MaybeDone(errNetwork)
		}, order(7))
		requireReason(t, err, once.InFlight, true)
		require.ErrorContains(t, err, "a decision of the operator had come before that")
		require.Equal(t, to, only(t, s).State)
	}
}

func TestReconcile_ASlowAnswerDoesNotCutItsBodyOff(t *testing.T) {
	t.Parallel()
	s := memory()
	g := guarded(t, s, once.Policy{InDoubt: once.Reconcile(func(ctx context.Context, in charge) (receipt, error) {
		select { // longer than the lease
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
		return receipt{}, once.ErrNotDone
	})})
	inDoubt(t, s, g)
	got, err := execute(t, g, func(ctx context.Context, _ charge) (receipt, error) {
		select { // several checks of the lease
		case <-time.After(20 * time.Millisecond):
			return receipt{ID: "r"}, nil
		case <-ctx.Done():
			return receipt{}, context.Cause(ctx)
		}
	}, order(7))
	require.NoError(t, err)
	require.Equal(t, "r", got.ID)
}

// blockedBy is an observer that does not come back from a notice.
type blockedBy struct {
	notice observe.Notice
	until  chan struct{}
}

func (o blockedBy) Begin(ctx context.Context, e observe.Event) (context.Context, func(observe.Event)) {
	if e.Notice == o.notice {
		<-o.until
	}
	return ctx, func(observe.Event) {}
}

func TestCutOff_DoesNotWaitForObservers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, until := newFaulty(), make(chan struct{})
		o := options(once.Mark(once.Policy{InDoubt: once.Rerun}, "ChargeCard"))
		o.Lease, o.SettleDelay = time.Second, 400*time.Millisecond
		o.Observers = []observe.Observer{blockedBy{observe.LeaseLost, until}}
		s.set("renew", fault{times: always})
		defer close(until)
		began := time.Now()
		_, err := execute(t, newGuard(t, s, o), func(ctx context.Context, _ charge) (receipt, error) {
			<-ctx.Done()
			assert.Less(t, time.Since(began), time.Second, "then another call may take over")
			return receipt{}, context.Cause(ctx)
		}, order(7))
		require.Error(t, err)
	})
}

// lagging is a store whose first renewal is applied at once and answered late;
// after that it is down.
type lagging struct {
	*faulty
	by time.Duration
}

func (l lagging) Renew(ctx context.Context, b store.Bid) (store.Record, error) {
	r, err := l.faulty.Renew(ctx, b)
	if err == nil {
		l.set("renew", fault{times: always})
		later(l.by)
	}
	return r, err
}

// The store counts from when it got the renewal, which was before it answered.
func TestLease_CountsFromWhenARenewalWasSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := options(once.Mark(once.Policy{InDoubt: once.Rerun}, "ChargeCard"))
		o.Lease, o.SettleDelay = 3*time.Second, 2*time.Second
		s := lagging{newFaulty(), 900 * time.Millisecond}
		_, err := execute(t, newGuard(t, s, o), func(ctx context.Context, _ charge) (receipt, error) {
			<-ctx.Done()
			r := only(t, s)
			assert.Equal(t, r.Claimed.Add(4*time.Second), r.LeaseEnd, "renewed after one second")
			assert.Equal(t, r.LeaseEnd.Add(-300*time.Millisecond), time.Now(), "cut off a tenth before that")
			return receipt{}, ctx.Err()
		}, order(7))
		require.Error(t, err)
		require.NotZero(t, s.count("renew"))
	})
}

func TestFromContext_SaysThatTheClaimIsLost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy once.DoubtPolicy
		lose   func(t *testing.T, s *faulty)
		lost   bool
	}{
		"the lease is over":             {once.Rerun, func(_ *testing.T, s *faulty) { s.set("renew", fault{times: always}) }, true},
		"nobody takes over":             {once.Hold, func(_ *testing.T, s *faulty) { s.set("renew", fault{times: always}) }, false},
		"an operator has decided":       {once.Hold, func(t *testing.T, s *faulty) { decide(t, s, store.Tombstone) }, true},
		"another call has taken it":     {once.Rerun, func(t *testing.T, s *faulty) { decide(t, s, store.Tombstone) }, true},
		"its renewals are acknowledged": {once.Rerun, func(*testing.T, *faulty) {}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newFaulty()
				_, _ = execute(t, underDefaults(t, s, once.Policy{InDoubt: c.policy}), func(ctx context.Context, _ charge) (receipt, error) {
					before, ok := once.FromContext(ctx)
					assert.True(t, ok)
					assert.False(t, before.Lost)
					c.lose(t, s)
					later(2 * time.Minute)
					after, ok := once.FromContext(ctx)
					assert.True(t, ok)
					assert.Equal(t, c.lost, after.Lost)
					assert.Equal(t, c.lost, ctx.Err() != nil)
					assert.Equal(t, before.Key, after.Key)
					return receipt{}, nil
				}, order(7))
			})
		})
	}
}

// The outcome of a body that has returned counts unless the store says otherwise,
// however long it takes to write it.
func TestCutOff_DoesNotComeAfterTheBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, told := newFaulty(), newWatch(observe.KindNotice)
		o := options(once.Mark(once.Policy{InDoubt: once.Rerun}, "ChargeCard"))
		o.Observers, o.Lease, o.SettleDelay = []observe.Observer{told}, time.Second, 400*time.Millisecond
		_, err := execute(t, newGuard(t, s, o), func(context.Context, charge) (receipt, error) {
			s.set("renew", fault{times: always})
			s.set("settle", fault{times: 8}) // for more than a second
			return receipt{ID: "r"}, nil
		}, order(7))
		require.NoError(t, err)
		r := only(t, s)
		require.Equal(t, store.Succeeded, r.State)
		require.Greater(t, r.Settled.Sub(r.Claimed), o.Lease)
		var notices []observe.Notice
		for range len(told.ended) {
			notices = append(notices, (<-told.ended).Notice)
		}
		require.Contains(t, notices, observe.RenewFailed)
		require.NotContains(t, notices, observe.LeaseLost)
	})
}

// slowToClaim is a store that answers the first claim of each kind after a while.
type slowToClaim struct {
	*faulty
	by   time.Duration
	slow map[string]bool
}

func (s slowToClaim) answer(verb string) {
	if s.slow[verb] {
		s.slow[verb] = false
		later(s.by)
	}
}

func (s slowToClaim) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	defer s.answer("acquire")
	return s.faulty.Acquire(ctx, b)
}

func (s slowToClaim) Takeover(ctx context.Context, b store.Bid, from store.Record) (store.Record, error) {
	defer s.answer("takeover")
	return s.faulty.Takeover(ctx, b, from)
}

// A process that was suspended between its claim and its body does not begin it.
func TestClaim_ThatIsOverBeforeItsBodyIsGivenBack(t *testing.T) {
	t.Parallel()
	for verb, policy := range map[string]once.DoubtPolicy{
		"acquire": once.Rerun, "takeover": once.Rerun, "takeover by a reconciled call": once.Reconcile(findCharge), "acquire under Hold": once.Hold,
	} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				verb, _, _ := strings.Cut(verb, " ")
				s := slowToClaim{newFaulty(), 2 * time.Second, map[string]bool{}}
				o := options(once.Mark(once.Policy{InDoubt: policy, OnDuplicate: once.Wait}, "ChargeCard"))
				o.Lease, o.SettleDelay = 2*time.Second, time.Second
				g := newGuard(t, s, o)
				if verb == "takeover" {
					_, err := execute(t, g, (&payments{fail: once.MaybeDone(errNetwork)}).ChargeCard, order(7))
					require.Error(t, err)
					later(o.SettleDelay)
				}
				s.slow[verb] = true
				bodies := 0
				body := func(ctx context.Context, _ charge) (receipt, error) {
					bodies++
					assert.NoError(t, ctx.Err())
					return receipt{}, nil
				}
				_, err := execute(t, g, body, order(7))
				if verb == "takeover" { // in doubt again, for the run before
					requireReason(t, err, once.InDoubt, true)
					require.Zero(t, bodies)
					require.Equal(t, store.InDoubt, only(t, s).State)
					later(o.SettleDelay)
					_, err = execute(t, g, body, order(7))
				}
				require.NoError(t, err)
				require.Equal(t, 1, bodies)
				require.Equal(t, store.Succeeded, only(t, s).State)
			})
		})
	}
}
