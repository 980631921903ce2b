package interceptor_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

// What the SDK's test environments do with a guard, as docs/testing.md says.

func named(name string) sdkactivity.RegisterOptions { return sdkactivity.RegisterOptions{Name: name} }

func guardedWorkflows(t *testing.T, g *interceptor.Guard) *testsuite.TestWorkflowEnvironment {
	t.Helper()
	var s testsuite.WorkflowTestSuite
	s.SetLogger(quiet)
	env := s.NewTestWorkflowEnvironment()
	env.SetWorkerOptions(worker.Options{Plugins: []worker.Plugin{g}})
	return env
}

// chargesTwice makes the same call two times.
func chargesTwice(local bool) func(workflow.Context) error {
	return func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Second})
		ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: time.Second})
		for range 2 {
			var call workflow.Future
			if local {
				call = workflow.ExecuteLocalActivity(ctx, (&payments{}).ChargeCard, order(7))
			} else {
				call = workflow.ExecuteActivity(ctx, "ChargeCard", order(7))
			}
			if err := call.Get(ctx, nil); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestSuite_EveryEnvironmentHasTheSameWorkflowID(t *testing.T) {
	t.Parallel()
	for id, charges := range map[string]int{"": 1, "another": 2} {
		g, p := underDefaults(t, memory(), once.Policy{}), &payments{}
		for n := range 2 {
			env := guardedWorkflows(t, g)
			if n > 0 && id != "" {
				env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: id, TaskQueue: "queue"})
			}
			env.RegisterActivity(p.ChargeCard)
			env.ExecuteWorkflow(chargesTwice(false))
			require.NoError(t, env.GetWorkflowError())
		}
		require.Len(t, p.charges, charges)
	}
}

func TestSuite_ScopesPerCallAndRunWork(t *testing.T) {
	t.Parallel()
	for scope, charges := range map[keys.Scope]int{keys.PerCall: 2, keys.PerRun: 1, keys.PerWorkflow: 1} {
		for _, local := range []bool{false, true} {
			p, runs := &payments{}, 0
			env := guardedWorkflows(t, underDefaults(t, memory(), once.Policy{Scope: scope}))
			env.RegisterActivity(p.ChargeCard)
			env.OnActivity("ChargeCard", mock.Anything, mock.Anything).Return(func(context.Context, charge) (receipt, error) {
				runs++
				return receipt{}, nil
			})
			env.ExecuteWorkflow(chargesTwice(local))
			require.NoError(t, env.GetWorkflowError())
			require.Equal(t, charges, runs, "%v, local: %v; a mock that is a function is guarded", scope, local)
		}
	}
}

func TestSuite_ValueMocksOfRemoteActivitiesBypassTheGuard(t *testing.T) {
	t.Parallel()
	for local, calls := range map[bool]int{false: 2, true: 1} {
		s := memory()
		env := guardedWorkflows(t, underDefaults(t, s, once.Policy{}))
		env.RegisterActivity((&payments{}).ChargeCard)
		env.OnActivity("ChargeCard", mock.Anything, mock.Anything).Return(receipt{}, nil)
		env.ExecuteWorkflow(chargesTwice(local))
		require.NoError(t, env.GetWorkflowError())
		env.AssertNumberOfCalls(t, "ChargeCard", calls)
		require.Len(t, records(t, s), 2-calls)
	}
}

func records(t *testing.T, s store.Store) (all []store.Record) {
	t.Helper()
	for r, err := range s.List(t.Context(), store.Query{}) {
		require.NoError(t, err)
		all = append(all, r)
	}
	return all
}

func TestSuite_WorkflowsRetryAtOnceAndTenTimesAtMost(t *testing.T) {
	t.Parallel()
	attempts := []int32{}
	env := guardedWorkflows(t, underDefaults(t, memory(), once.Policy{}))
	env.RegisterActivityWithOptions(func(ctx context.Context, _ charge) (receipt, error) {
		attempts = append(attempts, sdkactivity.GetInfo(ctx).Attempt)
		return receipt{}, errors.New("declined")
	}, named("ChargeCard"))
	began := time.Now()
	env.ExecuteWorkflow(chargesTwice(false))
	require.ErrorContains(t, env.GetWorkflowError(), "declined")
	require.Equal(t, []int32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, attempts)
	require.Less(t, time.Since(began), soon)
}

