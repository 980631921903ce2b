package e2e

import (
	"context"
	"encoding/json"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// newHeadedScene is a scene whose workflows run on a worker without a Guard but
// with interceptor.Workflows.
func newHeadedScene(t *testing.T, o client.Options) *scene {
	t.Helper()
	s := newScene(t, o)
	s.name += "-headed" // the scene's own worker does not see this queue
	s.workflows(interceptor.Workflows())
	return s
}

// workflows starts a worker that runs workflows only, with these interceptors.
func (s *scene) workflows(interceptors ...sdkinterceptor.WorkerInterceptor) worker.Worker {
	s.t.Helper()
	w := worker.New(s.client, s.name, worker.Options{LocalActivityWorkerOnly: true, Interceptors: interceptors})
	registerWorkflows(w)
	require.NoError(s.t, w.Start())
	s.t.Cleanup(w.Stop)
	return w
}

func registerWorkflows(r worker.WorkflowRegistry) {
	r.RegisterWorkflowWithOptions(one, workflow.RegisterOptions{Name: "one"})
	r.RegisterWorkflowWithOptions(twice, workflow.RegisterOptions{Name: "twice"})
	r.RegisterWorkflowWithOptions(onward, workflow.RegisterOptions{Name: "onward"})
	r.RegisterWorkflowWithOptions(around, workflow.RegisterOptions{Name: "around"})
}

// onward is a workflow that makes the same call in two runs.
func onward(ctx workflow.Context, c call) (v verdict, err error) {
	if v, err = one(ctx, c); err == nil && workflow.GetInfo(ctx).ContinuedExecutionRunID == "" {
		return v, workflow.NewContinueAsNewError(ctx, "onward", c)
	}
	return v, err
}

// around is a workflow that makes the same call before and after a signal.
func around(ctx workflow.Context, c call) (v verdict, err error) {
	if _, err = one(ctx, c); err != nil {
		return v, err
	}
	local := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: soon})
	if err = workflow.ExecuteLocalActivity(local, nothing, c.Input).Get(ctx, nil); err != nil {
		return v, err
	}
	workflow.GetSignalChannel(ctx, "go on").Receive(ctx, nil)
	return one(ctx, c)
}

func nothing(context.Context, charge) error { return nil }

// named returns the occurrences that the run's activity calls were given, 0
// where there is no header.
func (s *scene) named(run client.WorkflowRun) (occurrences []int) {
	s.t.Helper()
	for _, event := range s.history(run) {
		if scheduled := event.GetActivityTaskScheduledEventAttributes(); scheduled != nil {
			var header struct{ Occurrence int }
			if p := scheduled.GetHeader().GetFields()["atmostonce"]; p != nil {
				require.NoError(s.t, json.Unmarshal(p.GetData(), &header), "no codec touches it")
			}
			occurrences = append(occurrences, header.Occurrence)
		}
	}
	return occurrences
}

// requireNotices asserts which notices observers got.
func (s *scene) requireNotices(want ...observe.Notice) {
	s.t.Helper()
	got := []observe.Notice{}
	for _, e := range s.events.kind(observe.KindNotice) {
		got = append(got, e.Notice)
	}
	require.ElementsMatch(s.t, want, got)
}

var scopes = []keys.Scope{keys.PerWorkflow, keys.PerRun, keys.PerCall}

func TestReset_AfterTheActivityHasFinishedIsTheSameCall(t *testing.T) {
	t.Parallel()
	for _, scope := range scopes {
		t.Run(scope.String(), func(t *testing.T) {
			t.Parallel()
			s := newHeadedScene(t, encrypted(false))
			s.work(once.Policy{Scope: scope, OnDuplicate: once.Reject}, s.charge)
			run := s.start("reset", "one", call{})
			s.served(run)
			again := s.reset(run)
			s.served(again)
			s.served(s.reset(again))
			s.count(1, charged)
			s.requireNotices()
			require.Len(t, s.events.kind(observe.KindDuplicate), 2)
			require.Equal(t, []int{1}, s.named(run))
			require.Equal(t, run.GetRunID(), s.record(store.Succeeded).Info.Holder.OriginalRunID)
		})
	}
}

