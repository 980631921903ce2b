package interceptor_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// noticed is a guard and what it notices.
func noticed(t *testing.T, s store.Store) (*interceptor.Guard, *watch) {
	t.Helper()
	notices := newWatch(observe.KindNotice)
	o := options(once.Mark(once.Policy{TTL: store.Forever}, "ChargeCard"))
	o.Observers = []observe.Observer{notices}
	return newGuard(t, s, o), notices
}

func TestForget_ErasesTheRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, p := newFaulty(), &payments{}
		g, notices := noticed(t, s)
		_, err := execute(t, g, p.ChargeCard, order(7))
		require.NoError(t, err)
		r := only(t, s)
		require.True(t, r.Expires.IsZero())
		s.set("resolve", fault{applied: true, times: 2})
		now, err := g.Forget(t.Context(), r, byAnn("request 4711"))
		require.NoError(t, err)
		require.Equal(t, now.Revision, only(t, s).Revision)
		require.Equal(t, store.Info{}, now.Info)
		require.True(t, now.Outcome.IsZero())
		require.Len(t, now.History, 1)
		e := now.History[0]
		require.Equal(t, []string{store.TurnErased, "ann", "request 4711"}, []string{e.What, e.Who, e.Why})

		notice := <-notices.begun
		require.Equal(t, observe.Erased, notice.Notice)
		require.Equal(t, "ChargeCard", notice.Activity)
		require.Equal(t, keys.Downstream(r.Key)[:16], notice.Digest)
		require.Empty(t, notice.WorkflowID+notice.RunID+notice.ActivityID+notice.Record.Key)
		require.Equal(t, e, notice.Record.History[0])
		require.Empty(t, notices.begun)

		later(2 * store.TombstoneTTL)
		gone, err := s.Load(t.Context(), r.Key)
		require.NoError(t, err)
		require.Equal(t, store.Absent, gone.State)
		_, err = execute(t, g, p.ChargeCard, order(7))
		require.NoError(t, err)
		require.Len(t, p.charges, 2, "the next call runs")
	})
}

// An owner whose record is erased beneath it still writes what it did.
func TestForget_DoesNotHideWhatTheOwnerDoesYet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memory()
		g, _ := noticed(t, s)
		finish := running(t, g, order(7))
		before := only(t, s)
		_, err := g.Forget(t.Context(), before, byAnn("request 4711"))
		require.ErrorContains(t, err, "it is running")
		require.Equal(t, store.Running, only(t, s).State)
		_, err = g.Forget(t.Context(), before, forced("request 4711"))
		require.NoError(t, err)
		require.Equal(t, store.Tombstone, only(t, s).State)
		_, err = finish()
		require.NoError(t, err)
		r := only(t, s)
		require.Equal(t, store.Succeeded, r.State)
		require.Equal(t, before.Info, r.Info)
		got, err := execute(t, g, (&payments{}).ChargeCard, order(7))
		require.NoError(t, err)
		require.Equal(t, "first", got.ID, "the effect is not repeated")
	})
}

func TestForget_RefusesARecordThatHasMoved(t *testing.T) {
	t.Parallel()
	s := memory()
	g, r := doubted(t, s, once.Policy{})
	_, err := g.Resolve(t.Context(), r, resolve.AsFailed(errors.New("no")), byAnn("asked"))
	require.NoError(t, err)
	now, err := g.Forget(t.Context(), r, forced("request 4711"))
	require.ErrorIs(t, err, store.ErrMoved)
	require.ErrorContains(t, err, "read it again: it is settled as failed, by the operator ann")
	require.Equal(t, store.Failed, now.State)
	for _, d := range []resolve.Decision{{}, {By: "ann"}, {Why: "request 4711"}} {
		_, err = g.Forget(t.Context(), now, d)
		require.ErrorContains(t, err, "it is kept in the record")
	}
	require.Equal(t, store.Failed, only(t, s).State)
}

// Like NotDone it lets another call run, while the owner may have its effect yet.
func TestForget_WaitsForTheLastOwner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, g, r := markedInDoubt(t)
		r, err := g.Resolve(t.Context(), r, resolve.AsDone(receipt{}), byAnn("too fast"))
		require.NoError(t, err)
		_, err = g.Forget(t.Context(), r, byAnn("request 4711"))
		require.ErrorIs(t, err, resolve.ErrTooEarly)
		later(time.Until(r.Deadline))
		_, err = g.Forget(t.Context(), r, byAnn("request 4711"))
		require.NoError(t, err)
	})
}

func TestForget_WhileTheStoreIsDown(t *testing.T) {
	t.Parallel()
	s := newFaulty()
	g, r := doubted(t, s, once.Policy{})
	s.set("resolve", fault{times: always})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := g.Forget(ctx, r, forced("request 4711"))
	require.ErrorIs(t, err, errNetwork)
	require.Equal(t, store.InDoubt, only(t, s).State)
}
