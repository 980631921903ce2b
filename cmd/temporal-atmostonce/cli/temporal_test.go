package cli

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/worker/v1"
	"go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/atmostonce/atmostonce/store"
)

// temporalServer answers what the tool asks of Temporal. order-9's call waits; nobody
// waits for any other one's.
type temporalServer struct {
	workflowservice.UnimplementedWorkflowServiceServer
	resets atomic.Int32
}

func startTemporal(t *testing.T) (*temporalServer, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s, server := &temporalServer{}, grpc.NewServer()
	workflowservice.RegisterWorkflowServiceServer(server, s)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return s, l.Addr().String()
}

func (s *temporalServer) GetSystemInfo(context.Context, *workflowservice.GetSystemInfoRequest) (*workflowservice.GetSystemInfoResponse, error) {
	return &workflowservice.GetSystemInfoResponse{Capabilities: &workflowservice.GetSystemInfoResponse_Capabilities{}}, nil
}

func (s *temporalServer) DescribeWorkflowExecution(_ context.Context, r *workflowservice.DescribeWorkflowExecutionRequest) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	switch r.GetExecution().GetWorkflowId() {
	case "order-9":
		return &workflowservice.DescribeWorkflowExecutionResponse{PendingActivities: []*workflow.PendingActivityInfo{{
			ActivityId: "5", Attempt: 4, State: enums.PENDING_ACTIVITY_STATE_SCHEDULED, NextAttemptScheduleTime: timestamppb.New(time.Now().Add(17 * time.Second)),
		}}}, nil
	case "order-404":
		return nil, serviceerror.NewNotFound("workflow not found").(*serviceerror.NotFound).Status().Err()
	}
	return &workflowservice.DescribeWorkflowExecutionResponse{}, nil
}

func (s *temporalServer) ResetActivity(_ context.Context, r *workflowservice.ResetActivityRequest) (*workflowservice.ResetActivityResponse, error) {
	if r.GetId() == "5" && r.GetExecution().GetWorkflowId() == "order-9" && r.GetNamespace() == "shop" {
		s.resets.Add(1)
	}
	return &workflowservice.ResetActivityResponse{}, nil
}

func (s *temporalServer) ListWorkers(_ context.Context, r *workflowservice.ListWorkersRequest) (*workflowservice.ListWorkersResponse, error) {
	if r.GetQuery() != "" && r.GetQuery() != `TaskQueue="payments"` {
		return &workflowservice.ListWorkersResponse{}, nil
	}
	guarded := func(version string) []*worker.PluginInfo {
		return []*worker.PluginInfo{{Name: "atmostonce", Version: version}}
	}
	return &workflowservice.ListWorkersResponse{Workers: []*worker.WorkerListInfo{
		{WorkerIdentity: "1@a", TaskQueue: "payments", Plugins: guarded("v1")},
		{WorkerIdentity: "2@a", TaskQueue: "payments", Plugins: guarded("v2")},
		{WorkerIdentity: "3@a", TaskQueue: "payments"},
		{WorkerIdentity: "4@a", TaskQueue: "payments", Status: enums.WORKER_STATUS_SHUTDOWN},
	}}, nil
}

// Who waits for a key is Temporal's to say; and the waiting call can be tried again at once.
func TestTemporal_SaysWhoWaits(t *testing.T) {
	t.Parallel()
	server, address := startTemporal(t)
	s := store.NewMemory(store.MemoryOptions{})
	for _, order := range []string{"3", "9", "404"} {
		doubt(t, s, bidOf(order))
	}
	c := over(t, s)
	list := c.ok("--address", address, "list")
	require.Regexp(t, `order-3 .* nobody\n`, list)
	require.Regexp(t, `order-9 .* attempt 4, next in 1[67]s\n`, list)
	require.Regexp(t, `order-404 .* not asked\n`, list)
	require.Contains(t, list, "Nobody waits for 1 of them")
	require.Contains(t, c.ok("--address", address, "-o", "json", "show", digestOf("9")), `"waiting":{"waits":true,"attempt":4,`)
	decide := func(code int, order string, args ...string) ran {
		t.Helper()
		got := c.run(append([]string{"--address", address, "resolve", digestOf(order), "--failed", "no", "--reason", "x", "--yes"}, args...)...)
		require.Equal(t, code, got.code, got.err)
		return got
	}
	require.Contains(t, decide(0, "3", "--retry-now").out, "Nobody waits")
	require.Contains(t, decide(1, "404", "--retry-now").err, "it is decided, but the call is not tried again yet")
	require.Zero(t, server.resets.Load())
	require.Contains(t, decide(0, "9", "--retry-now").out, "tries the call of order-9 again now")
	require.EqualValues(t, 1, server.resets.Load())
	doubt(t, s, func() store.Bid { b := bidOf("9"); b.Key += "b"; return b }())
	got := c.run("--address", address, "resolve", "v1/shop/n/ChargeCard/k:9b", "--failed", "no", "--reason", "x", "--yes")
	require.Contains(t, got.out, "--retry-now would have it tried at once")
}

// A Temporal that does not answer keeps nobody from deciding.
func TestTemporal_IsNotNeeded(t *testing.T) {
	t.Parallel()
	s := store.NewMemory(store.MemoryOptions{})
	doubt(t, s, bidOf("9"))
	c := over(t, s)
	got := c.run("--address", "127.0.0.1:1", "list")
	require.Zero(t, got.code)
	require.Contains(t, got.out, "order-9")
	require.Contains(t, got.err, "127.0.0.1:1 does not answer")
	require.Zero(t, c.run("--address", "127.0.0.1:1", "resolve", digestOf("9"), "--failed", "no", "--reason", "x", "--yes").code)
}

func TestDoctor_FindsWorkersWithoutTheGuard(t *testing.T) {
	t.Parallel()
	_, address := startTemporal(t)
	c := over(t, store.NewMemory(store.MemoryOptions{}))
	out := c.ok("--address", address, "-n", "shop", "doctor", "--task-queue", "payments")
	require.Contains(t, out, "3@a of task queue payments has no guard")
	require.Contains(t, out, "the guards differ: ")
	require.Contains(t, out, "2 have the guard")
	require.NotContains(t, out, "4@a")
	require.Contains(t, c.ok("--address", address, "doctor", "--task-queue", "other"), "0 have the guard")
}
