package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/samples/internal/child"
	"github.com/atmostonce/atmostonce/samples/internal/tool"
	"github.com/atmostonce/atmostonce/store"
)

// The session's own activities, which the SDK registers, are not marked.
func TestSession_GuardsItsActivities(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	s.name += "-session"
	o := guardOptions(once.Mark(once.Policy{}, "Charge"), s.events)
	o.Strict = true
	guard, err := interceptor.New(s.store, o)
	require.NoError(t, err)
	w := worker.New(s.dial(guard), s.name, worker.Options{EnableSessionWorker: true})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context, c call) (v verdict, err error) {
		ctx, err = workflow.CreateSession(c.context(ctx), &workflow.SessionOptions{CreationTimeout: soon, ExecutionTimeout: soon})
		if err != nil {
			return v, err
		}
		defer workflow.CompleteSession(ctx)
		for range 2 {
			err = errors.Join(err, workflow.ExecuteActivity(ctx, c.Activity, c.Input).Get(ctx, &v.Receipt))
		}
		return v, err
	}, workflow.RegisterOptions{Name: "in a session"})
	register(w, s.charge)
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)

	run := s.start("session", "in a session", call{})
	s.served(run)
	s.count(1, charged)
	require.Len(t, s.events.kind(observe.KindDuplicate), 1)
	s.record(store.Succeeded)
	queues := map[string]bool{}
	for _, event := range s.history(run) {
		if a := event.GetActivityTaskScheduledEventAttributes(); a.GetActivityType().GetName() == "Charge" {
			queues[a.GetTaskQueue().GetName()] = true
		}
	}
	require.Len(t, queues, 1)
	require.NotContains(t, queues, s.name, "a session has a task queue of its own")
}

// An eager activity comes with the answer to a workflow task.
func TestEager_ActivitiesAreGuarded(t *testing.T) {
	t.Parallel()
	var handed, runs atomic.Int32
	count := func(ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
		err := invoke(ctx, method, request, reply, cc, o...)
		if done, ok := reply.(*workflowservice.RespondWorkflowTaskCompletedResponse); ok {
			handed.Add(int32(len(done.GetActivityTasks())))
		}
		return err
	}
	guard, err := interceptor.New(store.NewMemory(store.MemoryOptions{}), guardOptions(once.Mark(once.Policy{}, "Charge")))
	require.NoError(t, err)
	c, err := client.NewLazyClient(client.Options{
		HostPort: eagerServer(t), Logger: quiet, Plugins: []client.Plugin{guard},
		ConnectionOptions: client.ConnectionOptions{DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(count)}},
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	w := worker.New(c, "eager", worker.Options{})
	w.RegisterWorkflowWithOptions(twice, workflow.RegisterOptions{Name: "twice"})
	register(w, func(_ context.Context, in charge) (receipt, error) { runs.Add(1); return receiptOf(in), nil })
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)

	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: "eager"}, "twice",
		call{Activity: "Charge", Input: charge{Order: "order-1"}, StartToClose: time.Minute})
	require.NoError(t, err)
	require.NoError(t, run.Get(ctx, nil))
	require.EqualValues(t, 2, handed.Load(), "eager activities")
	require.EqualValues(t, 1, runs.Load())
}

// eagerServer starts a server that hands out eager activities, as the one of the
// other tests does not. It returns the address.
func eagerServer(t *testing.T) string {
	t.Helper()
	binary, err := tool.TemporalCLI.Binary(t.Context(), os.Stderr)
	require.NoError(t, err)
	port, err := child.FreePort()
	require.NoError(t, err)
	cmd := exec.Command(binary, "server", "start-dev", "--ip", "127.0.0.1", "--port", strconv.Itoa(port), "--headless",
		"--log-level", "error", "--dynamic-config-value", "system.enableActivityEagerExecution=true")
	process, err := child.Start(cmd)
	require.NoError(t, err)
	t.Cleanup(func() { process.Stop(5 * time.Second) })
	address := "127.0.0.1:" + strconv.Itoa(port)
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c, err := client.DialContext(ctx, client.Options{HostPort: address, Logger: quiet})
		if err != nil {
			return false
		}
		defer c.Close()
		_, err = c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{})
		return err == nil
	}, soon, poll)
	return address
}
