package interceptor_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

func generic[T any](_ context.Context, in T) (T, error) { return in, nil }

func plainFunction(_ context.Context, in charge) (charge, error) { return in, nil }

// withoutContext is what the SDK takes for an activity too.
func withoutContext(in charge) (charge, error) { return in, nil }

// shop has activities without a state.
type shop struct{}

func (*shop) ChargeCard(_ context.Context, in charge) (charge, error) { return in, nil }

// branch has the activities of shop as its own.
type branch struct{ *shop }

func TestMark_ReachesHoweverTheActivityIsRegistered(t *testing.T) {
	t.Parallel()
	p := &shop{}
	closure := func(_ context.Context, in charge) (charge, error) { return in, nil }
	named := func(name string) sdkactivity.RegisterOptions { return sdkactivity.RegisterOptions{Name: name} }
	for name, tc := range map[string]struct {
		marked, registered any
		options            sdkactivity.RegisterOptions
		activity           string
	}{
		"a function":                         {plainFunction, plainFunction, named(""), "plainFunction"},
		"a function under another name":      {plainFunction, plainFunction, named("Charge"), "Charge"},
		"a function without a context":       {withoutContext, withoutContext, named(""), "withoutContext"},
		"a method":                           {p.ChargeCard, p.ChargeCard, named(""), "ChargeCard"},
		"a method under another name":        {p.ChargeCard, p.ChargeCard, named("Charge"), "Charge"},
		"a method of a struct":               {p.ChargeCard, p, named(""), "ChargeCard"},
		"a method of a struct with a prefix": {p.ChargeCard, p, named("eu_"), "eu_ChargeCard"},
		"a method of another value":          {p.ChargeCard, &shop{}, named("eu_"), "eu_ChargeCard"},
		"a method of an embedded struct":     {p.ChargeCard, &branch{p}, named("eu_"), "eu_ChargeCard"},
		"a method that is embedded":          {(&branch{p}).ChargeCard, p, named("eu_"), "eu_ChargeCard"},
		"the name of one":                    {"eu_ChargeCard", p, named("eu_"), "eu_ChargeCard"},
		"a generic function, by its name":    {"Charge", generic[charge], named("Charge"), "Charge"},
		"a closure, by its name":             {"Charge", closure, named("Charge"), "Charge"},
		"the name of a method":               {"ChargeCard", p.ChargeCard, named(""), "ChargeCard"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, replays := memory(), newWatch(observe.KindDuplicate)
			// The key function shows that the activity's types are known.
			o := options(once.Mark(once.Policy{Key: keys.From(byOrder), Scope: keys.PerWorkflow}, tc.marked))
			o.Observers = []observe.Observer{replays}
			g := newGuard(t, s, o)
			for range 2 {
				env := environment(t, g)
				env.RegisterActivityWithOptions(tc.registered, tc.options)
				_, err := env.ExecuteActivity(tc.activity, order(7))
				require.NoError(t, err)
			}
			require.Equal(t, tc.activity, only(t, s).Info.Activity)
			require.Len(t, replays.ended, 1)
		})
	}
	for _, nameless := range []any{generic[charge], closure} {
		_, err := interceptor.New(memory(), options(once.Mark(once.Policy{}, nameless)))
		require.ErrorContains(t, err, "a closure or generic function has no name of its own; register it with a name and mark that name")
	}
}

// In the SDK's test environment: the IDs are counted from 0 in each of them, and
// calls are numbered 0 and 2, their runs 1 and 3.
func TestStandalone_ActivitiesGoByTheirOwnIDs(t *testing.T) {
	t.Parallel()
	hash := "/ChargeCard/h:461e865378683af3e54403108b57407fb6d7d20cc634cf98bdc9c5f27112d317"
	const namespace = "v1/default-test-namespace/"
	for scope, records := range map[keys.Scope][]string{
		keys.PerWorkflow:  {namespace + "a:0" + hash, namespace + "a:2" + hash},
		keys.PerRun:       {namespace + "s:1" + hash, namespace + "s:3" + hash},
		keys.PerCall:      {namespace + "s:1" + hash, namespace + "s:3" + hash},
		keys.PerNamespace: {namespace + "n/ChargeCard/k:7"},
	} {
		t.Run(scope.String(), func(t *testing.T) {
			t.Parallel()
			policy := once.Policy{Scope: scope}
			if scope == keys.PerNamespace {
				policy.Key = keys.From(byOrder)
			}
			s, p := memory(), &payments{}
			g := guarded(t, s, policy)
			for range 2 {
				env := environment(t, g).SetExecuteActivitiesInWorkflow(false)
				env.RegisterActivity(p.ChargeCard)
				for range 2 {
					v, err := env.ExecuteActivity("ChargeCard", order(7))
					require.NoError(t, err)
					var got receipt
					require.NoError(t, v.Get(&got))
					require.Equal(t, "r-7", got.ID)
				}
			}
			var found []string
			for r, err := range s.List(t.Context(), store.Query{}) {
				require.NoError(t, err)
				require.Empty(t, r.Info.Holder.WorkflowID)
				require.NotEmpty(t, r.Info.Holder.ActivityRunID)
				found = append(found, r.Key)
			}
			slices.Sort(found)
			require.Equal(t, records, found)
			require.Len(t, p.charges, len(records))
		})
	}
}

// The SDK's own activities of a session are neither guarded nor refused.
func TestSession_GuardsItsActivitiesOnly(t *testing.T) {
	t.Parallel()
	s, p := memory(), &payments{}
	o := options(once.Mark(once.Policy{}, "ChargeCard"))
	o.Strict = true
	env := workflowEnvironment(t)
	env.SetWorkerOptions(worker.Options{Plugins: []worker.Plugin{newGuard(t, s, o)}, EnableSessionWorker: true})
	env.RegisterActivity(p.ChargeCard)
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		ctx, err := workflow.CreateSession(ctx, &workflow.SessionOptions{CreationTimeout: time.Minute, ExecutionTimeout: time.Minute})
		if err != nil {
			return err
		}
		defer workflow.CompleteSession(ctx)
		for range 2 {
			err = errors.Join(err, workflow.ExecuteActivity(ctx, "ChargeCard", order(7)).Get(ctx, nil))
		}
		return err
	})
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []string{"7"}, p.charges)
	require.Equal(t, "ChargeCard", only(t, s).Info.Activity)
}

func TestGuards_ShareAWorker(t *testing.T) {
	t.Parallel()
	charges, refunds := memory(), memory()
	g1 := newGuard(t, charges, options(once.Mark(once.Policy{}, "ChargeCard")))
	g2 := newGuard(t, refunds, options(once.Mark(once.Policy{}, "Refund")))
	runs := map[string]int{}
	for _, plugins := range [][]worker.Plugin{{g1, g2}, {g2, g1}} {
		env := environment(t, plugins...)
		for _, name := range []string{"ChargeCard", "Refund", "Notify"} {
			env.RegisterActivityWithOptions(func(context.Context, charge) error { runs[name]++; return nil }, sdkactivity.RegisterOptions{Name: name})
		}
		for _, name := range []string{"ChargeCard", "Refund", "Notify"} {
			for range 2 {
				_, err := env.ExecuteActivity(name, order(7))
				require.NoError(t, err)
			}
		}
	}
	require.Equal(t, map[string]int{"ChargeCard": 1, "Refund": 1, "Notify": 4}, runs)
	require.Equal(t, "ChargeCard", only(t, charges).Info.Activity)
	require.Equal(t, "Refund", only(t, refunds).Info.Activity)
}
