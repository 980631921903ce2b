package e2e

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
)

// trial is a scene in which one cause happens under one policy.
type trial struct {
	*scene
	policy string
	struck int      // how often the cause was seen to strike, other than by a call that came again
	saw    []string // by the workflow
}

func newTrial(t *testing.T, policy string) *trial {
	t.Helper()
	x := &trial{scene: newScene(t, client.Options{}), policy: policy}
	x.connect(server.Address)
	return x
}

// connect starts a worker for workflows on that server, on a task queue of its
// own.
func (x *trial) connect(address string) {
	x.t.Helper()
	x.options.HostPort = address
	x.client = x.dial()
	x.name += "-trial"
	w := worker.New(x.client, x.name, worker.Options{
		LocalActivityWorkerOnly: true, Interceptors: []sdkinterceptor.WorkerInterceptor{interceptor.Workflows()},
	})
	registerWorkflows(w)
	w.RegisterWorkflowWithOptions(scheduled, workflow.RegisterOptions{Name: "scheduled"})
	w.RegisterWorkflowWithOptions(failsOnce, workflow.RegisterOptions{Name: "failsOnce"})
	w.RegisterWorkflowWithOptions(parent, workflow.RegisterOptions{Name: "parent"})
	require.NoError(x.t, w.Start())
	x.t.Cleanup(w.Stop)
}

func (x *trial) guarded() bool { return x.policy != unguarded }

// policyOf returns the policy with that name.
func policyOf(name string, l ledger) once.Policy {
	switch name {
	case byDefault:
		return once.Policy{}
	case failing:
		return once.Policy{InDoubt: once.Fail}
	case asking:
		return once.Policy{InDoubt: once.Reconcile(func(context.Context, charge) (receipt, error) {
			if n := len(l.lines(charged)); n > 0 {
				return receiptNo(n), nil
			}
			return receipt{}, once.ErrNotDone
		})}
	case doubting:
		return once.Policy{OnFailure: once.Doubt}
	case waiting:
		return once.Policy{OnDuplicate: once.Wait}
	case perRun:
		return once.Policy{Scope: keys.PerRun}
	case perKey:
		return perOrder
	default:
		panic(name)
	}
}

func receiptNo(n int) receipt { return receipt{ID: "receipt " + strconv.Itoa(n)} }

// serve starts a worker on which Charge is guarded as the trial says, or not.
func (x *trial) serve(o worker.Options, b body) worker.Worker {
	x.t.Helper()
	registrations := func(r worker.Registry) { register(r, b) }
	if x.guarded() {
		return x.workWith(x.guard(once.Mark(policyOf(x.policy, x.ledger), "Charge")...), o, registrations)
	}
	o.DisableWorkflowWorker = true
	w := worker.New(x.client, x.name, o)
	registrations(w)
	require.NoError(x.t, w.Start())
	x.t.Cleanup(w.Stop)
	return w
}

// counted is a body that writes its start to the ledger. The first start does
// the first act, the second one the second; after the last, they charge.
func (l ledger) counted(acts ...body) body {
	return func(ctx context.Context, in charge) (receipt, error) {
		if err := l.write(begun, strconv.Itoa(int(sdkactivity.GetInfo(ctx).Attempt))); err != nil {
			return receipt{}, err
		}
		if n := len(l.lines(begun)); n <= len(acts) {
			return acts[n-1](ctx, in)
		}
		return l.charge()
	}
}

func (l ledger) charge() (receipt, error) {
	err := l.write(charged)
	return receiptNo(len(l.lines(charged))), err
}

// outlasts is an act that charges, and neither returns nor looks at its context
// until finish is closed.
func (l ledger) outlasts(finish <-chan struct{}) body {
	return func(ctx context.Context, _ charge) (receipt, error) {
		sdkactivity.RecordHeartbeat(ctx)
		r, err := l.charge()
		<-finish
		return r, err
	}
}

// effect waits until there was one.
func (x *trial) effect() {
	x.t.Helper()
	x.eventually(func() bool { return len(x.ledger.lines(charged)) == 1 }, "the effect")
}

