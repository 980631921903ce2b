package activity_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
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
