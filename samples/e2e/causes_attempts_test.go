package e2e

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"time"

	"github.com/stretchr/testify/require"
	activitypb "go.temporal.io/api/activity/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// inAttempts are the causes that make Temporal attempt a call again.
var inAttempts = []cause{
	{"an error before the effect", []string{byDefault}, func(x *trial) {
		x.fails(func(context.Context, charge) (receipt, error) { return receipt{}, errors.New("declined") })
	}},
	{"a connection that breaks after the effect", []string{byDefault, asking}, func(x *trial) {
		x.fails(func(context.Context, charge) (receipt, error) {
			_, err := x.ledger.charge()
			return receipt{}, errors.Join(io.ErrUnexpectedEOF, err)
		})
	}},
	{"a request that net/http repeats by itself, and then finds nobody", []string{byDefault, failing, asking}, repeated},
	{"an error after the effect that looks like any other", []string{byDefault, doubting}, func(x *trial) {
		x.fails(func(context.Context, charge) (receipt, error) {
			_, err := x.ledger.charge()
			return receipt{}, errors.Join(errors.New("declined"), err)
		})
	}},
	{"start-to-close timeout while the body runs on", []string{byDefault, waiting}, func(x *trial) {
		x.outlives(call{StartToClose: tight}, func(client.WorkflowRun) {})
	}},
	{"heartbeat timeout while the body runs on", []string{byDefault}, func(x *trial) {
		x.outlives(call{Heartbeat: tight}, func(client.WorkflowRun) {})
	}},
	{"update-options shorten the timeout and move the task queue while the body runs on", []string{byDefault}, updated},
	{"pause and unpause of a body that obeys", []string{byDefault, asking}, paused},
	{"activity reset while the body runs on (attempt 2 comes twice)", []string{byDefault}, resetAttempt},
}

// tight is a timeout that a body means to exceed, and its successor not.
const tight = 3 * time.Second

// fails has the first body act so that it returns an error.
func (x *trial) fails(act body) {
	x.t.Helper()
	x.serve(worker.Options{}, x.ledger.counted(act))
	x.ends(x.start("run", "one", call{}))
}

// repeated has the provider charge and hang up, and be gone. The request has a
// key, so that net/http sends it again, and returns why it could not.
func repeated(x *trial) {
	provider := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_, _ = x.ledger.charge()
			panic(http.ErrAbortHandler)
		}
	}))
	provider.Config.ErrorLog = log.New(io.Discard, "", 0)
	x.t.Cleanup(provider.Close)
	dials := 0
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if dials++; dials > 1 {
			network, address = "unix", filepath.Join(x.dir, "nobody")
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	x.t.Cleanup(transport.CloseIdleConnections)
	send := func(ctx context.Context, method string) error {
		r, err := http.NewRequestWithContext(ctx, method, provider.URL, http.NoBody)
		if err != nil {
			return err
		}
		r.Header.Set("Idempotency-Key", "order-1")
		answer, err := (&http.Client{Transport: transport}).Do(r)
		if err != nil {
			return err
		}
		return answer.Body.Close()
	}
	require.NoError(x.t, send(x.t.Context(), http.MethodGet)) // the connection is kept alive
	x.fails(func(ctx context.Context, _ charge) (receipt, error) { return receipt{}, send(ctx, http.MethodPost) })
	require.Equal(x.t, 2, dials, "it was sent again")
}

// outlives lets the first body run on while something makes Temporal start
// another one, and return at last.
func (x *trial) outlives(c call, something func(client.WorkflowRun)) {
	x.t.Helper()
	finish := make(chan struct{})
	x.serve(worker.Options{}, x.ledger.counted(x.ledger.outlasts(finish)))
	run := x.start("run", "one", c)
	x.effect()
	something(run)
	x.overtaken(run, 1)
	close(finish)
	x.sees(run)
}

