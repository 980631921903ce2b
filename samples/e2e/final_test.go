package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/store"
)

// listed is a workflow that makes one call, to which errors of type Declined are
// final.
func listed(ctx workflow.Context, local bool) (verdict, error) {
	retry := &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 1, NonRetryableErrorTypes: []string{"Declined"}}
	in := charge{Order: "order-1", Cents: 1200}
	var err error
	if local {
		o := workflow.LocalActivityOptions{StartToCloseTimeout: time.Minute, RetryPolicy: retry}
		err = workflow.ExecuteLocalActivity(workflow.WithLocalActivityOptions(ctx, o), "Charge", in).Get(ctx, nil)
	} else {
		o := workflow.ActivityOptions{StartToCloseTimeout: time.Minute, RetryPolicy: retry}
		err = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, o), "Charge", in).Get(ctx, nil)
	}
	return verdict{}.of(err), nil
}

// After a doubt the body is run again, which is declined for good.
func TestFinal_ErrorEndsACallThatIsInDoubt(t *testing.T) {
	t.Parallel()
	declined := map[string]error{
		"non-retryable": temporal.NewNonRetryableApplicationError("declined", "Final", nil),
		"listed":        temporal.NewApplicationError("declined", "Declined"),
	}
	for name, failure := range declined {
		for _, local := range []bool{false, true} {
			for _, policy := range []once.DoubtPolicy{once.Rerun, once.Resume} {
				if local && policy == once.Resume {
					continue // it holds
				}
				place := map[bool]string{false: "remote", true: "local"}[local]
				t.Run(name+", "+place+", "+policy.String(), func(t *testing.T) {
					t.Parallel()
					s := newScene(t, client.Options{})
					s.name += "-listed" // the scene's own worker does not see this queue
					w := worker.New(s.dial(s.guard(once.Mark(once.Policy{InDoubt: policy}, "Charge")...)), s.name, worker.Options{})
					w.RegisterWorkflowWithOptions(listed, workflow.RegisterOptions{Name: "listed"})
					register(w, func(_ context.Context, in charge) (receipt, error) {
						if err := s.ledger.write(begun, in.Order); err != nil {
							return receipt{}, err
						}
						if len(s.ledger.lines(begun)) == 1 {
							return receipt{}, once.MaybeDone(errors.New("no answer"))
						}
						return receipt{}, failure
					})
					require.NoError(t, w.Start())
					t.Cleanup(w.Stop)
					run, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: s.name, TaskQueue: s.name}, "listed", local)
					require.NoError(t, err)
					v := s.verdict(run)
					require.Equal(t, once.InDoubt, v.Why.Reason)
					require.True(t, v.NonRetryable && v.MayHaveHappened)
					require.Contains(t, v.Failure, "declined")
					s.count(2, begun)
					s.record(store.InDoubt)
				})
			}
		}
	}
}
