package interceptor_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

func byAnn(why string) resolve.Decision { return resolve.Decision{By: "ann", Why: why} }

func forced(why string) resolve.Decision {
	return resolve.Decision{By: "ann", Why: why, Force: true}
}

// doubted is a record in doubt, and the guard that made it.
func doubted(t *testing.T, s store.Store, p once.Policy) (*interceptor.Guard, store.Record) {
	t.Helper()
	g := guarded(t, s, p)
	_, err := execute(t, g, func(context.Context, charge) (receipt, error) {
		return receipt{}, once.MaybeDone(errors.New("no answer"))
	}, order(7))
	requireReason(t, err, once.InDoubt, true)
	return g, only(t, s)
}

func TestResolve_DecidesWhatTheNextAttemptDoes(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		finding resolve.Finding
		state   store.State
		check   func(t *testing.T, p *payments, got receipt, err error)
	}{
		"Done": {resolve.AsDone(receipt{ID: "found"}), store.Succeeded, func(t *testing.T, p *payments, got receipt, err error) {
			require.NoError(t, err)
			require.Equal(t, "found", got.ID)
			require.Empty(t, p.charges)
		}},
		"Failed": {resolve.AsFailed(errors.New("card stolen")), store.Failed, func(t *testing.T, p *payments, _ receipt, err error) {
			require.ErrorContains(t, err, "card stolen")
			require.Empty(t, p.charges)
		}},
		"NotDone": {resolve.AsNotDone(), store.Tombstone, func(t *testing.T, p *payments, _ receipt, err error) {
			require.NoError(t, err)
			require.Len(t, p.charges, 1)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p := newFaulty(), &payments{}
			g, r := doubted(t, s, once.Policy{TTL: 90 * 24 * time.Hour})
			s.set("resolve", fault{applied: true, times: 2})
			later(40 * time.Millisecond) // NotDone waits for the settle delay
			now, err := g.Resolve(t.Context(), r, want.finding, byAnn("asked the provider"))
			require.NoError(t, err)
			require.Equal(t, want.state, now.State)
			require.Equal(t, store.ByOperator, now.By)
			last := now.History[len(now.History)-1]
			require.Equal(t, "asked the provider", last.Why)
			require.WithinDuration(t, now.Now.Add(90*24*time.Hour), now.Expires, 10*24*time.Hour, "the policy's TTL")
			got, err := execute(t, g, p.ChargeCard, order(7))
			want.check(t, p, got, err)
		})
	}
}

// An order that was charged, compensated and started again is charged again.
func TestResolve_ReopensWhatIsSettled(t *testing.T) {
	t.Parallel()
	s, p := memory(), &payments{}
	g := guarded(t, s, once.Policy{})
	_, err := execute(t, g, p.ChargeCard, order(7))
	require.NoError(t, err)
	_, err = g.Resolve(t.Context(), only(t, s), resolve.AsNotDone(), byAnn("refunded as ch_2"))
	require.NoError(t, err)
	_, err = execute(t, g, p.ChargeCard, order(7))
	require.NoError(t, err)
	require.Len(t, p.charges, 2)
}

// An operator's slip is put right, and no call runs meanwhile.
func TestResolve_CorrectsWhatIsSettled(t *testing.T) {
	t.Parallel()
	s, p := newFaulty(), &payments{}
	g, r := doubted(t, s, once.Policy{})
	answer := func() (string, error) {
		got, err := execute(t, g, p.ChargeCard, order(7))
		return got.ID, err
	}
	for _, slip := range []resolve.Finding{resolve.AsFailed(errors.New("declined")), resolve.AsDone(receipt{ID: "r-8"})} {
		var err error
		r, err = g.Resolve(t.Context(), r, slip, byAnn("a slip"))
		require.NoError(t, err)
		s.set("resolve", fault{applied: true, times: 2})
		r, err = g.Resolve(t.Context(), r, resolve.AsDone(receipt{ID: "r-9"}), resolve.Decision{By: "bob", Why: "looked again"})
		require.NoError(t, err)
		id, err := answer()
		require.NoError(t, err)
		require.Equal(t, "r-9", id)
		last := r.History[len(r.History)-1]
		require.Equal(t, []string{"bob", "looked again", store.ByOperator}, []string{last.Who, last.Why, last.FromBy})
	}
	_, err := g.Resolve(t.Context(), r, resolve.AsFailed(errors.New("declined")), byAnn("after all"))
	require.NoError(t, err)
	_, err = answer()
	require.ErrorContains(t, err, "declined")
	require.Empty(t, p.charges)
	require.Len(t, only(t, s).History, 5)
}

func TestResolve_TellsObserversWhoAndWhy(t *testing.T) {
	t.Parallel()
	s := memory()
	g, notices := noticed(t, s)
	_, err := g.Resolve(t.Context(), inDoubtOf(t, s, "ChargeCard"), resolve.AsFailed(errors.New("no")), byAnn("asked the bank"))
	require.NoError(t, err)
	e := <-notices.begun
	require.Equal(t, observe.Resolved, e.Notice)
	last := e.Record.History[len(e.Record.History)-1]
	require.Equal(t, []string{"ann", "asked the bank"}, []string{last.Who, last.Why})
}

