package cli

import (
	"context"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/store"
)

// retry has Temporal try the call of a decided record again at once, if that is wanted;
// else it says how.
func (t *tool) retry(ctx context.Context, before store.Record, wanted bool) (bool, error) {
	a, known, err := t.pendingOf(ctx, before, wanted)
	switch {
	case err != nil && wanted:
		return false, fmt.Errorf("it is decided, but the call is not tried again yet: %w", err)
	case !known && wanted:
		return false, fmt.Errorf("it is decided, but --retry-now is for calls of workflows")
	case !known:
		return false, nil
	case a == nil:
		t.printf("Nobody waits for it.\n")
		return false, nil
	case !wanted:
		if a.GetNextAttemptScheduleTime() != nil {
			t.printf("The call waits: %s. --retry-now would have it tried at once.\n", newWaiting(a))
		}
		return false, nil
	}
	h := before.Info.Holder
	c, err := t.temporal(ctx, true)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, temporalTime)
	defer cancel()
	_, err = c.WorkflowService().ResetActivity(ctx, &workflowservice.ResetActivityRequest{
		Namespace: h.Namespace, Execution: &commonpb.WorkflowExecution{WorkflowId: h.WorkflowID, RunId: h.RunID},
		Activity: &workflowservice.ResetActivityRequest_Id{Id: h.ActivityID}, Identity: t.host.identity, KeepPaused: true,
	})
	if err != nil {
		return false, fmt.Errorf("it is decided, but the call is not tried again before its time: %w", err)
	}
	t.printf("Temporal tries the call of %s again now.\n", ops.Text(h.WorkflowID, ops.Short))
	return true, nil
}