func TestReset_WithTheActivityInFlightIsTheSameCall(t *testing.T) {
	t.Parallel()
	for _, scope := range scopes {
		t.Run(scope.String(), func(t *testing.T) {
			t.Parallel()
			s := newHeadedScene(t, client.Options{})
			finish := make(chan struct{})
			s.work(once.Policy{Scope: scope, OnDuplicate: once.Reject}, s.zombie(finish))
			run := s.start("reset", "one", call{})
			s.eventually(func() bool { return len(s.ledger.lines(charged)) == 1 }, "the activity runs")
			again := s.reset(run)
			require.False(t, nonRetryable(s.held(again, once.InFlight)))
			require.Equal(t, run.GetRunID(), s.record(store.Running).Info.Holder.RunID)
			close(finish)
			s.served(again)
			s.count(1, charged)
			s.requireNotices()
		})
	}
}

func TestReset_WithoutTheHeaderIsAnotherCall(t *testing.T) {
	t.Parallel()
	for _, scope := range []keys.Scope{keys.PerRun, keys.PerCall} {
		t.Run(scope.String(), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, client.Options{})
			s.work(once.Policy{Scope: scope}, s.charge)
			run := s.start("reset", "one", call{})
			s.served(run)
			s.served(s.reset(run))
			s.count(2, charged)
			s.requireNotices(observe.NoHeader, observe.NoHeader)
		})
	}
}

func TestEqualCalls_InOneRun(t *testing.T) {
	t.Parallel()
	for scope, effects := range map[keys.Scope]int{keys.PerWorkflow: 1, keys.PerRun: 1, keys.PerCall: 2} {
		t.Run(scope.String(), func(t *testing.T) {
			t.Parallel()
			s := newHeadedScene(t, client.Options{})
			s.work(once.Policy{Scope: scope}, s.charge)
			run := s.start("twice", "twice", call{})
			s.completed(run)
			require.Equal(t, []int{1, 2}, s.named(run))
			s.count(effects, charged)
			warned := []observe.Notice{}
			if scope == keys.PerWorkflow {
				warned = []observe.Notice{observe.SameRun}
			}
			s.requireNotices(warned...)

			again := s.reset(run)
			s.completed(again)
			require.Equal(t, []int{1, 2}, s.named(again))
			s.count(effects, charged)
			s.requireNotices(append(warned, warned...)...)
		})
	}
}

func TestContinueAsNew_IsAnotherRun(t *testing.T) {
	t.Parallel()
	for scope, effects := range map[keys.Scope]int{keys.PerWorkflow: 1, keys.PerRun: 2, keys.PerCall: 2} {
		t.Run(scope.String(), func(t *testing.T) {
			t.Parallel()
			s := newHeadedScene(t, client.Options{})
			s.work(once.Policy{Scope: scope}, s.charge)
			s.served(s.start("onward", "onward", call{}))
			s.count(effects, charged)
			if scope == keys.PerWorkflow {
				s.requireNotices(observe.OtherRun)
			} else {
				s.requireNotices()
			}
		})
	}
}

func TestPerCall_LocalActivities(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	s.name += "-local"
	guard := s.guard(once.Mark(once.Policy{Scope: keys.PerCall}, "Charge")...)
	w := worker.New(s.dial(guard), s.name, worker.Options{})
	var failed atomic.Bool
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context, c call) (v verdict, err error) {
		ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: soon})
		for range 2 {
			err = workflow.ExecuteLocalActivity(ctx, "Charge", c.Input).Get(ctx, &v.Receipt)
		}
		if failed.CompareAndSwap(false, true) {
			panic("this workflow task fails")
		}
		return v, err
	}, workflow.RegisterOptions{Name: "local"})
	register(w, s.charge)
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)

	run := s.start("local", "local", call{})
	s.served(run)
	s.event(run, enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED)
	s.count(2, charged)
	require.Len(t, s.events.kind(observe.KindDuplicate), 2)
	s.requireNotices()
}

