package interceptor_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/store"
)

// endsCall reports whether the SDK tries again after failure, where no guard is.
func endsCall(t *testing.T, place string, failure error) bool {
	t.Helper()
	return declined(t, place, failure).runs == 2 // of two calls
}

// answers keeps what the attempts of activities were answered.
type answers struct {
	sdkinterceptor.WorkerInterceptorBase
	all []error
}

func (a *answers) InterceptActivity(_ context.Context, next sdkinterceptor.ActivityInboundInterceptor) sdkinterceptor.ActivityInboundInterceptor {
	i := &answering{answers: a}
	i.Next = next
	return i
}

type answering struct {
	sdkinterceptor.ActivityInboundInterceptorBase
	answers *answers
}

func (i *answering) ExecuteActivity(ctx context.Context, in *sdkinterceptor.ExecuteActivityInput) (any, error) {
	result, err := i.Next.ExecuteActivity(ctx, in)
	i.answers.all = append(i.answers.all, err)
	return result, err
}

// answered makes a call whose body returns failure, and returns what its attempts
// were answered.
func answered(t *testing.T, place string, g *interceptor.Guard, failure error) []error {
	t.Helper()
	a := &answers{}
	env := workflowEnvironment(t, a, g)
	env.SetTestTimeout(time.Minute)
	env.RegisterActivityWithOptions(func(context.Context, charge) error { return failure }, sdkactivity.RegisterOptions{Name: "ChargeCard"})
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		retry := &temporal.RetryPolicy{MaximumAttempts: 2, NonRetryableErrorTypes: []string{"Declined", "customError"}}
		_ = placesToRun[place](ctx, retry).Get(ctx, nil)
		return nil
	})
	require.NoError(t, env.GetWorkflowError())
	return a.all
}

func requireInDoubt(t *testing.T, err error, final bool) {
	t.Helper()
	why, ok := once.Why(err)
	require.True(t, ok)
	require.Equal(t, once.InDoubt, why.Reason)
	require.True(t, once.MayHaveHappened(err))
	app := (*temporal.ApplicationError)(nil)
	require.ErrorAs(t, err, &app)
	require.Equal(t, final, app.NonRetryable())
}

// kinds of errors, and whether each is final where it is returned.
func finalErrors(t *testing.T) map[string]map[string]bool {
	t.Helper()
	final := map[string]map[string]bool{}
	for place := range placesToRun {
		final[place] = map[string]bool{}
		for name, failure := range declinedErrors() {
			final[place][name] = endsCall(t, place, failure)
		}
	}
	delete(final["local"], "retried after an hour") // it is for want of time
	return final
}

func TestFinal_ErrorAfterATakeoverEndsTheCall(t *testing.T) {
	t.Parallel()
	for place, errs := range finalErrors(t) {
		for name, final := range errs {
			t.Run(place+", "+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s := memory()
					g := underDefaults(t, s, once.Policy{InDoubt: once.Rerun})
					_, err := execute(t, g, (&payments{fail: io.EOF}).ChargeCard, order(7))
					require.Error(t, err)
					later(31 * time.Second)
					answers := answered(t, place, g, declinedErrors()[name])
					requireInDoubt(t, answers[0], final)
					require.Equal(t, final, len(answers) == 1)
					require.Equal(t, store.InDoubt, only(t, s).State)
				})
			})
		}
	}
}

func TestFinal_ErrorThatMayHideTheEffectEndsTheCallToo(t *testing.T) {
	t.Parallel()
	final := finalErrors(t)
	for policy, ends := range map[once.DoubtPolicy]bool{
		once.Rerun: true, once.Resume: true,
		once.Hold: false, once.HoldFor(time.Hour): false, once.Fail: false, once.Reconcile(findCharge): false,
	} {
		for place, errs := range final {
			for name := range errs {
				t.Run(policy.String()+", "+place+", "+name, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						s := memory()
						failure := declinedErrors()[name]
						answers := answered(t, place, underDefaults(t, s, once.Policy{InDoubt: policy}), once.MaybeDone(failure))
						requireInDoubt(t, answers[0], ends && errs[name])
						require.Equal(t, ends && errs[name], len(answers) == 1)
						require.ErrorContains(t, answers[0], failure.Error())
						require.Equal(t, store.InDoubt, only(t, s).State)
					})
				})
			}
		}
	}
}