func updated(x *trial) {
	elsewhere := *x.scene
	elsewhere.name += "-elsewhere"
	(&trial{scene: &elsewhere, policy: x.policy}).serve(worker.Options{}, x.ledger.counted())
	x.outlives(call{}, func(run client.WorkflowRun) {
		_, err := x.client.WorkflowService().UpdateActivityOptions(x.t.Context(), &workflowservice.UpdateActivityOptionsRequest{
			Namespace: client.DefaultNamespace, Execution: execution(run),
			Activity: &workflowservice.UpdateActivityOptionsRequest_Type{Type: "Charge"},
			ActivityOptions: &activitypb.ActivityOptions{
				TaskQueue: &taskqueuepb.TaskQueue{Name: elsewhere.name}, StartToCloseTimeout: durationpb.New(tight),
			},
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"task_queue.name", "start_to_close_timeout"}},
		})
		require.NoError(x.t, err)
	})
}

func execution(run client.WorkflowRun) *commonpb.WorkflowExecution {
	return &commonpb.WorkflowExecution{WorkflowId: run.GetID(), RunId: run.GetRunID()}
}

// obeys is an act that charges, and returns when its context ends.
func (l ledger) obeys(ctx context.Context, _ charge) (receipt, error) {
	if _, err := l.charge(); err != nil {
		return receipt{}, err
	}
	beat := time.NewTicker(poll)
	defer beat.Stop()
	for {
		sdkactivity.RecordHeartbeat(ctx)
		select {
		case <-beat.C:
		case <-ctx.Done():
			return receipt{}, ctx.Err()
		}
	}
}

func paused(x *trial) {
	x.serve(worker.Options{MaxHeartbeatThrottleInterval: poll}, x.ledger.counted(x.ledger.obeys))
	run := x.start("run", "one", call{Heartbeat: soon})
	x.effect()
	_, err := x.client.WorkflowService().PauseActivity(x.t.Context(), &workflowservice.PauseActivityRequest{
		Namespace: client.DefaultNamespace, Execution: execution(run),
		Activity: &workflowservice.PauseActivityRequest_Type{Type: "Charge"}, Reason: "test",
	})
	require.NoError(x.t, err)
	x.eventually(func() bool { return x.state(run) == enumspb.PENDING_ACTIVITY_STATE_PAUSED }, "the body has ended")
	_, err = x.client.WorkflowService().UnpauseActivity(x.t.Context(), &workflowservice.UnpauseActivityRequest{
		Namespace: client.DefaultNamespace, Execution: execution(run),
		Activity: &workflowservice.UnpauseActivityRequest_Type{Type: "Charge"},
	})
	require.NoError(x.t, err)
	x.ends(run)
}

// state returns that of the run's only pending activity.
func (x *trial) state(run client.WorkflowRun) enumspb.PendingActivityState {
	described, err := x.client.DescribeWorkflowExecution(x.t.Context(), run.GetID(), run.GetRunID())
	if err != nil || len(described.GetPendingActivities()) == 0 {
		return enumspb.PENDING_ACTIVITY_STATE_UNSPECIFIED
	}
	return described.GetPendingActivities()[0].GetState()
}

func resetAttempt(x *trial) {
	finish := make(chan struct{})
	x.serve(worker.Options{}, x.ledger.counted(
		func(context.Context, charge) (receipt, error) { return receipt{}, errors.New("declined") },
		x.ledger.outlasts(finish)))
	run := x.start("run", "one", call{StartToClose: tight})
	x.effect()
	_, err := x.client.WorkflowService().ResetActivity(x.t.Context(), &workflowservice.ResetActivityRequest{
		Namespace: client.DefaultNamespace, Execution: execution(run),
		Activity: &workflowservice.ResetActivityRequest_Type{Type: "Charge"},
	})
	require.NoError(x.t, err)
	x.overtaken(run, 2)
	close(finish)
	x.sees(run)
	attempts := []string{"1", "2"}
	if !x.guarded() {
		attempts = append(attempts, "2")
	}
	require.Equal(x.t, attempts, x.ledger.lines(begun))
}