// Once its owner itself has said how it ended, nobody is waited for.
func TestResolve_ReopensWhatTheOwnerHadSettledAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memory()
		g := underDefaults(t, s, once.Policy{})
		require.NoError(t, charged(t, g))
		r, err := g.Resolve(t.Context(), only(t, s), resolve.AsFailed(errors.New("no")), byAnn("why"))
		require.NoError(t, err)
		_, err = g.Resolve(t.Context(), r, resolve.AsNotDone(), byAnn("why"))
		require.NoError(t, err)
	})
}

func TestResolve_OfARunningRecordIsForced(t *testing.T) {
	t.Parallel()
	s := memory()
	g := guarded(t, s, once.Policy{})
	finish := running(t, g, order(7))
	r := only(t, s)
	_, err := g.Resolve(t.Context(), r, resolve.AsNotDone(), byAnn("the machine burned down"))
	require.ErrorContains(t, err, "it is running")
	_, err = g.Resolve(t.Context(), r, resolve.AsNotDone(), forced("the machine burned down"))
	require.NoError(t, err)
	_, _ = finish()
}

// requireTooEarly says that NotDone is refused for r until that time, and taken
// then, without another look at the record.
func requireTooEarly(t *testing.T, g *interceptor.Guard, r store.Record, until time.Time) {
	t.Helper()
	later(time.Until(until) - time.Second)
	now, err := g.Resolve(t.Context(), r, resolve.AsNotDone(), byAnn("why"))
	require.ErrorIs(t, err, resolve.ErrTooEarly)
	require.ErrorContains(t, err, "until "+until.UTC().Format(time.RFC3339)+", for another 1s: wait")
	require.Equal(t, r.State, now.State)
	require.Equal(t, until.Add(-time.Second), now.Now)
	later(time.Second)
	now, err = g.Resolve(t.Context(), r, resolve.AsNotDone(), byAnn("why"))
	require.NoError(t, err)
	require.Equal(t, store.Tombstone, now.State)
}

// markedInDoubt is a record in doubt whose owner runs on.
func markedInDoubt(t *testing.T) (*faulty, *interceptor.Guard, store.Record) {
	t.Helper()
	s := newFaulty()
	s.set("renew", fault{times: always})
	g := underDefaults(t, s, once.Policy{})
	finish := running(t, g, order(7))
	t.Cleanup(func() { _, _ = finish() })
	later(time.Minute)
	requireReason(t, charged(t, g), once.InDoubt, true)
	r := only(t, s)
	require.True(t, r.Marked)
	return s, g, r
}

func TestResolve_NotDoneWaitsForTheLastOwner(t *testing.T) {
	t.Parallel()
	for name, try := range map[string]func(t *testing.T){
		"the owner said so": func(t *testing.T) {
			s := newFaulty()
			g := underDefaults(t, s, once.Policy{})
			_, err := execute(t, g, (&payments{fail: once.MaybeDone(errors.New("no answer"))}).ChargeCard, order(7))
			requireReason(t, err, once.InDoubt, true)
			r := only(t, s)
			require.ErrorContains(t, err, "the last owner may act until "+r.Doubted.Add(30*time.Second).UTC().Format(time.RFC3339)+"; then find out")
			requireTooEarly(t, g, r, r.Doubted.Add(30*time.Second))
		},
		"the owner may be alive": func(t *testing.T) {
			_, g, r := markedInDoubt(t)
			require.Equal(t, 10*time.Minute, r.Deadline.Sub(r.Claimed))
			require.ErrorContains(t, charged(t, g), "the last owner may act until "+r.Deadline.UTC().Format(time.RFC3339)+"; then find out")
			requireTooEarly(t, g, r, r.Deadline)
		},
		"the owner's deadline comes before the settle delay": func(t *testing.T) {
			s, g, r := markedInDoubt(t)
			later(time.Until(r.Deadline.Add(-time.Second)))
			// The owner comes back once more, and is lost again.
			_, err := s.Memory.Renew(t.Context(), store.Bid{Key: r.Key, Owner: r.Owner, Fence: r.Fence, Lease: time.Second, TTL: time.Hour})
			require.NoError(t, err)
			later(time.Second)
			require.Error(t, charged(t, g))
			again := only(t, s)
			require.Equal(t, r.Deadline, again.Doubted)
			requireTooEarly(t, g, again, r.Deadline.Add(30*time.Second))
		},
		"pending": func(t *testing.T) {
			s := newFaulty()
			g := underDefaults(t, s, once.Policy{})
			pending(t, g, order(7))
			r := only(t, s)
			requireTooEarly(t, g, r, r.Deadline.Add(30*time.Second))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, try)
		})
	}
}

