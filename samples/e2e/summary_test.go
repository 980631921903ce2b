package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
)

// summing returns a guard of Charge that says so in the history, or does not.
func (s *scene) summing(summaries bool) *interceptor.Guard {
	s.t.Helper()
	o := guardOptions(once.Mark(once.Policy{Scope: keys.PerCall}, "Charge"), s.events)
	o.Summaries = summaries
	g, err := interceptor.New(s.store, o)
	require.NoError(s.t, err)
	return g
}

const summary = "at most once: PerCall, OnDuplicate Return, InDoubt Hold"

// errands is a workflow that calls a marked activity without a summary and with
// its own, and one that is not marked.
func errands(ctx workflow.Context, c call) error {
	o := workflow.GetActivityOptions(c.context(ctx))
	o.ScheduleToCloseTimeout, o.ScheduleToStartTimeout, o.HeartbeatTimeout = time.Hour, soon, soon
	o.RetryPolicy.NonRetryableErrorTypes = []string{"Declined"}
	o.Priority = temporal.Priority{PriorityKey: 2}
	ctx = workflow.WithActivityOptions(ctx, o)
	o.Summary = "the invoice of May"
	own := workflow.WithActivityOptions(ctx, o)
	for _, err := range []error{
		workflow.ExecuteActivity(ctx, "Charge", c.Input).Get(ctx, nil),
		workflow.ExecuteActivity(own, "Charge", c.Input).Get(ctx, nil),
		workflow.ExecuteActivity(ctx, "Unmarked", c.Input).Get(ctx, nil),
		workflow.ExecuteActivity(ctx, "Charge", c.Input).Get(ctx, nil),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// summaries returns what stands beside the run's activity calls.
func (s *scene) summaries(run client.WorkflowRun) (all []string) {
	s.t.Helper()
	dc := s.options.DataConverter
	if dc == nil {
		dc = converter.GetDefaultDataConverter()
	}
	dc = converter.WithDataConverterSerializationContext(dc, converter.WorkflowSerializationContext{WorkflowID: run.GetID()})
	for _, event := range s.history(run) {
		if event.GetEventType() != enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED {
			continue
		}
		text := ""
		if p := event.GetUserMetadata().GetSummary(); p != nil {
			require.NoError(s.t, dc.FromPayload(p, &text))
		}
		all = append(all, text)
	}
	return all
}

// legible reports whether the run's history has that text for anybody to read.
func (s *scene) legible(run client.WorkflowRun, text string) bool {
	s.t.Helper()
	for _, event := range s.history(run) {
		data, err := proto.Marshal(event)
		require.NoError(s.t, err)
		if strings.Contains(string(data), text) {
			return true
		}
	}
	return false
}

// errand has a workflow of that type run, on a worker with these plugins and
// interceptors that does all.
func (s *scene) errand(plugins []client.Plugin, interceptors []sdkinterceptor.WorkerInterceptor) client.WorkflowRun {
	s.t.Helper()
	s.name += "-own"
	w := worker.New(s.dial(plugins...), s.name, worker.Options{Interceptors: interceptors})
	w.RegisterWorkflowWithOptions(errands, workflow.RegisterOptions{Name: "errands"})
	register(w, s.charge)
	w.RegisterActivityWithOptions(nothing, sdkactivity.RegisterOptions{Name: "Unmarked"})
	require.NoError(s.t, w.Start())
	s.t.Cleanup(w.Stop)
	run := s.start("errands", "errands", call{})
	s.completed(run)
	return run
}

func TestSummaries_StandBesideMarkedCalls(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		options client.Options
		legible bool
	}{
		"plain":                {client.Options{}, true},
		"encrypted":            {encrypted(false), false},
		"encrypted, and bound": {encrypted(true), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, tc.options)
			run := s.errand([]client.Plugin{s.summing(true)}, nil)
			require.Equal(t, []string{summary, "the invoice of May", "", summary}, s.summaries(run))
			require.Equal(t, tc.legible, s.legible(run, "at most once"))
			s.count(3, charged)
		})
	}
}

func TestSummaries_AreNotThereUnasked(t *testing.T) {
	t.Parallel()
	for name, install := range map[string]func(*scene) ([]client.Plugin, []sdkinterceptor.WorkerInterceptor){
		"without the option": func(s *scene) ([]client.Plugin, []sdkinterceptor.WorkerInterceptor) {
			return []client.Plugin{s.summing(false)}, nil
		},
		"where it only observes": func(s *scene) ([]client.Plugin, []sdkinterceptor.WorkerInterceptor) {
			o := guardOptions(once.Mark(once.Policy{Scope: keys.PerCall}, once.All))
			o.Summaries = true
			g, err := interceptor.New(s.store, o)
			require.NoError(t, err)
			return []client.Plugin{g}, nil
		},
		"by Workflows": func(*scene) ([]client.Plugin, []sdkinterceptor.WorkerInterceptor) {
			return nil, []sdkinterceptor.WorkerInterceptor{interceptor.Workflows()}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, client.Options{})
			plugins, interceptors := install(s)
			run := s.errand(plugins, interceptors)
			require.Equal(t, []string{"", "the invoice of May", "", ""}, s.summaries(run))
		})
	}
}

func TestSummaries_ChangeNothingElseOfACall(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	with := s.callsIn(s.errand([]client.Plugin{s.summing(true)}, nil))
	without := s.callsIn(s.errand([]client.Plugin{s.summing(false)}, nil))
	require.Len(t, with, 4)
	for i := range with {
		require.True(t, proto.Equal(without[i], with[i]), "%v\n%v", without[i], with[i])
	}
}

// callsIn returns the run's activity calls, but for what no two runs share.
func (s *scene) callsIn(run client.WorkflowRun) (all []*historypb.ActivityTaskScheduledEventAttributes) {
	s.t.Helper()
	for _, event := range s.history(run) {
		if a := event.GetActivityTaskScheduledEventAttributes(); a != nil {
			a.Header, a.TaskQueue = nil, nil
			all = append(all, a)
		}
	}
	return all
}

func TestSummaries_ComeAndGoWhileAWorkflowRuns(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		before, after bool
		want          []string
	}{
		"switched on":  {false, true, []string{"", summary}},
		"switched off": {true, false, []string{summary, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, client.Options{})
			s.name += "-own"
			s.work(once.Policy{Scope: keys.PerCall}, s.charge)
			before := s.workflows(s.summing(tc.before))
			run := s.start("around", "around", call{})
			s.eventually(func() bool { return s.has(run, enumspb.EVENT_TYPE_MARKER_RECORDED) }, "the workflow waits for its signal")
			before.Stop()
			s.replays(run)
			s.replaysSumming(run)

			s.workflows(s.summing(tc.after))
			require.NoError(t, s.client.SignalWorkflow(t.Context(), run.GetID(), run.GetRunID(), "go on", nil))
			s.served(run)
			require.Equal(t, tc.want, s.summaries(run))
			require.False(t, s.has(run, enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED))
			s.count(2, charged)
			s.replays(run)
			s.replaysSumming(run)
		})
	}
}

// replaysSumming is replays with summaries.
func (s *scene) replaysSumming(run client.WorkflowRun) {
	s.t.Helper()
	guard := s.summing(true)
	require.NoError(s.t, s.replay(worker.WorkflowReplayerOptions{
		Interceptors: []sdkinterceptor.WorkerInterceptor{guard}, Plugins: []worker.Plugin{guard},
	}, around, run))
}
