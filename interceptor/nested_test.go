package interceptor_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/atmostonce/atmostonce"
	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// functions returns a guard of functions.
func functions(t *testing.T, s store.Store) *atmostonce.Guard {
	t.Helper()
	g, err := atmostonce.New(s, atmostonce.Options{})
	require.NoError(t, err)
	return g
}

// A guarded function in an activity: what it leaves in doubt, the activity does not take
// for an answer.
func TestFunction_InDoubtPutsItsActivityInDoubt(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fails error
		wrap  string
		state store.State
	}{
		"in doubt":            {once.MaybeDone(errors.New("no answer")), "%w", store.InDoubt},
		"in doubt, wrapped":   {once.MaybeDone(errors.New("no answer")), "pay: %w", store.InDoubt},
		"in doubt, text only": {once.MaybeDone(errors.New("no answer")), "%v", store.Tombstone}, // believed, as any text
		"declined":            {errors.New("declined"), "%w", store.Tombstone},
	} {
		synctest.Test(t, func(t *testing.T) { // whose clock no other process holds up
			s := memory()
			pay := atmostonce.Func(functions(t, memory()), "pay", once.Policy{}, func(context.Context, string) (int, error) { return 0, tc.fails })
			for range 2 { // its own answer, and that of a duplicate
				_, err := execute(t, guarded(t, s, once.Policy{}), func(ctx context.Context, in charge) (receipt, error) {
					if _, err := pay(ctx, in.Order); err != nil {
						return receipt{}, fmt.Errorf(tc.wrap, err)
					}
					return receipt{}, nil
				}, order(7))
				require.Error(t, err, name)
				require.Equal(t, tc.state == store.InDoubt, once.MayHaveHappened(err), name)
				require.Equal(t, tc.state, only(t, s).State, name)
			}
		})
	}
}

// And the other way round: a guarded function that waits for what Temporal runs.
func TestFunction_IsInDoubtWithWhatItHasStarted(t *testing.T) {
	t.Parallel()
	refusal := func(reason once.Reason) error { return temporal.NewApplicationError("in doubt: x", string(reason)) }
	for name, tc := range map[string]struct {
		err  error
		open bool
	}{
		"in doubt":              {refusal(once.InDoubt), true},
		"in flight":             {refusal(once.InFlight), true},
		"of a retried activity": {fmt.Errorf("workflow: %w", temporal.NewApplicationErrorWithCause("failed", "Failed", refusal(once.InDoubt))), true},
		"timed out":             {temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_START_TO_CLOSE, nil), true},
		"canceled":              {temporal.NewCanceledError(), true},
		"declined":              {temporal.NewApplicationError("declined", "Declined"), false},
	} {
		f := atmostonce.Func(functions(t, memory()), "order", once.Policy{}, func(context.Context, string) (int, error) { return 0, tc.err })
		_, err := f(t.Context(), "7")
		require.Equal(t, tc.open, errors.Is(err, once.InDoubt), name)
		require.Equal(t, tc.open, atmostonce.MayHaveHappened(err), name)
	}
}

// A run that was certain of itself says nothing of the one before it: neither does its mark.
func TestStep_ThatWasTakenOverPutsItsActivityInDoubt(t *testing.T) {
	t.Parallel()
	s, runs := memory(), 0
	g := guarded(t, s, once.Policy{InDoubt: once.Rerun})
	body := func(ctx context.Context, _ charge) (receipt, error) {
		r, err := atmostonce.Step(ctx, "charge", func(context.Context) (receipt, error) {
			if runs++; runs == 1 {
				return receipt{}, once.MaybeDone(errors.New("no answer"))
			}
			return receipt{}, fmt.Errorf("charge: %w", once.NotDone(errors.New("declined")))
		}, once.Policy{InDoubt: once.Rerun})
		if runs == 1 {
			err = once.NotDone(err) // the key of the activity is free
		}
		return r, err
	}
	_, err := execute(t, g, body, order(7))
	require.Error(t, err)
	later(60 * time.Millisecond)
	_, err = execute(t, g, body, order(7))
	require.Equal(t, 2, runs)
	requireReason(t, err, once.InDoubt, true)
	_, call := stepOf(t, s, "charge")
	require.Equal(t, store.InDoubt, call.State)
}

