package e2e

import (
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// acrossRuns are the causes that make another run of a workflow call again.
var acrossRuns = []cause{
	{"workflow reset, the activity has finished", []string{byDefault, perRun}, func(x *trial) {
		run := x.first("one", call{})
		x.sees(run)
		x.sees(x.reset(run))
	}},
	{"workflow reset, the activity in flight", []string{byDefault, perRun}, func(x *trial) {
		finish := make(chan struct{})
		x.serve(worker.Options{}, x.ledger.counted(x.ledger.outlasts(finish)))
		run := x.start("run", "one", call{})
		x.effect()
		again := x.reset(run)
		x.overtaken(again, 1)
		close(finish)
		x.sees(again)
	}},
	{"continue-as-new", []string{byDefault, perRun}, func(x *trial) { x.sees(x.first("onward", call{})) }},
	{"cron", []string{byDefault, perRun}, func(x *trial) {
		run := x.firstWith(client.StartWorkflowOptions{CronSchedule: "@every 1s"}, "scheduled", charging)
		x.eventually(func() bool { return len(x.chain(run)) == 3 }, "the third run, which calls nothing")
		x.notes(run)
		require.NoError(x.t, x.client.TerminateWorkflow(x.t.Context(), run.GetID(), "", "test"))
	}},
	{"workflow retry", []string{byDefault, perRun}, func(x *trial) {
		o := client.StartWorkflowOptions{RetryPolicy: &temporal.RetryPolicy{InitialInterval: poll, MaximumAttempts: 2}}
		x.sees(x.firstWith(o, "failsOnce", charging))
	}},
	{"workflow ID used again", []string{byDefault, perRun}, func(x *trial) {
		x.sees(x.first("one", call{}))
		x.sees(x.start("run", "one", call{}))
	}},
	{"workflow reset, the call in an auto-named child", []string{byDefault, perKey}, func(x *trial) { x.parentReset("") }},
	{"workflow reset, the call in a named child", []string{byDefault, perRun}, func(x *trial) { x.parentReset("child") }},
}

var charging = call{Activity: "Charge", Input: charge{Order: "order-1", Cents: 1200}, StartToClose: time.Minute}

// first starts a worker whose bodies charge, and a workflow.
func (x *trial) first(workflowType string, c call) client.WorkflowRun {
	x.t.Helper()
	x.serve(worker.Options{}, x.ledger.counted())
	return x.start("run", workflowType, c)
}

func (x *trial) firstWith(o client.StartWorkflowOptions, workflowType string, args ...any) client.WorkflowRun {
	x.t.Helper()
	x.serve(worker.Options{}, x.ledger.counted())
	o.ID, o.TaskQueue = x.name+"-run", x.name
	run, err := x.client.ExecuteWorkflow(x.t.Context(), o, workflowType, args...)
	require.NoError(x.t, err)
	x.runs = append(x.runs, run)
	return run
}

func (x *trial) parentReset(childID string) {
	x.t.Helper()
	if childID != "" {
		childID = x.name + "-" + childID
	}
	run := x.firstWith(client.StartWorkflowOptions{}, "parent", charging, childID)
	x.sees(run)
	x.sees(x.reset(run))
}

// parent is a workflow whose child makes the call.
func parent(ctx workflow.Context, c call, childID string) (v verdict, err error) {
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: childID})
	err = workflow.ExecuteChildWorkflow(ctx, "one", c).Get(ctx, &v)
	return v, err
}

// failsOnce is a workflow that makes the call, and whose first run fails.
func failsOnce(ctx workflow.Context, c call) (verdict, error) {
	v, err := one(ctx, c)
	if err == nil && workflow.GetInfo(ctx).Attempt == 1 {
		err = temporal.NewApplicationError("the first run fails", "test")
	}
	return v, err
}

// scheduled is a workflow that makes the call in its first two runs, and only
// waits in the third. It returns how many runs there were.
func scheduled(ctx workflow.Context, c call) (runs int, err error) {
	if workflow.HasLastCompletionResult(ctx) {
		if err := workflow.GetLastCompletionResult(ctx, &runs); err != nil {
			return 0, err
		}
	}
	if runs == 2 {
		return runs, workflow.Sleep(ctx, soon)
	}
	_, err = one(ctx, c)
	return runs + 1, err
}
