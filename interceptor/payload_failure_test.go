package interceptor_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	failurepb "go.temporal.io/api/failure/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// customError is not one of the SDK's.
type customError struct{ Code int }

func (e *customError) Error() string { return fmt.Sprint("code ", e.Code) }

// declinedErrors say that nothing happened, in all the ways that the SDK
// distinguishes. The retry policy of the calls lists the types Declined and
// customError.
func declinedErrors() map[string]error {
	final := temporal.NewNonRetryableApplicationError("no", "Final", errors.New("cause"), 42, receipt{ID: "detail"})
	return map[string]error{
		"plain":                        errors.New("no"),
		"wrapped":                      fmt.Errorf("charge: %w", errors.New("no")),
		"joined":                       errors.Join(errors.New("no"), errors.New("really")),
		"custom type":                  &customError{7},
		"wrapped custom type":          fmt.Errorf("charge: %w", &customError{7}),
		"application":                  temporal.NewApplicationError("no", "Refused", "detail"),
		"application with causes":      temporal.NewApplicationErrorWithCause("no", "Refused", fmt.Errorf("x: %w", final), 1, 2),
		"listed type":                  temporal.NewApplicationError("no", "Declined"),
		"wrapped listed type":          fmt.Errorf("charge: %w", temporal.NewApplicationError("no", "Declined")),
		"non-retryable":                final,
		"wrapped non-retryable":        fmt.Errorf("charge: %w", final),
		"joined with a non-retryable":  errors.Join(errors.New("no"), final),
		"non-retryable inside":         temporal.NewApplicationErrorWithCause("no", "Refused", final),
		"benign":                       temporal.NewApplicationErrorWithOptions("no", "Refused", temporal.ApplicationErrorOptions{Category: temporal.ApplicationErrorCategoryBenign}),
		"retried after an hour":        temporal.NewApplicationErrorWithOptions("no", "Refused", temporal.ApplicationErrorOptions{NextRetryDelay: time.Hour}),
		"of an activity of its own":    temporal.NewApplicationErrorWithCause("no", "", &customError{8}),
		"application without anything": temporal.NewApplicationError("", ""),
	}
}

var placesToRun = map[string]func(ctx workflow.Context, retry *temporal.RetryPolicy) workflow.Future{
	"remote": func(ctx workflow.Context, retry *temporal.RetryPolicy) workflow.Future {
		o := workflow.ActivityOptions{StartToCloseTimeout: time.Minute, RetryPolicy: retry}
		return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, o), "ChargeCard", order(7))
	},
	"local": func(ctx workflow.Context, retry *temporal.RetryPolicy) workflow.Future {
		o := workflow.LocalActivityOptions{StartToCloseTimeout: time.Minute, RetryPolicy: retry}
		return workflow.ExecuteLocalActivity(workflow.WithLocalActivityOptions(ctx, o), "ChargeCard", order(7))
	},
}

// course is how the two calls of a workflow went.
type course struct {
	runs     int // of the body
	took     [2]time.Duration
	failures [2]*failurepb.Failure // without what Temporal adds to them
}

// declined runs a workflow whose two calls fail with failure.
func declined(t *testing.T, place string, failure error, interceptors ...sdkinterceptor.WorkerInterceptor) (c course) {
	t.Helper()
	env := workflowEnvironment(t, interceptors...)
	env.SetTestTimeout(time.Minute)
	env.RegisterActivityWithOptions(func(context.Context, charge) error { c.runs++; return failure },
		sdkactivity.RegisterOptions{Name: "ChargeCard"})
	retry := &temporal.RetryPolicy{MaximumAttempts: 3, NonRetryableErrorTypes: []string{"Declined", "customError"}}
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		for i := range c.failures {
			start := workflow.Now(ctx)
			err := placesToRun[place](ctx, retry).Get(ctx, nil)
			c.took[i] = workflow.Now(ctx).Sub(start)
			if wrapper := (*temporal.ActivityError)(nil); errors.As(err, &wrapper) {
				err = wrapper.Unwrap()
			}
			c.failures[i] = temporal.GetDefaultFailureConverter().ErrorToFailure(err)
		}
		return nil
	})
	require.NoError(t, env.GetWorkflowError())
	return c
}

func TestFailure_GoesAsWithoutTheGuardUnderUnlock(t *testing.T) {
	t.Parallel()
	all := declinedErrors()
	// Lock would let these run again.
	all["said to have done nothing"] = once.NotDone(all["non-retryable"])
	all["wrapped, then said to have done nothing"] = once.NotDone(all["wrapped"])
	for name, failure := range all {
		for place := range placesToRun {
			t.Run(place+", "+name, func(t *testing.T) {
				t.Parallel()
				plain := failure
				if strings.HasSuffix(name, "said to have done nothing") {
					plain = errors.Unwrap(failure)
				}
				want := declined(t, place, plain)
				got := declined(t, place, failure, guarded(t, memory(), once.Policy{}))
				require.Equal(t, want.runs, got.runs, "attempts of two calls")
				for i := range want.failures {
					require.InDelta(t, want.took[i].Minutes(), got.took[i].Minutes(), 1)
					require.True(t, proto.Equal(want.failures[i], got.failures[i]), "%v\n%v", want.failures[i], got.failures[i])
				}
			})
		}
	}
}

func TestFailure_IsFinalUnderLockAndReplayedAsItWas(t *testing.T) {
	t.Parallel()
	for name, failure := range declinedErrors() {
		for place := range placesToRun {
			t.Run(place+", "+name, func(t *testing.T) {
				t.Parallel()
				want := declined(t, place, failure).failures[0]
				if app := want.GetApplicationFailureInfo(); app != nil {
					app.NonRetryable, app.NextRetryDelay = true, nil
				}
				replays := newWatch(observe.KindDuplicate)
				o := withPolicy(once.Policy{OnFailure: once.Lock})
				o.Observers = []observe.Observer{replays}
				got := declined(t, place, failure, newGuard(t, memory(), o))
				require.Equal(t, 1, got.runs)
				require.Len(t, replays.ended, 1, "the replay is not retried either")
				for _, f := range got.failures {
					require.True(t, proto.Equal(want, f), "%v\n%v", want, f)
				}
			})
		}
	}
}

func TestFailure_ThatCannotBeEncodedIsInDoubt(t *testing.T) {
	t.Parallel()
	s := memory()
	g := guarded(t, s, once.Policy{OnFailure: once.Lock})
	_, err := execute(t, g, (&payments{fail: temporal.NewApplicationError("no", "Refused", make(chan int))}).ChargeCard, order(7))
	require.ErrorContains(t, err, "unable to encode")
	require.True(t, once.MayHaveHappened(err))
	require.Equal(t, store.InDoubt, only(t, s).State)
}