// Each kind of guard decides about its own records: they encode results in other ways.
func TestResolve_OfARecordOfTheOtherKindIsRefused(t *testing.T) {
	t.Parallel()
	s := memory()
	activities := guarded(t, s, once.Policy{})
	fails := func(context.Context, charge) (receipt, error) {
		return receipt{}, once.MaybeDone(errors.New("no answer"))
	}
	_, err := execute(t, activities, fails, order(7))
	require.Error(t, err)
	ofActivity := only(t, s)
	g, err := atmostonce.New(s, atmostonce.Options{Namespace: ofActivity.Info.Holder.Namespace})
	require.NoError(t, err)
	byOrder := once.Policy{Key: keys.From(byOrder)}
	_, err = atmostonce.Func(g, "ChargeCard", byOrder, fails)(t.Context(), order(7))
	var e *atmostonce.Error
	require.ErrorAs(t, err, &e)
	ofFunction, err := g.Find(t.Context(), e.Key)
	require.NoError(t, err)
	for _, f := range []resolve.Finding{resolve.AsDone(receipt{"found"}), resolve.AsFailed(errors.New("declined")), resolve.AsNotDone()} {
		_, err = activities.Resolve(t.Context(), ofFunction, f, forced("asked"))
		require.ErrorContains(t, err, "a guard of functions")
		_, err = g.Resolve(t.Context(), ofActivity, f, forced("asked"))
		require.ErrorContains(t, err, "a guard of activities")
	}
	_, err = g.Resolve(t.Context(), ofFunction, resolve.AsDone(receipt{"found"}), forced("asked"))
	require.NoError(t, err)
	_, err = activities.Resolve(t.Context(), ofActivity, resolve.AsDone(receipt{"found"}), forced("asked"))
	require.NoError(t, err)
}

// hollow is an error whose methods need a value.
type hollow struct {
	cause error
	kind  string
}

func (h *hollow) Error() string { return h.kind }
func (h *hollow) Unwrap() error { return h.cause }
func (h *hollow) Type() string  { return h.kind }

func TestFailures_ThatAreNilPointersAreInDoubt(t *testing.T) {
	t.Parallel()
	for _, p := range []once.FailurePolicy{once.Unlock, once.Lock, once.Doubt} {
		for _, err := range []error{fmt.Errorf("charge: %w", &hollow{(*hollow)(nil), "k"}), errors.Join(errors.New("declined"), fmt.Errorf("b: %w", (*hollow)(nil)))} {
			for _, body := range []func(ctx context.Context, in charge) (receipt, error){
				func(context.Context, charge) (receipt, error) { return receipt{}, err },
				func(ctx context.Context, _ charge) (receipt, error) {
					return atmostonce.Step(ctx, "charge", func(context.Context) (receipt, error) { return receipt{}, err })
				},
			} {
				s := memory()
				_, got := execute(t, guarded(t, s, once.Policy{OnFailure: p, InDoubt: once.Rerun}), body, order(7))
				require.ErrorContains(t, got, "in doubt: nobody knows") // of which the SDK itself may make a panic
				require.True(t, once.MayHaveHappened(got))
				_, call := stepOf(t, s, "charge")
				require.Equal(t, store.InDoubt, call.State)
			}
		}
	}
}

// A step that hands over the token is no effect in doubt to whoever reports the end.
func TestComplete_OfATokenThatAStepHasHandedOver(t *testing.T) {
	t.Parallel()
	s, c := memory(), &completions{}
	g := guarded(t, s, once.Policy{})
	var token string
	_, err := execute(t, g, func(ctx context.Context, _ charge) (receipt, error) {
		if _, err := atmostonce.Step(ctx, "submit", func(ctx context.Context) (int, error) {
			claim, _ := once.FromContext(ctx)
			token = claim.Token()
			return 1, nil
		}); err != nil {
			return receipt{}, err
		}
		return receipt{}, sdkactivity.ErrResultPending
	}, order(7))
	require.ErrorIs(t, err, sdkactivity.ErrResultPending)
	require.NoError(t, g.Complete(t.Context(), c, token, nil, errors.New("declined")))
	_, call := stepOf(t, s, "submit")
	require.Equal(t, store.Tombstone, call.State)
	require.EqualError(t, c.told[0].Err, "declined")
}
