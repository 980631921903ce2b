package atmostonce_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

var ann = resolve.Decision{By: "ann", Why: "found at the provider"}

func TestGuard_ResolvesWhatIsInDoubt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory(store.MemoryOptions{})
		g := newGuardOver(t, s, atmostonce.Options{Codec: sealed{key: [32]byte{1}}, Errors: []error{errDeclined}})
		runs := 0
		charge := atmostonce.Func(g, "charge", byID, func(_ context.Context, in event) (*receipt, error) {
			if runs++; in.Note == "" {
				return nil, once.MaybeDone(errors.New("no answer"))
			}
			return &receipt{"ch_" + in.Note}, nil
		})
		doubt := func(id string) store.Record {
			_, err := charge(t.Context(), event{ID: id})
			e := refusalOf(t, err, once.InDoubt)
			require.Equal(t, 30*time.Second, e.RetryAfter)
			require.ErrorContains(t, err, "no answer")
			r, err := g.Find(t.Context(), e.Key)
			require.NoError(t, err)
			require.Equal(t, store.InDoubt, r.State)
			return r
		}
		done, failed, undone := doubt("done"), doubt("failed"), doubt("undone")

		_, err := g.Resolve(t.Context(), done, resolve.AsDone(receipt{"ch"}), ann)
		require.ErrorIs(t, err, resolve.ErrResultType)
		require.ErrorContains(t, err, "charge returns *atmostonce_test.receipt, not atmostonce_test.receipt")
		_, err = g.Resolve(t.Context(), done, resolve.AsDone(&receipt{"ch_found"}), ann)
		require.NoError(t, err)
		r, err := charge(t.Context(), event{ID: "done"})
		require.NoError(t, err)
		require.Equal(t, &receipt{"ch_found"}, r)
		now, err := g.Find(t.Context(), keyOf(done))
		require.NoError(t, err)
		require.NotContains(t, string(now.Outcome.Data), "ch_found", "the codec seals it")

		_, err = g.Resolve(t.Context(), failed, resolve.AsFailed(errDeclined), ann)
		require.NoError(t, err)
		_, err = charge(t.Context(), event{ID: "failed"})
		require.ErrorIs(t, err, errDeclined)

		_, err = g.Resolve(t.Context(), undone, resolve.AsNotDone(), ann)
		require.ErrorIs(t, err, resolve.ErrTooEarly)
		time.Sleep(31 * time.Second) //nolint:forbidigo // a bubble's clock
		_, err = g.Resolve(t.Context(), undone, resolve.AsNotDone(), ann)
		require.NoError(t, err, "a call without a deadline is over with its lease")
		r, err = charge(t.Context(), event{ID: "undone", Note: "now"})
		require.NoError(t, err)
		require.Equal(t, &receipt{"ch_now"}, r)
		require.Equal(t, 4, runs)

		now, err = g.Find(t.Context(), keyOf(undone))
		require.NoError(t, err)
		now, err = g.Forget(t.Context(), now, ann)
		require.NoError(t, err)
		require.Equal(t, store.Tombstone, now.State)
		_, err = charge(t.Context(), event{ID: "undone", Note: "again"})
		require.NoError(t, err)
		require.Equal(t, 5, runs)
		require.NoError(t, g.Close(t.Context()))
	})
}

// A crashed call without a deadline, and one with, can be decided about: an operator
// waits for what its context allowed.
func TestGuard_ResolveWaitsForTheDeadlineOfTheOwner(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]time.Duration{"no deadline": 0, "a deadline": time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			s := newWatched()
			g := newGuardOver(t, s, atmostonce.Options{})
			gone := errors.New("the process is gone")
			ctx := t.Context()
			if limit > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, limit)
				defer cancel()
			}
			s.deaf.Store(&gone)
			_, err := atmostonce.Func(g, "charge", byID, echo)(ctx, event{ID: "7"})
			require.NoError(t, err)
			cancelled, cancel := context.WithCancel(t.Context())
			cancel()
			require.ErrorContains(t, g.Close(cancelled), "1 calls were not recorded")
			time.Sleep(2 * time.Minute) //nolint:forbidigo // a bubble's clock
			s.deaf.Store(nil)
			g = newGuardOver(t, s, atmostonce.Options{})
			_, err = atmostonce.Func(g, "charge", byID, echo)(t.Context(), event{ID: "7"})
			e := refusalOf(t, err, once.InDoubt)
			r, err := g.Find(t.Context(), e.Key)
			require.NoError(t, err)
			time.Sleep(time.Minute) //nolint:forbidigo // a bubble's clock
			_, err = g.Resolve(t.Context(), r, resolve.AsNotDone(), ann)
			if limit == 0 {
				require.NoError(t, err, name)
			} else {
				require.ErrorIs(t, err, resolve.ErrTooEarly, name)
			}
			require.NoError(t, g.Close(t.Context()))
		})
	}
}