func TestSuite_WorkflowsDoNotWaitForTheSettleDelay(t *testing.T) {
	t.Parallel()
	runs := 0
	env := guardedWorkflows(t, underDefaults(t, memory(), once.Policy{InDoubt: once.Rerun}))
	env.RegisterActivityWithOptions(func(context.Context, charge) (receipt, error) {
		runs++
		return receipt{}, once.MaybeDone(errors.New("no answer"))
	}, named("ChargeCard"))
	env.ExecuteWorkflow(chargesTwice(false))
	require.True(t, once.Is(env.GetWorkflowError(), once.InDoubt))
	require.Equal(t, 1, runs)
}

func TestSuite_TimeoutsAreNotRetried(t *testing.T) {
	t.Parallel()
	runs := 0
	env := guardedWorkflows(t, underDefaults(t, memory(), once.Policy{}))
	env.RegisterActivityWithOptions(func(ctx context.Context, _ charge) (receipt, error) {
		runs++
		<-ctx.Done()
		return receipt{}, ctx.Err()
	}, named("ChargeCard"))
	env.ExecuteWorkflow(chargesTwice(false))
	timeout := (*temporal.TimeoutError)(nil)
	require.ErrorAs(t, env.GetWorkflowError(), &timeout)
	require.True(t, once.MayHaveHappened(env.GetWorkflowError()))
	require.Equal(t, 1, runs)
}

func TestSuite_ActivitiesAreNotRetried(t *testing.T) {
	t.Parallel()
	env := environment(t, underDefaults(t, memory(), once.Policy{OnDuplicate: once.Reject}))
	var attempts []int32
	env.RegisterActivityWithOptions(func(ctx context.Context, _ charge) (receipt, error) {
		attempts = append(attempts, sdkactivity.GetInfo(ctx).Attempt)
		if len(attempts) == 1 {
			return receipt{}, errors.New("declined")
		}
		return receipt{}, nil
	}, named("ChargeCard"))
	_, err := env.ExecuteActivity("ChargeCard", order(7))
	require.ErrorContains(t, err, "declined")
	_, err = env.ExecuteActivity("ChargeCard", order(7))
	require.NoError(t, err)
	_, err = env.ExecuteActivity("ChargeCard", order(7))
	require.True(t, once.Is(err, once.Duplicate), "each call is another one")
	require.Equal(t, []int32{1, 1}, attempts)
}

func TestSuite_LocalActivitiesAreGuarded(t *testing.T) {
	t.Parallel()
	env, p := environment(t, underDefaults(t, memory(), once.Policy{})), &payments{}
	env.RegisterActivity(p.ChargeCard)
	for range 2 {
		_, err := env.ExecuteLocalActivity(p.ChargeCard, order(7))
		require.NoError(t, err)
	}
	require.Len(t, p.charges, 1)
}

func TestSuite_WhatIsMarkedMustBeRegistered(t *testing.T) {
	t.Parallel()
	for _, mark := range []any{"Refund", (&payments{}).Refund} {
		g := newGuard(t, memory(), options(once.Mark(once.Policy{}, "ChargeCard", mark)))
		env := environment(t, g)
		env.RegisterActivity((&payments{}).ChargeCard)
		_, err := env.ExecuteActivity("ChargeCard", order(7))
		require.ErrorContains(t, err, `activity "Refund" is marked`)
		require.ErrorContains(t, err, "registered with no worker")
	}
}

func TestSuite_NeedsTheDataConverter(t *testing.T) {
	t.Parallel()
	env := environment(t, newGuard(t, memory(), interceptor.Options{Activities: once.Mark(once.Policy{}, "ChargeCard")}))
	env.RegisterActivity((&payments{}).ChargeCard)
	_, err := env.ExecuteActivity("ChargeCard", order(7))
	require.ErrorContains(t, err, "set interceptor.Options.DataConverter")
}

// A body can be tested without a guard, too.
func TestSuite_WithoutAGuardAContextGivesTheKey(t *testing.T) {
	t.Parallel()
	var s testsuite.WorkflowTestSuite
	s.SetLogger(quiet)
	env := s.NewTestActivityEnvironment()
	env.SetWorkerOptions(worker.Options{BackgroundActivityContext: once.NewContext(t.Context(), once.Claim{Key: "test"})})
	env.RegisterActivityWithOptions(func(ctx context.Context, _ charge) (string, error) { return once.Key(ctx), nil }, named("ChargeCard"))
	value, err := env.ExecuteActivity("ChargeCard", order(7))
	require.NoError(t, err)
	var key string
	require.NoError(t, value.Get(&key))
	require.Equal(t, "test", key)
}
