package e2e

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nexus-rpc/sdk-go/nexus"
	"github.com/stretchr/testify/require"
	nexuspb "go.temporal.io/api/nexus/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
)

// A synchronous Nexus operation is no activity: a guarded function is what keeps it from
// taking effect again. Its handler is tried again by Temporal, and by other callers.
func TestNexus_ASyncHandlerTakesEffectOnce(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	guard, err := atmostonce.New(s.store, atmostonce.Options{Lease: lease, SettleDelay: settleDelay})
	require.NoError(t, err)
	pay := atmostonce.Func(guard, "pay", once.Policy{
		Key: keys.From(func(in charge) string { return in.Order }), OnDuplicate: once.Wait,
	}, s.charge)
	require.NoError(t, guard.Err())
	var tries atomic.Int32
	operation := nexus.NewSyncOperation("pay", func(ctx context.Context, in charge, _ nexus.StartOperationOptions) (receipt, error) {
		r, err := pay(ctx, in)
		if err == nil && tries.Add(1) == 1 {
			return receipt{}, nexus.NewHandlerErrorf(nexus.HandlerErrorTypeUnavailable, "the answer is lost")
		}
		return r, err
	})
	service := nexus.NewService("payments")
	require.NoError(t, service.Register(operation))

	endpoint := strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(s.name))
	_, err = s.client.OperatorService().CreateNexusEndpoint(t.Context(), &operatorservice.CreateNexusEndpointRequest{
		Spec: &nexuspb.EndpointSpec{Name: endpoint, Target: &nexuspb.EndpointTarget{
			Variant: &nexuspb.EndpointTarget_Worker_{Worker: &nexuspb.EndpointTarget_Worker{Namespace: client.DefaultNamespace, TaskQueue: s.name + "-nexus"}},
		}},
	})
	require.NoError(t, err)
	order := func(ctx workflow.Context, in charge) (r receipt, err error) {
		payments := workflow.NewNexusClient(endpoint, "payments")
		err = payments.ExecuteOperation(ctx, operation, in, workflow.NexusOperationOptions{ScheduleToCloseTimeout: time.Minute}).Get(ctx, &r)
		return r, err
	}
	w := worker.New(s.client, s.name+"-nexus", worker.Options{})
	w.RegisterNexusService(service)
	w.RegisterWorkflowWithOptions(order, workflow.RegisterOptions{Name: "order"})
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)

	for range 2 {
		run, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: s.name + "-nexus"}, "order", charge{Order: "7"})
		require.NoError(t, err)
		var got receipt
		require.NoError(t, run.Get(t.Context(), &got))
		require.Equal(t, receiptOf(charge{Order: "7"}), got)
	}
	require.Greater(t, tries.Load(), int32(2), "Temporal has tried the first one again")
	require.Len(t, s.ledger.lines(charged), 1)
	require.NoError(t, guard.Close(t.Context()))
}
