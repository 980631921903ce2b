package interceptor_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
)

func TestAll_ObservesWhatHasNoMark(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		marks    []once.Marked
		mode     once.Mode
		activity string
		runs     int
		seen     int
	}{
		"no mark":                {marking(once.All), once.Enforce, "Process", 2, 2},
		"no mark, under Observe": {marking(once.All), once.Observe, "Process", 2, 2},
		"no mark, under Off":     {marking(once.All), once.Off, "Process", 2, 2},
		"a mark of its own":      {marking(once.All, "Process"), once.Enforce, "Process", 1, 2},
		"its struct's mark":      {marking(once.All, &chargers{}), once.Enforce, "Process", 1, 2},
		"exempt":                 {append(marking(once.All), once.Exempt("Process")...), once.Enforce, "Process", 2, 0},
		"a dynamic activity":     {marking(once.All), once.Enforce, "Unknown", 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, c, dynamic, events := memory(), &chargers{}, 0, newWatch(observe.KindClaim)
			o := options(tc.marks)
			o.Observers = []observe.Observer{events}
			o.Mode = func(string) once.Mode { return tc.mode }
			env := environment(t, newGuard(t, s, o))
			env.RegisterActivity(c)
			env.RegisterDynamicActivity(func(context.Context, converter.EncodedValues) (receipt, error) {
				dynamic++
				return receipt{}, nil
			}, sdkactivity.DynamicRegisterOptions{})
			for range 2 {
				_, err := env.ExecuteActivity(tc.activity, order(7))
				require.NoError(t, err)
			}
			require.Equal(t, tc.runs, int(c.calls.Load())+dynamic)
			require.Len(t, events.begun, tc.seen)
			if tc.mode == once.Off {
				require.Empty(t, records(t, s))
			}
		})
	}
	for complaint, marks := range map[string][]once.Marked{
		"one type of input":    once.Mark(once.Policy{Key: keys.From(byOrder), Scope: keys.PerRun}, once.All),
		"activity All: the":    once.Mark(once.Policy{InDoubt: once.Reconcile(findCharge)}, once.All),
		"All cannot be exempt": append(marking("A"), once.Exempt(once.All)...),
		"it renames one":       marking(once.As("A", once.All)),
		"marked twice":         marking(once.All, once.All),
	} {
		_, err := interceptor.New(memory(), options(marks))
		require.ErrorContains(t, err, complaint)
	}
	o := options(marking(once.All))
	o.Strict = true
	err := startError(t, newGuard(t, memory(), o), func(r worker.Registry) { r.RegisterActivity(&chargers{}) })
	require.ErrorContains(t, err, "activity Process is neither marked nor exempt")
}

// The SDK's own activities of a session are nobody's.
func TestAll_LeavesSessionsAlone(t *testing.T) {
	t.Parallel()
	s, c := memory(), &chargers{}
	env := workflowEnvironment(t)
	env.SetWorkerOptions(worker.Options{Plugins: []worker.Plugin{newGuard(t, s, options(marking(once.All)))}, EnableSessionWorker: true})
	env.RegisterActivity(c)
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		ctx, err := workflow.CreateSession(ctx, &workflow.SessionOptions{CreationTimeout: time.Minute, ExecutionTimeout: time.Minute})
		if err != nil {
			return err
		}
		defer workflow.CompleteSession(ctx)
		return workflow.ExecuteActivity(ctx, "Process", order(7)).Get(ctx, nil)
	})
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, "Process", only(t, s).Info.Activity)
}
