package e2e

import (
	"context"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
)

// explain logs what happened in a test that failed.
func (s *scene) explain() {
	s.t.Helper()
	s.t.Logf("events of the guard:\n%s", s.events)
	for _, run := range s.runs {
		events := s.client.GetWorkflowHistory(context.Background(), run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for events.HasNext() {
			event, err := events.Next()
			if err != nil {
				s.t.Log(err)
				break
			}
			s.t.Logf("%s: %v %v", run.GetID(), event.GetEventTime().AsTime().Format("05.000"), event.GetEventType())
		}
	}
}

func (s *scene) history(run client.WorkflowRun) (all []*historypb.HistoryEvent) {
	s.t.Helper()
	events := s.client.GetWorkflowHistory(s.t.Context(), run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		require.NoError(s.t, err)
		all = append(all, event)
	}
	return all
}

// event returns the first event of that type.
func (s *scene) event(run client.WorkflowRun, what enumspb.EventType) *historypb.HistoryEvent {
	s.t.Helper()
	for _, event := range s.history(run) {
		if event.GetEventType() == what {
			return event
		}
	}
	require.Fail(s.t, "not in the history", what.String())
	return nil
}

func (s *scene) eventTime(run client.WorkflowRun, what enumspb.EventType) time.Time {
	s.t.Helper()
	return s.event(run, what).GetEventTime().AsTime()
}

// attempts returns how many attempts the server counted of the first activity
// that ended.
func (s *scene) attempts(run client.WorkflowRun) int32 {
	s.t.Helper()
	return s.event(run, enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED).GetActivityTaskStartedEventAttributes().GetAttempt()
}

// results returns what the run's activities returned, as it is in the history.
func (s *scene) results(run client.WorkflowRun) (all []*commonpb.Payloads) {
	s.t.Helper()
	for _, event := range s.history(run) {
		if completed := event.GetActivityTaskCompletedEventAttributes(); completed != nil {
			all = append(all, completed.GetResult())
		}
	}
	return all
}

// failures returns how the run's activities failed, as it is in the history.
func (s *scene) failures(run client.WorkflowRun) (all []*failurepb.Failure) {
	s.t.Helper()
	for _, event := range s.history(run) {
		if failed := event.GetActivityTaskFailedEventAttributes(); failed != nil {
			all = append(all, failed.GetFailure())
		}
	}
	return all
}
