package interceptor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/atmostonce/atmostonce/internal/engine"
)

// The retry policies of calls as they come to the worker.
var (
	byWorkflow = callHeader{Occurrence: 1, Retry: newRetryHeader(&temporal.RetryPolicy{
		MaximumAttempts: 1, MaximumInterval: 51 * time.Hour, NonRetryableErrorTypes: []string{"Declined"},
	})}
	byDefault = callHeader{Occurrence: 1}
	byServer  = &temporal.RetryPolicy{MaximumAttempts: 3, MaximumInterval: 10 * time.Hour}
)

func called(info sdkactivity.Info, h callHeader) engine.Attempt {
	if len(info.TaskToken) == 0 {
		info.TaskToken = []byte("token")
	}
	info.Attempt = max(info.Attempt, 1)
	return attemptOf(info, h)
}

func TestRetries_AreThoseOfTheServerElseOfTheWorkflow(t *testing.T) {
	t.Parallel()
	local := sdkactivity.Info{IsLocalActivity: true}
	for name, c := range map[string]struct {
		info         sdkactivity.Info
		header       callHeader
		last, unsure bool
		interval     time.Duration // negative: nothing is known
	}{
		"of the server":                          {sdkactivity.Info{RetryPolicy: byServer}, byWorkflow, false, false, 10 * time.Hour},
		"of the server, last":                    {sdkactivity.Info{RetryPolicy: byServer, Attempt: 3}, byWorkflow, true, false, 10 * time.Hour},
		"eager":                                  {sdkactivity.Info{}, byWorkflow, true, false, 51 * time.Hour},
		"eager, the workflow says nothing":       {sdkactivity.Info{}, byDefault, false, false, 100 * time.Second},
		"nobody knows":                           {sdkactivity.Info{}, callHeader{}, false, true, -1},
		"of a local activity in a test":          {local, callHeader{}, false, false, -1},
		"of a local activity, which begins anew": {sdkactivity.Info{IsLocalActivity: true, ScheduleToCloseTimeout: time.Second, RetryPolicy: byServer}, callHeader{}, false, false, 10 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := called(c.info, c.header)
			require.Equal(t, c.last, a.Last)
			require.Equal(t, c.unsure, a.Unsure)
			if c.interval < 0 {
				require.Nil(t, a.Retries)
				return
			}
			require.Equal(t, c.interval, a.Retries.MaximumInterval)
		})
	}
}

// A test environment keeps the policy to itself, and has no time to wait.
func TestRetries_AreNotWaitedForInATestEnvironment(t *testing.T) {
	t.Parallel()
	info := sdkactivity.Info{ActivityID: "1", TaskToken: []byte("run#1")}
	info.WorkflowExecution.RunID = "run"
	require.False(t, called(info, byWorkflow).Last)
	require.False(t, called(info, callHeader{}).Unsure)
}

func TestRetryHeader_SaysWhatTheServerWouldDo(t *testing.T) {
	t.Parallel()
	many := make([]string, maxListedTypes+1)
	for name, c := range map[string]struct {
		given *temporal.RetryPolicy
		want  engine.Retries
	}{
		"none":          {nil, engine.Retries{MaximumInterval: 100 * time.Second}},
		"empty":         {&temporal.RetryPolicy{}, engine.Retries{MaximumInterval: 100 * time.Second}},
		"from interval": {&temporal.RetryPolicy{InitialInterval: time.Minute}, engine.Retries{MaximumInterval: 100 * time.Minute}},
		"given": {&temporal.RetryPolicy{InitialInterval: time.Minute, MaximumInterval: time.Hour, MaximumAttempts: 4, NonRetryableErrorTypes: many[:2]},
			engine.Retries{MaximumInterval: time.Hour, MaximumAttempts: 4, NonRetryable: many[:2]}},
		"many types": {&temporal.RetryPolicy{MaximumInterval: time.Hour, NonRetryableErrorTypes: many}, engine.Retries{MaximumInterval: time.Hour}},
	} {
		require.Equal(t, &c.want, callHeader{Retry: newRetryHeader(c.given)}.retries(), name)
	}
}
