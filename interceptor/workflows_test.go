package interceptor_test

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

const testRun = "default-test-run-id" // of every test environment

// headers keeps the guard's header of each activity that runs.
type headers struct {
	sdkinterceptor.WorkerInterceptorBase
	mu  sync.Mutex
	all []*commonpb.Payload
}

// InterceptActivity implements the SDK's WorkerInterceptor.
func (h *headers) InterceptActivity(_ context.Context, next sdkinterceptor.ActivityInboundInterceptor) sdkinterceptor.ActivityInboundInterceptor {
	i := &headersInbound{headers: h}
	i.Next = next
	return i
}

type headersInbound struct {
	sdkinterceptor.ActivityInboundInterceptorBase
	headers *headers
}

// ExecuteActivity implements the SDK's ActivityInboundInterceptor.
func (i *headersInbound) ExecuteActivity(ctx context.Context, in *sdkinterceptor.ExecuteActivityInput) (any, error) {
	i.headers.mu.Lock()
	i.headers.all = append(i.headers.all, sdkinterceptor.Header(ctx)["atmostonce"])
	i.headers.mu.Unlock()
	return i.Next.ExecuteActivity(ctx, in)
}

// workflowEnvironment runs workflows as a worker with these interceptors would.
func workflowEnvironment(t *testing.T, interceptors ...sdkinterceptor.WorkerInterceptor) *testsuite.TestWorkflowEnvironment {
	t.Helper()
	var s testsuite.WorkflowTestSuite
	s.SetLogger(quiet)
	env := s.NewTestWorkflowEnvironment()
	env.SetTestTimeout(soon)
	env.SetWorkerOptions(worker.Options{Interceptors: interceptors})
	return env
}

// calls runs a workflow that makes the calls, one after another.
func calls(t *testing.T, env *testsuite.TestWorkflowEnvironment, made ...func(workflow.Context) workflow.Future) error {
	t.Helper()
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		for _, call := range made {
			if err := call(ctx).Get(ctx, nil); err != nil {
				return err
			}
		}
		return nil
	})
	require.True(t, env.IsWorkflowCompleted())
	return env.GetWorkflowError()
}

func remotely(name string, args ...any) func(workflow.Context) workflow.Future {
	return func(ctx workflow.Context) workflow.Future {
		return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute}), name, args...)
	}
}

func locally(name string, args ...any) func(workflow.Context) workflow.Future {
	return func(ctx workflow.Context) workflow.Future {
		return workflow.ExecuteLocalActivity(workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: time.Minute}), name, args...)
	}
}

func TestWorkflows_NumberEqualCalls(t *testing.T) {
	t.Parallel()
	guard := guarded(t, memory(), once.Policy{})
	for name, install := range map[string][]sdkinterceptor.WorkerInterceptor{
		"Workflows":       {interceptor.Workflows()},
		"a guard":         {guard},
		"both":            {interceptor.Workflows(), guard},
		"Workflows twice": {interceptor.Workflows(), interceptor.Workflows()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := &headers{}
			env := workflowEnvironment(t, append(slices.Clone(install), seen)...)
			for _, activity := range []string{"Pay", "Notify"} {
				env.RegisterActivityWithOptions(func(context.Context, any) error { return nil }, sdkactivity.RegisterOptions{Name: activity})
			}
			require.NoError(t, calls(t, env,
				remotely("Pay", charge{"7", 1}),
				remotely("Pay", charge{"7", 1}),
				remotely("Pay", charge{"7", 2}),
				remotely("Notify", charge{"7", 1}),
				locally("Pay", charge{"7", 1}),
				remotely("Pay", map[string]any{"Cents": 1, "Order": "7"}),
				remotely("Notify", json.RawMessage(` {"Order": "7", "Cents": 1}`)),
			))
			var numbers []int
			for i, payload := range seen.all {
				require.Equal(t, "json/plain", string(payload.GetMetadata()["encoding"]))
				var fields map[string]any
				require.NoError(t, json.Unmarshal(payload.GetData(), &fields))
				numbers = append(numbers, int(fields["occurrence"].(float64)))
				want := []string{"firstRunId", "input", "occurrence", "originalRunId"}
				if i == 4 { // the local one's, which no history keeps
					want = append([]string{"digest"}, want...)
				}
				require.Equal(t, want, slices.Sorted(maps.Keys(fields)))
				require.Equal(t, testRun, fields["originalRunId"])
				require.Equal(t, testRun, fields["firstRunId"])
			}
			require.Equal(t, []int{1, 2, 1, 1, 3, 4, 2}, numbers)
		})
	}
}

func TestPerCall_EqualCallsAreTwoEffects(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(string, ...any) func(workflow.Context) workflow.Future{"remote": remotely, "local": locally} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p, watch := memory(), &payments{}, newWatch(observe.KindNotice)
			o := options(once.Mark(once.Policy{Scope: keys.PerCall}, "ChargeCard"))
			o.Observers = []observe.Observer{watch}
			env := workflowEnvironment(t, newGuard(t, s, o))
			env.RegisterActivity(p.ChargeCard)
			require.NoError(t, calls(t, env, call("ChargeCard", order(7)), call("ChargeCard", order(7)), call("ChargeCard", order(8))))
			require.Equal(t, []string{"7", "7", "8"}, p.charges)
			require.Empty(t, watch.ended)
			var names []string
			for r, err := range s.List(t.Context(), store.Query{}) {
				require.NoError(t, err)
				require.Equal(t, testRun, r.Info.Holder.OriginalRunID)
				require.Equal(t, name == "local", r.Info.Holder.Local)
				names = append(names, strings.Split(r.Key, "/")[2])
			}
			slices.Sort(names)
			const run = "o:" + testRun
			want := []string{run + ":1", run + ":1", run + ":2"}
			if name == "remote" { // not seen as it came from Temporal: which input it is counts too
				want = []string{run + ":32769", run + ":32770", run + ":65537"}
			}
			require.Equal(t, want, names)
		})
	}
}

// Without the wire, inputs that differ in the workflow may look alike.
func TestPerCall_InputsThatLookAlikeAreTwoEffects(t *testing.T) {
	t.Parallel()
	type noted struct {
		Order string
		Cents int
		Note  string // which the activity does not know
	}
	p := &payments{}
	env := workflowEnvironment(t, newGuard(t, memory(), options(once.Mark(once.Policy{Scope: keys.PerCall}, "ChargeCard"))))
	env.RegisterActivity(p.ChargeCard)
	require.NoError(t, calls(t, env, remotely("ChargeCard", noted{"7", 1, "first"}), remotely("ChargeCard", noted{"7", 1, "second"})))
	require.Len(t, p.charges, 2)
}

// The attempts of a local activity share their arguments.
func TestInput_OfALocalActivityIsAsTheWorkflowGaveIt(t *testing.T) {
	t.Parallel()
	s, runs := memory(), 0
	env := workflowEnvironment(t, guarded(t, s, once.Policy{}))
	env.RegisterActivityWithOptions(func(_ context.Context, in map[string]int) error {
		runs++
		in["n"]++
		return io.EOF
	}, sdkactivity.RegisterOptions{Name: "ChargeCard"})
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		o := workflow.LocalActivityOptions{StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 3}}
		return workflow.ExecuteLocalActivity(workflow.WithLocalActivityOptions(ctx, o), "ChargeCard", map[string]int{}).Get(ctx, nil)
	})
	require.Error(t, env.GetWorkflowError())
	require.Equal(t, 1, runs)
	only(t, s)
}
