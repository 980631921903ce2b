package once_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
)

func TestPolicies_AreComparable(t *testing.T) {
	t.Parallel()
	find := once.Reconcile(func(context.Context, int) (int, error) { return 0, nil })
	p := once.Policy{Key: keys.Hash(), InDoubt: find, OnFailure: once.Classify(func(error) once.FailurePolicy { return once.Lock })}
	q := p
	same := p == q // compiles
	require.True(t, same)
	require.NotEqual(t, once.Policy{}.InDoubt, once.Hold)
	require.NotEqual(t, once.HoldFor(time.Hour), once.HoldFor(time.Minute))
	require.True(t, find.Reconciles())
}

func TestPolicy_OrFillsInWhatIsNotSaid(t *testing.T) {
	t.Parallel()
	byID := keys.FromCall(func(keys.Call) (string, error) { return "x", nil })
	defaults := once.Policy{TTL: once.Forever, Key: byID, Scope: keys.PerNamespace, Match: keys.Any(),
		OnDuplicate: once.Wait, OnFailure: once.Lock, InDoubt: once.Fail}
	require.Equal(t, defaults, once.Policy{}.Or(defaults))
	said := once.Policy{TTL: 1, Scope: keys.PerRun, OnDuplicate: once.Reject, OnFailure: once.Unlock, InDoubt: once.Hold}
	require.Equal(t, said, said.Or(defaults), "a scope of its own does not get another's key")
}

func TestVerdicts_KeepTheError(t *testing.T) {
	t.Parallel()
	boom := temporal.NewNonRetryableApplicationError("boom", "Boom", nil)
	for _, mark := range []func(error) error{once.NotDone, once.MaybeDone} {
		require.NoError(t, mark(nil))
		require.ErrorIs(t, mark(boom), boom)
		require.Equal(t, boom.Error(), mark(boom).Error())
		require.Equal(t, boom, once.Plain(mark(boom)), "the workflow gets the error itself, retryable or not as it was")
	}
	require.Equal(t, boom, once.Plain(boom))
}

func TestDecide_AsksEveryBranchOfATree(t *testing.T) {
	t.Parallel()
	err := errors.New("declined")
	done, maybe := once.NotDone(err), once.MaybeDone(err)
	for name, tc := range map[string]struct {
		err   error
		want  once.FailurePolicy
		final bool
	}{
		"unmarked":                     {err, once.Lock, false},
		"unmarked branches":            {errors.Join(err, err), once.Lock, false},
		"not done":                     {fmt.Errorf("charge: %w", done), once.Unlock, true},
		"all not done":                 {errors.Join(done, fmt.Errorf("%w, %w", done, done)), once.Unlock, true},
		"one not done":                 {errors.Join(done, err), once.Lock, false},
		"one not done, the last":       {errors.Join(err, done), once.Lock, false},
		"one not done, deeper":         {fmt.Errorf("%w, %w", done, errors.Join(done, err)), once.Lock, false},
		"maybe done":                   {fmt.Errorf("charge: %w", maybe), once.Doubt, true},
		"one maybe done":               {errors.Join(err, done, maybe), once.Doubt, true},
		"one maybe done, deeper":       {fmt.Errorf("%w, %w", done, errors.Join(err, maybe)), once.Doubt, true},
		"the outermost mark":           {once.NotDone(errors.Join(err, maybe)), once.Unlock, true},
		"the outermost mark, in doubt": {once.MaybeDone(done), once.Doubt, true},
		"holes":                        {branches{nil, done}, once.Unlock, true},
		"no branches":                  {branches{}, once.Lock, false},
		"nothing but holes":            {branches{nil}, once.Lock, false},
		"a wrapper of nothing":         {fmt.Errorf("charge: %w", error(nil)), once.Lock, false},
	} {
		verdict, final := once.Lock.Decide(tc.err)
		require.Equal(t, tc.want, verdict, name)
		require.Equal(t, tc.final, final, name)
	}
	var asked error
	classify := once.Classify(func(err error) once.FailurePolicy { asked = err; return once.Unlock })
	tree := errors.Join(done, err)
	verdict, final := classify.Decide(tree)
	require.Equal(t, once.Unlock, verdict)
	require.True(t, final)
	require.Equal(t, tree, asked, "the whole error")
	verdict, _ = classify.Decide(errors.Join(err, maybe))
	require.Equal(t, once.Doubt, verdict)
}

// branches is a tree as somebody may make it.
type branches []error

func (b branches) Error() string   { return "several" }
func (b branches) Unwrap() []error { return b }

func TestBegin_IsHeardWhereSomebodyListens(t *testing.T) {
	t.Parallel()
	begun := 0
	once.Begin(context.Background())
	once.Begin(once.NewContext(context.Background(), once.Claim{Key: "k"}))
	once.Begin(once.NewContext(context.Background(), once.Claim{Begin: func() { begun++ }}))
	require.Equal(t, 1, begun)
}

func TestKey_IsTheClaimsAndEmptyWithoutOne(t *testing.T) {
	t.Parallel()
	require.Empty(t, once.Key(context.Background()))
	require.Equal(t, "k", once.Key(once.NewContext(context.Background(), once.Claim{Key: "k", Fence: 2})))
}
