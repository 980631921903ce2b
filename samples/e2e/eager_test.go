package e2e

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// eagerly is a workflow that makes one call, of which no more may be known than
// what it says.
func eagerly(ctx workflow.Context, in charge, retry *temporal.RetryPolicy) (r receipt, err error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: soon, RetryPolicy: retry})
	return r, workflow.ExecuteActivity(ctx, "Charge", in).Get(ctx, &r)
}

// retained is a store that notes for how long records are to be kept.
type retained struct {
	store.Store
	ttl atomic.Int64
}

func (r *retained) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	r.ttl.Store(int64(b.TTL))
	return r.Store.Acquire(ctx, b)
}

// The server hands an eager activity out without its retry policy.
func TestEager_CallKnowsItsRetryPolicy(t *testing.T) {
	t.Parallel()
	s := &retained{Store: store.NewMemory(store.MemoryOptions{})}
	notes := &events{}
	p := perOrder
	p.TTL = time.Minute
	guard, err := interceptor.New(s, guardOptions(once.Mark(p, "Charge"), notes))
	require.NoError(t, err)
	c, err := client.DialContext(t.Context(), client.Options{HostPort: eagerServer(t), Logger: quiet, Plugins: []client.Plugin{guard}})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	w := worker.New(c, "eager", worker.Options{})
	w.RegisterWorkflowWithOptions(eagerly, workflow.RegisterOptions{Name: "eagerly"})
	started, finish := make(chan bool, 1), make(chan struct{})
	register(w, func(ctx context.Context, in charge) (receipt, error) {
		started <- sdkactivity.GetInfo(ctx).RetryPolicy == nil
		<-finish
		return receiptOf(in), nil
	})
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	start := func(order string, retry *temporal.RetryPolicy) client.WorkflowRun {
		run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: "eager"}, "eagerly", charge{Order: order}, retry)
		require.NoError(t, err)
		return run
	}
	once := &temporal.RetryPolicy{MaximumAttempts: 1}
	owner := start("order-1", once)
	require.True(t, <-started, "it is eager")
	require.Len(t, notes.notice(observe.OneAttempt), 1)

	// Its only attempt waits for the owner.
	waiter := start("order-1", once)
	require.Eventually(t, func() bool { return len(notes.notice(observe.OneAttempt)) == 2 }, soon, poll)
	close(finish)
	for _, run := range []client.WorkflowRun{owner, waiter} {
		var r receipt
		require.NoError(t, run.Get(ctx, &r))
		require.Equal(t, "receipt for order-1", r.ID)
	}

	seldom := start("order-2", &temporal.RetryPolicy{InitialInterval: time.Hour, MaximumInterval: 51 * time.Hour})
	require.True(t, <-started, "it is eager")
	require.NoError(t, seldom.Get(ctx, nil))
	require.Greater(t, time.Duration(s.ttl.Load()), 52*time.Hour, "the next attempt finds the record")
}