func TestResolve_OnlyNotDoneWaits(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]resolve.Finding{
		"Done": resolve.AsDone(receipt{}), "Failed": resolve.AsFailed(errors.New("no")), "Force": resolve.AsNotDone(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, g, r := markedInDoubt(t)
				d := byAnn("why")
				d.Force = name == "Force"
				_, err := g.Resolve(t.Context(), r, f, d)
				require.NoError(t, err)
			})
		})
	}
}

// What an operator decides does not stop the owner: another finding on top of it
// is no way around the wait.
func TestResolve_NotDoneWaitsAfterAnotherFinding(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]resolve.Finding{
		"Done": resolve.AsDone(receipt{}), "Failed": resolve.AsFailed(errors.New("no")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, g, r := markedInDoubt(t)
				r, err := g.Resolve(t.Context(), r, f, byAnn("too fast"))
				require.NoError(t, err)
				requireTooEarly(t, g, r, r.Deadline)
			})
		})
		t.Run(name+", late", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, g, r := markedInDoubt(t)
				later(time.Until(r.Deadline.Add(-time.Second)))
				r, err := g.Resolve(t.Context(), r, f, byAnn("too fast"))
				require.NoError(t, err)
				requireTooEarly(t, g, r, r.Settled.Add(30*time.Second))
			})
		})
	}
}

func TestResolve_TooEarlyOrMoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, g, r := markedInDoubt(t)
		s.set("renew", fault{}) // the owner comes back
		later(time.Minute)
		now, err := g.Resolve(t.Context(), r, resolve.AsNotDone(), byAnn("why"))
		require.ErrorIs(t, err, store.ErrMoved)
		require.Equal(t, store.Running, now.State)
	})
}

// An attempt that waited for the key has less time left than when it came.
func TestClaim_DeadlineIsTheAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memory()
		g := underDefaults(t, s, once.Policy{OnDuplicate: once.Wait})
		began, finished := time.Now(), make(chan struct{})
		go func() {
			defer close(finished)
			_, err := execute(t, g, func(context.Context, charge) (receipt, error) {
				later(4 * time.Minute)
				return receipt{}, errors.New("declined")
			}, order(7))
			assert.Error(t, err)
		}()
		later(time.Minute)
		_, err := execute(t, g, func(context.Context, charge) (receipt, error) {
			require.Equal(t, began.Add(11*time.Minute), only(t, s).Deadline)
			return receipt{}, nil
		}, order(7))
		require.NoError(t, err)
		<-finished
	})
}

func TestResolve_RefusesARecordThatHasMoved(t *testing.T) {
	t.Parallel()
	s := memory()
	g, r := doubted(t, s, once.Policy{})
	_, err := g.Resolve(t.Context(), r, resolve.AsDone(receipt{}), byAnn("first"))
	require.NoError(t, err)
	now, err := g.Resolve(t.Context(), r, resolve.AsNotDone(), byAnn("second"))
	require.ErrorIs(t, err, store.ErrMoved)
	require.Equal(t, store.Succeeded, now.State)
}

func TestResolve_RefusesBadInput(t *testing.T) {
	t.Parallel()
	s := memory()
	g, r := doubted(t, s, once.Policy{})
	decide := func(r store.Record, f resolve.Finding, why string) error {
		_, err := g.Resolve(t.Context(), r, f, byAnn(why))
		return err
	}
	require.ErrorContains(t, decide(r, resolve.Finding{}, "why"), "empty Finding")
	require.ErrorContains(t, decide(r, resolve.AsFailed(nil), "why"), "needs an error")
	require.ErrorContains(t, decide(r, resolve.AsNotDone(), ""), "say why")
	_, err := g.Resolve(t.Context(), r, resolve.AsNotDone(), resolve.Decision{Why: "why"})
	require.ErrorContains(t, err, "say who decides")
	g = guarded(t, s, once.Policy{}) // one that knows no function
	require.ErrorContains(t, decide(r, resolve.AsDone(make(chan int)), "why"), "encode")
	require.ErrorContains(t, decide(r, resolve.AsDone(strings.Repeat("x", 3<<20)), "why"), "limit")
	bare := newGuard(t, s, interceptor.Options{Activities: once.Mark(once.Policy{}, "ChargeCard")})
	_, err = bare.Resolve(t.Context(), r, resolve.AsDone(receipt{}), byAnn("why"))
	require.ErrorContains(t, err, "data converter")
	require.Equal(t, store.InDoubt, only(t, s).State)
}

func TestGuard_KnowsThePolicyOfARecord(t *testing.T) {
	t.Parallel()
	g, r := doubted(t, store.NewMemory(store.MemoryOptions{}), once.Policy{InDoubt: once.HoldFor(time.Hour)})
	p, known := g.Policy(r)
	require.True(t, known)
	require.Equal(t, once.HoldFor(time.Hour), p.InDoubt)
	step, function, other := r, r, r
	step.Info.Activity += "/step"
	function.Info.Holder = store.Holder{ActivityRunID: "019b"}
	other.Info.Activity = "unmarked"
	for _, r := range []store.Record{step, function, other, {}} {
		_, known := g.Policy(r)
		require.False(t, known, r.Info)
	}
}