func TestGuard_ResolveTakesWhatTheFunctionCouldReturn(t *testing.T) {
	t.Parallel()
	g := newGuard(t, atmostonce.Options{Defaults: once.Policy{OnFailure: once.Doubt}})
	fail := errors.New("no answer")
	nothing := atmostonce.Func(g, "nothing", byID, func(context.Context, event) (struct{}, error) { return struct{}{}, fail })
	number := atmostonce.Func(g, "number", byID, func(context.Context, event) (int, error) { return 0, fail })
	_, err := nothing(t.Context(), event{ID: "7"})
	r, err2 := g.Find(t.Context(), refusalOf(t, err, once.InDoubt).Key)
	require.NoError(t, err2)
	_, err = g.Resolve(t.Context(), r, resolve.AsDone("x"), ann)
	require.ErrorIs(t, err, resolve.ErrResultType)
	_, err = g.Resolve(t.Context(), r, resolve.AsDone(nil), ann)
	require.NoError(t, err)
	_, err = nothing(t.Context(), event{ID: "7"})
	require.NoError(t, err)
	_, err = number(t.Context(), event{ID: "7"})
	r, err2 = g.Find(t.Context(), refusalOf(t, err, once.InDoubt).Key)
	require.NoError(t, err2)
	_, err = g.Resolve(t.Context(), r, resolve.AsDone(nil), ann)
	require.ErrorIs(t, err, resolve.ErrResultType)
	_, err = g.Resolve(t.Context(), r, resolve.AsDone(make(chan int)), ann)
	require.ErrorIs(t, err, resolve.ErrResultType)
	other := r
	other.Info.Holder.Namespace = "shop"
	_, err = g.Resolve(t.Context(), other, resolve.AsDone(7), ann)
	require.ErrorContains(t, err, `namespace "shop"`)
	_, err = g.Resolve(t.Context(), r, resolve.AsDone(7), resolve.Decision{})
	require.ErrorContains(t, err, "say who decides")
	_, err = g.Resolve(t.Context(), r, resolve.AsDone(7), ann)
	require.NoError(t, err)
	n, err := number(t.Context(), event{ID: "7"})
	require.NoError(t, err)
	require.Equal(t, 7, n)
}

// JSON becomes a value of the type that the function returns.
func TestGuard_ResolvesByJSON(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuardOver(t, store.NewMemory(store.MemoryOptions{}), atmostonce.Options{})
		charge := atmostonce.Func(g, "charge", byID, func(context.Context, event) (*receipt, error) {
			return nil, once.MaybeDone(errors.New("no answer"))
		})
		_, err := charge(t.Context(), event{ID: "1"})
		r, err := g.Find(t.Context(), refusalOf(t, err, once.InDoubt).Key)
		require.NoError(t, err)
		for _, text := range []string{`{"Charge":7}`, `{"Charge":"r","more":1}`, `{`, ``} {
			_, err = g.Resolve(t.Context(), r, resolve.AsDone(resolve.JSON(text)), ann)
			require.ErrorIs(t, err, resolve.ErrResultType, text)
		}
		_, err = g.Resolve(t.Context(), r, resolve.AsDone(resolve.JSON(`{"Charge":"ch_found"}`)), ann)
		require.NoError(t, err)
		found, err := charge(t.Context(), event{ID: "1"})
		require.NoError(t, err)
		require.Equal(t, &receipt{"ch_found"}, found)
	})
}

func TestGuard_KnowsThePolicyOfARecord(t *testing.T) {
	t.Parallel()
	s := store.NewMemory(store.MemoryOptions{})
	g := newGuardOver(t, s, atmostonce.Options{Defaults: once.Policy{InDoubt: once.Fail}})
	charge := atmostonce.Func(g, "charge", byID, func(context.Context, event) (struct{}, error) {
		return struct{}{}, once.MaybeDone(errors.New("no answer"))
	})
	_, err := charge(t.Context(), event{ID: "1"})
	r, err := g.Find(t.Context(), refusalOf(t, err, once.InDoubt).Key)
	require.NoError(t, err)
	p, known := g.Policy(r)
	require.True(t, known)
	require.Equal(t, once.Fail, p.InDoubt)
	step, activity, other, elsewhere := r, r, r, r
	step.Info.Activity += "/step"
	activity.Info.Holder.WorkflowID = "order-1"
	other.Info.Activity = "other"
	elsewhere.Info.Holder.Namespace = "elsewhere"
	for _, r := range []store.Record{step, activity, other, elsewhere, {}} {
		_, known := g.Policy(r)
		require.False(t, known, r.Info)
	}
	_, known = (*atmostonce.Guard)(nil).Policy(r)
	require.False(t, known, "nil")
}
