package interceptor_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/store"
)

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
		finding interceptor.Finding
		state   store.State
		check   func(t *testing.T, p *payments, got receipt, err error)
	}{
		"Done": {interceptor.Done(receipt{ID: "found"}), store.Succeeded, func(t *testing.T, p *payments, got receipt, err error) {
			require.NoError(t, err)
			require.Equal(t, "found", got.ID)
			require.Empty(t, p.charges)
		}},
		"Failed": {interceptor.Failed(errors.New("card stolen")), store.Failed, func(t *testing.T, p *payments, _ receipt, err error) {
			require.ErrorContains(t, err, "card stolen")
			require.Empty(t, p.charges)
		}},
		"NotDone": {interceptor.NotDone(), store.Tombstone, func(t *testing.T, p *payments, _ receipt, err error) {
			require.NoError(t, err)
			require.Len(t, p.charges, 1)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p := newFaulty(), &payments{}
			g, r := doubted(t, s, once.Policy{TTL: 90 * 24 * time.Hour})
			s.set("resolve", fault{applied: true, times: 2})
			now, err := g.Resolve(t.Context(), r, want.finding, "asked the provider")
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
	_, err = g.Resolve(t.Context(), only(t, s), interceptor.NotDone(), "refunded as ch_2")
	require.NoError(t, err)
	_, err = execute(t, g, p.ChargeCard, order(7))
	require.NoError(t, err)
	require.Len(t, p.charges, 2)
}

func TestResolve_OfARunningRecordIsForced(t *testing.T) {
	t.Parallel()
	s := memory()
	g := guarded(t, s, once.Policy{})
	finish := running(t, g, order(7))
	r := only(t, s)
	_, err := g.Resolve(t.Context(), r, interceptor.NotDone(), "the machine burned down")
	require.ErrorContains(t, err, "it is running")
	_, err = g.Resolve(t.Context(), r, interceptor.NotDone().Forced(), "the machine burned down")
	require.NoError(t, err)
	_, _ = finish()
}

func TestResolve_RefusesARecordThatHasMoved(t *testing.T) {
	t.Parallel()
	s := memory()
	g, r := doubted(t, s, once.Policy{})
	_, err := g.Resolve(t.Context(), r, interceptor.Done(receipt{}), "first")
	require.NoError(t, err)
	now, err := g.Resolve(t.Context(), r, interceptor.NotDone(), "second")
	require.ErrorIs(t, err, store.ErrMoved)
	require.Equal(t, store.Succeeded, now.State)
}

func TestResolve_RefusesBadInput(t *testing.T) {
	t.Parallel()
	s := memory()
	g, r := doubted(t, s, once.Policy{})
	resolve := func(r store.Record, f interceptor.Finding, why string) error {
		_, err := g.Resolve(t.Context(), r, f, why)
		return err
	}
	require.ErrorContains(t, resolve(r, interceptor.Finding{}, "why"), "empty Finding")
	require.ErrorContains(t, resolve(r, interceptor.Failed(nil), "why"), "needs an error")
	require.ErrorContains(t, resolve(r, interceptor.NotDone(), ""), "say why")
	require.ErrorContains(t, resolve(store.Record{}, interceptor.NotDone(), "why"), "no record")
	for _, state := range []store.State{store.Succeeded, store.Failed, store.Tombstone} {
		settled := r
		settled.State = state
		require.ErrorContains(t, resolve(settled, interceptor.Done(receipt{}), "why"), "can only be reopened")
	}
	require.ErrorContains(t, resolve(r, interceptor.Done(make(chan int)), "why"), "encode")
	require.ErrorContains(t, resolve(r, interceptor.Done(strings.Repeat("x", 3<<20)), "why"), "limit")
	bare := newGuard(t, s, interceptor.Options{Activities: once.Mark(once.Policy{}, "ChargeCard")})
	_, err := bare.Resolve(t.Context(), r, interceptor.Done(receipt{}), "why")
	require.ErrorContains(t, err, "data converter")
	require.Equal(t, store.InDoubt, only(t, s).State)
}
