package order

import (
	"context"
	"crypto/rand"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
)

// Charging is where a run's history speaks of ChargeCard.
type Charging struct {
	Attempt int32 // the one that ended it

	task  int64 // the workflow task that scheduled it
	event int64 // its scheduling
}

// ChargingOf reads it from the history of a run.
func ChargingOf(ctx context.Context, c client.Client, run client.WorkflowRun) (found Charging, err error) {
	history := c.GetWorkflowHistory(ctx, run.GetID(), run.GetRunID(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		event, err := history.Next()
		if err != nil {
			return Charging{}, err
		}
		if a := event.GetActivityTaskScheduledEventAttributes(); a.GetActivityType().GetName() == "ChargeCard" {
			found = Charging{task: a.GetWorkflowTaskCompletedEventId(), event: event.GetEventId()}
		}
		if a := event.GetActivityTaskStartedEventAttributes(); a != nil && a.GetScheduledEventId() == found.event {
			found.Attempt = a.GetAttempt()
		}
	}
	if found.Attempt == 0 {
		return Charging{}, fmt.Errorf("the history of %s shows no charge", run.GetID())
	}
	return found, nil
}

// Reset resets a run to the workflow task that scheduled the charge.
func Reset(ctx context.Context, c client.Client, namespace string, run client.WorkflowRun) (client.WorkflowRun, error) {
	found, err := ChargingOf(ctx, c, run)
	if err != nil {
		return nil, err
	}
	answer, err := c.WorkflowService().ResetWorkflowExecution(ctx, &workflowservice.ResetWorkflowExecutionRequest{
		Namespace:                 namespace,
		WorkflowExecution:         &commonpb.WorkflowExecution{WorkflowId: run.GetID(), RunId: run.GetRunID()},
		Reason:                    "to see what becomes of the charge",
		WorkflowTaskFinishEventId: found.task,
		RequestId:                 rand.Text(),
	})
	if err != nil {
		return nil, err
	}
	return c.GetWorkflow(ctx, run.GetID(), answer.GetRunId()), nil
}
