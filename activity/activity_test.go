package activity_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/keys"
)

func refused(reason once.Reason, r once.Refusal) error {
	return temporal.NewApplicationErrorWithOptions("refused", string(reason), temporal.ApplicationErrorOptions{Details: []any{r}})
}

func TestMayHaveHappened_AnswersTheSagasQuestion(t *testing.T) {
	t.Parallel()
	timeout := temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_START_TO_CLOSE, nil)
	for name, tc := range map[string]struct {
		err  error
		want bool
	}{
		"nil":                    {nil, false},
		"a clean error":          {temporal.NewApplicationError("declined", "Declined"), false},
		"a clean error, wrapped": {fmt.Errorf("saga: %w", temporal.NewNonRetryableApplicationError("declined", "Declined", nil)), false},
		"in doubt":               {refused(once.InDoubt, once.Refusal{}), true},
		"in doubt, in a child":   {temporal.NewApplicationErrorWithCause("child failed", "wrapError", refused(once.InDoubt, once.Refusal{})), true},
		"in flight":              {refused(once.InFlight, once.Refusal{}), true},
		"duplicate":              {refused(once.Duplicate, once.Refusal{}), true},
		"mismatch":               {refused(once.Mismatch, once.Refusal{}), true},
		"not kept":               {refused(once.OutcomeNotKept, once.Refusal{}), true},
		"store down, first try":  {refused(once.StoreDown, once.Refusal{Untouched: true}), false},
		"store down, later":      {refused(once.StoreDown, once.Refusal{}), true},
		"bad key":                {refused(once.BadKey, once.Refusal{Untouched: true}), false},
		"timeout":                {timeout, true},
		"no worker took it":      {temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START, nil), true},
		"no worker took it again": {temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START,
			temporal.NewApplicationError("declined", "Declined")), true},
		"not begun, no run known":         {refused(once.InFlight, once.Refusal{Untouched: true}), false},
		"in doubt, whatever it says":      {refused(once.InDoubt, once.Refusal{Untouched: true}), true},
		"timeout over an earlier refusal": {temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_START_TO_CLOSE, refused(once.StoreDown, once.Refusal{Untouched: true})), true},
		"timeout as cause":                {temporal.NewApplicationErrorWithCause("x", "X", timeout), true},
		"canceled":                        {temporal.NewCanceledError(), true},
		"context":                         {context.DeadlineExceeded, true},
		"something else altogether":       {errors.New("?"), true},
	} {
		require.Equal(t, tc.want, once.MayHaveHappened(tc.err), name)
	}
}

func TestWhy_ReadsTheRefusal(t *testing.T) {
	t.Parallel()
	r, ok := once.Why(fmt.Errorf("saga: %w", refused(once.InFlight, once.Refusal{Activity: "Charge", WorkflowID: "w", Attempt: 3})))
	require.True(t, ok)
	require.Equal(t, once.Refusal{Reason: once.InFlight, Activity: "Charge", WorkflowID: "w", Attempt: 3}, r)
	_, ok = once.Why(errors.New("x"))
	require.False(t, ok)
	_, ok = once.Why(nil)
	require.False(t, ok)
	require.True(t, once.Is(refused(once.Duplicate, once.Refusal{}), once.Duplicate))
	require.False(t, once.Is(refused(once.Duplicate, once.Refusal{}), once.InDoubt))

	bare := temporal.NewApplicationError("x", string(once.InDoubt))
	require.True(t, once.Is(bare, once.InDoubt), "without details, the type is the answer")
}

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

	var s testsuite.WorkflowTestSuite
	env := s.NewTestActivityEnvironment()
	env.RegisterActivityWithOptions(func(ctx context.Context) error { once.Begin(ctx); return nil }, sdkactivity.RegisterOptions{Name: "body"})
	_, err := env.ExecuteActivity("body")
	require.NoError(t, err)
}

func TestKey_WorksInEveryActivityAndNeverOutside(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	body := func(ctx context.Context) error {
		seen[once.Key(ctx)] = true
		_, ok := once.FromContext(ctx)
		require.False(t, ok)
		return nil
	}
	var s testsuite.WorkflowTestSuite
	env := s.NewTestActivityEnvironment()
	env.RegisterActivityWithOptions(body, sdkactivity.RegisterOptions{Name: "body"})
	_, err := env.ExecuteActivity("body")
	require.NoError(t, err)
	require.Len(t, seen, 1)
	for key := range seen {
		require.Len(t, key, 64)
	}
	require.Panics(t, func() { once.Key(context.Background()) })

	ctx := once.NewContext(context.Background(), once.Claim{Key: "k", Fence: 2})
	require.Equal(t, "k", once.Key(ctx))
}

func TestNewContext_ServesTestsOfActivities(t *testing.T) {
	t.Parallel()
	var s testsuite.WorkflowTestSuite
	env := s.NewTestActivityEnvironment()
	env.SetWorkerOptions(worker.Options{BackgroundActivityContext: once.NewContext(context.Background(), once.Claim{Key: "k", Takeover: true})})
	env.RegisterActivityWithOptions(func(ctx context.Context) (bool, error) {
		c, ok := once.FromContext(ctx)
		return ok && c.Takeover, nil
	}, sdkactivity.RegisterOptions{Name: "body"})
	v, err := env.ExecuteActivity("body")
	require.NoError(t, err)
	var takeover bool
	require.NoError(t, v.Get(&takeover))
	require.True(t, takeover)
}