// A workflow that the guard finds running is counted from its start.
func TestWorkflows_ComeAndGoWhileAWorkflowRuns(t *testing.T) {
	t.Parallel()
	none, guarded := []sdkinterceptor.WorkerInterceptor{}, []sdkinterceptor.WorkerInterceptor{interceptor.Workflows()}
	for name, tc := range map[string]struct {
		before, after []sdkinterceptor.WorkerInterceptor
		named         []int
		notices       []observe.Notice
	}{
		"never":     {none, none, []int{0, 0}, []observe.Notice{observe.NoHeader, observe.NoHeader}},
		"installed": {none, guarded, []int{0, 2}, []observe.Notice{observe.NoHeader}},
		"removed":   {guarded, none, []int{1, 0}, []observe.Notice{observe.NoHeader}},
		"always":    {guarded, guarded, []int{1, 2}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, client.Options{})
			s.name += "-own"
			before := s.workflows(tc.before...)
			s.work(once.Policy{Scope: keys.PerCall}, s.charge)
			run := s.start("around", "around", call{})
			s.eventually(func() bool { return s.has(run, enumspb.EVENT_TYPE_MARKER_RECORDED) }, "the workflow waits for its signal")
			before.Stop()
			s.replays(run)

			s.workflows(tc.after...)
			require.NoError(t, s.client.SignalWorkflow(t.Context(), run.GetID(), run.GetRunID(), "go on", nil))
			s.served(run)
			require.Equal(t, tc.named, s.named(run))
			s.count(2, charged)
			s.requireNotices(tc.notices...)
			s.replays(run)
		})
	}
}

func (s *scene) has(run client.WorkflowRun, what enumspb.EventType) bool {
	s.t.Helper()
	return slices.ContainsFunc(s.history(run), func(e *historypb.HistoryEvent) bool { return e.GetEventType() == what })
}

// replays asserts that the SDK's replayer accepts the history of a workflow of
// type around, with and without the guard.
func (s *scene) replays(run client.WorkflowRun) {
	s.t.Helper()
	guard := s.guard(once.Mark(once.Policy{Scope: keys.PerCall}, "Charge")...)
	other := func(ctx workflow.Context, c call) (verdict, error) {
		c.Activity = "Refund"
		return around(ctx, c)
	}
	for name, o := range map[string]worker.WorkflowReplayerOptions{
		"without the guard": {},
		"with Workflows":    {Interceptors: []sdkinterceptor.WorkerInterceptor{interceptor.Workflows()}},
		"with the guard":    {Interceptors: []sdkinterceptor.WorkerInterceptor{guard}, Plugins: []worker.Plugin{guard}},
	} {
		require.NoError(s.t, s.replay(o, around, run), name)
		// The replayer compares commands up to the end of a workflow only.
		if !s.has(run, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED) {
			require.Error(s.t, s.replay(o, other, run), "%s: another workflow", name)
		}
	}
}

func (s *scene) replay(o worker.WorkflowReplayerOptions, w func(workflow.Context, call) (verdict, error), run client.WorkflowRun) error {
	s.t.Helper()
	replayer, err := worker.NewWorkflowReplayerWithOptions(o)
	require.NoError(s.t, err)
	replayer.RegisterWorkflowWithOptions(w, workflow.RegisterOptions{Name: "around"})
	ctx, cancel := context.WithTimeout(s.t.Context(), soon)
	defer cancel()
	return replayer.ReplayWorkflowExecution(ctx, s.client.WorkflowService(), quiet, client.DefaultNamespace,
		workflow.Execution{ID: run.GetID(), RunID: run.GetRunID()})
}
