package e2e

import (
	"crypto/rand"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/proto"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/observe"
)

// reset resets a run to before its first activity and returns the new run.
func (s *scene) reset(run client.WorkflowRun) client.WorkflowRun {
	s.t.Helper()
	done := s.event(run, enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
	response, err := s.client.WorkflowService().ResetWorkflowExecution(s.t.Context(), &workflowservice.ResetWorkflowExecutionRequest{
		Namespace:                 client.DefaultNamespace,
		WorkflowExecution:         &commonpb.WorkflowExecution{WorkflowId: run.GetID(), RunId: run.GetRunID()},
		Reason:                    "test",
		WorkflowTaskFinishEventId: done.GetEventId(),
		RequestId:                 rand.Text(),
	})
	require.NoError(s.t, err)
	require.NotEqual(s.t, run.GetRunID(), response.GetRunId())
	return s.client.GetWorkflow(s.t.Context(), run.GetID(), response.GetRunId())
}

func TestReset_IsServedFromTheStore(t *testing.T) {
	t.Parallel()
	s := newScene(t, encrypted(false))
	s.work(once.Policy{}, s.charge)
	run := s.start("reset", "one", call{})
	s.served(run)
	again := s.reset(run)
	s.served(again)
	s.count(1, charged)
	require.True(t, proto.Equal(s.results(run)[0], s.results(again)[0]))
}

func TestReuse_OfAWorkflowIDIsServedFromTheStore(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	s.work(once.Policy{}, s.charge)
	first := s.start("reused", "one", call{})
	s.served(first)
	second := s.start("reused", "one", call{})
	require.Equal(t, first.GetID(), second.GetID())
	require.NotEqual(t, first.GetRunID(), second.GetRunID())
	s.served(second)
	s.count(1, charged)
	require.Len(t, s.events.notice(observe.OtherRun), 1)
}

func TestPerNamespace_AnotherWorkflowIsServedFromTheStore(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	s.work(perOrder, s.charge)
	s.served(s.start("first", "one", call{}))
	s.served(s.start("second", "one", call{}))
	s.count(1, charged)

	v := s.verdict(s.start("third", "one", call{Input: charge{Order: "order-1", Cents: 99}}))
	require.Equal(t, once.Mismatch, v.Why.Reason)
	s.count(1, charged)

	s.verdict(s.start("fourth", "one", call{Input: charge{Order: "order-2", Cents: 99}}))
	s.count(2, charged)
}