// overtaken waits until Temporal has come back to a call although the last of
// so many starts still runs.
func (x *trial) overtaken(run client.WorkflowRun, starts int) {
	x.t.Helper()
	if x.guarded() {
		require.False(x.t, nonRetryable(x.held(run, once.InFlight)))
		return
	}
	x.eventually(func() bool { return len(x.ledger.lines(begun)) > starts }, "the body starts again")
}

// sees waits for the end of a run and those that follow it, and notes what their
// calls came to.
func (x *trial) sees(run client.WorkflowRun) {
	x.t.Helper()
	first := x.client.GetWorkflow(x.t.Context(), run.GetID(), run.GetRunID())
	x.completed(run) // which makes run the last of its chain
	x.notes(first)
}

// notes notes what the calls of a run and those that follow it came to.
func (x *trial) notes(run client.WorkflowRun) {
	x.t.Helper()
	for _, link := range x.chain(run) {
		x.saw = append(x.saw, x.answers(link)...)
	}
}

// ends is sees for a call that may be held instead, until an operator decides.
func (x *trial) ends(run client.WorkflowRun) {
	x.t.Helper()
	ended := false
	x.eventually(func() bool {
		described, err := x.client.DescribeWorkflowExecution(x.t.Context(), run.GetID(), run.GetRunID())
		ended = err == nil && described.GetWorkflowExecutionInfo().GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
		return ended || len(x.events.of(isHeld)) > 0
	}, "the workflow ends, or its call is held")
	if ended {
		x.sees(run)
		return
	}
	require.False(x.t, nonRetryable(x.held(run, once.InDoubt)))
	x.saw = append(x.saw, "no answer (InDoubt)")
}

// isHeld reports whether a call was refused although the settle delay was over.
func isHeld(e observe.Event) bool {
	return e.Kind == observe.KindFail && e.Reason == once.InDoubt && !nonRetryable(e.Err) && e.Record.Now.Sub(e.Record.Doubted) > settleDelay
}

// chain returns the run and those that Temporal let follow it, as far as they
// have begun.
func (x *trial) chain(run client.WorkflowRun) []client.WorkflowRun {
	x.t.Helper()
	chain := []client.WorkflowRun{run}
	for {
		events := x.history(run)
		last := events[len(events)-1]
		next := ""
		for _, id := range []string{
			last.GetWorkflowExecutionCompletedEventAttributes().GetNewExecutionRunId(),
			last.GetWorkflowExecutionContinuedAsNewEventAttributes().GetNewExecutionRunId(),
			last.GetWorkflowExecutionFailedEventAttributes().GetNewExecutionRunId(),
		} {
			next += id // no event is of two types
		}
		if next == "" {
			return chain
		}
		run = x.client.GetWorkflow(x.t.Context(), run.GetID(), next)
		chain = append(chain, run)
	}
}

// answers returns what the calls of a run came to, as its history has it.
func (x *trial) answers(run client.WorkflowRun) (all []string) {
	x.t.Helper()
	decode := func(payloads *commonpb.Payloads, to any) {
		require.NoError(x.t, converter.GetDefaultDataConverter().FromPayloads(payloads, to))
	}
	for _, event := range x.history(run) {
		if completed := event.GetActivityTaskCompletedEventAttributes(); completed != nil {
			var r receipt
			decode(completed.GetResult(), &r)
			all = append(all, r.ID)
		}
		if completed := event.GetChildWorkflowExecutionCompletedEventAttributes(); completed != nil {
			var v verdict
			decode(completed.GetResult(), &v)
			require.Empty(x.t, v.Failure)
			all = append(all, v.Receipt.ID)
		}
		if failed := event.GetActivityTaskFailedEventAttributes(); failed != nil {
			err := temporal.GetDefaultFailureConverter().FailureToError(failed.GetFailure())
			why, ok := once.Why(err)
			require.True(x.t, ok, "%v", err)
			require.True(x.t, nonRetryable(err) && once.MayHaveHappened(err), "%v", err)
			all = append(all, strings.TrimPrefix(string(why.Reason), "atmostonce.")+" error: it may have happened")
		}
	}
	return all
}
