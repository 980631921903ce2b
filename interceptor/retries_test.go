package interceptor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// The retry policies of calls as they come to the worker.
var (
	byWorkflow = callHeader{Occurrence: 1, Retry: newRetryHeader(&temporal.RetryPolicy{
		MaximumAttempts: 1, MaximumInterval: 51 * time.Hour, NonRetryableErrorTypes: []string{"Declined"},
	})}
	byDefault = callHeader{Occurrence: 1}
	byServer  = &temporal.RetryPolicy{MaximumAttempts: 3, MaximumInterval: 10 * time.Hour}
)

func calledWith(info sdkactivity.Info, h callHeader) *call {
	info.TaskToken = []byte("token")
	info.Attempt = max(info.Attempt, 1)
	options, _ := Options{}.withDefaults()
	return &call{guard: &Guard{options: options}, policy: once.Policy{TTL: time.Minute}, info: info, header: h}
}

func TestRetries_AreThoseOfTheServerElseOfTheWorkflow(t *testing.T) {
	t.Parallel()
	const slack = time.Minute + maxRetry + 30*time.Second + 30*time.Second + time.Hour // Lease, its longest delay, HoldRetry, SettleDelay
	local := sdkactivity.Info{IsLocalActivity: true}
	for name, c := range map[string]struct {
		info         sdkactivity.Info
		header       callHeader
		last, unsure bool
		interval     time.Duration // at least so much is kept besides the slack
	}{
		"of the server":                          {sdkactivity.Info{RetryPolicy: byServer}, byWorkflow, false, false, 10 * time.Hour},
		"of the server, last":                    {sdkactivity.Info{RetryPolicy: byServer, Attempt: 3}, byWorkflow, true, false, 10 * time.Hour},
		"eager":                                  {sdkactivity.Info{}, byWorkflow, true, false, 51 * time.Hour},
		"eager, the workflow says nothing":       {sdkactivity.Info{}, byDefault, false, false, 100 * time.Second},
		"nobody knows":                           {sdkactivity.Info{}, callHeader{}, false, true, 30*24*time.Hour - slack + time.Minute},
		"of a local activity in a test":          {local, callHeader{}, false, false, 30*24*time.Hour - slack + time.Minute},
		"of a local activity, which begins anew": {sdkactivity.Info{IsLocalActivity: true, ScheduleToCloseTimeout: time.Second, RetryPolicy: byServer}, callHeader{}, false, false, 10 * time.Hour},
		"within ScheduleToClose, as it was":      {sdkactivity.Info{ScheduleToCloseTimeout: time.Hour, RetryPolicy: byServer}, callHeader{}, false, false, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.info.ScheduledTime = time.Now()
			call := calledWith(c.info, c.header)
			require.Equal(t, c.last, call.lastAttempt())
			require.Equal(t, c.unsure, call.unsure())
			switch c.interval {
			case -1:
				require.InDelta(t, time.Hour+time.Minute, call.retention(), float64(time.Minute))
			default:
				require.Equal(t, slack+c.interval, call.retention())
			}
		})
	}
}

// A test environment keeps the policy to itself, and has no time to wait.
func TestRetries_AreNotWaitedForInATestEnvironment(t *testing.T) {
	t.Parallel()
	c := calledWith(sdkactivity.Info{ActivityID: "1"}, byWorkflow)
	c.info.WorkflowExecution.RunID = "run"
	c.info.TaskToken = []byte("run#1")
	require.False(t, c.lastAttempt())
	c.header = callHeader{}
	require.False(t, c.unsure())
}

func TestRetryHeader_SaysWhatTheServerWouldDo(t *testing.T) {
	t.Parallel()
	many := make([]string, maxListedTypes+1)
	for name, c := range map[string]struct {
		given *temporal.RetryPolicy
		want  temporal.RetryPolicy
	}{
		"none":          {nil, temporal.RetryPolicy{MaximumInterval: 100 * time.Second}},
		"empty":         {&temporal.RetryPolicy{}, temporal.RetryPolicy{MaximumInterval: 100 * time.Second}},
		"from interval": {&temporal.RetryPolicy{InitialInterval: time.Minute}, temporal.RetryPolicy{MaximumInterval: 100 * time.Minute}},
		"given": {&temporal.RetryPolicy{InitialInterval: time.Minute, MaximumInterval: time.Hour, MaximumAttempts: 4, NonRetryableErrorTypes: many[:2]},
			temporal.RetryPolicy{MaximumInterval: time.Hour, MaximumAttempts: 4, NonRetryableErrorTypes: many[:2]}},
		"many types": {&temporal.RetryPolicy{MaximumInterval: time.Hour, NonRetryableErrorTypes: many}, temporal.RetryPolicy{MaximumInterval: time.Hour}},
	} {
		require.Equal(t, &c.want, callHeader{Retry: newRetryHeader(c.given)}.policy(), name)
	}
}

func TestUntouched_RestsOnTheStoreAndNotOnTheAttempt(t *testing.T) {
	t.Parallel()
	for _, attempt := range []int32{1, 2} {
		c := calledWith(sdkactivity.Info{Attempt: attempt, ScheduledTime: now}, callHeader{})
		for _, state := range []store.State{store.Absent, store.Tombstone, store.Running, store.InDoubt, store.Pending, store.Succeeded, store.Failed} {
			require.Equal(t, state == store.Absent || state == store.Tombstone, c.untouched(store.Record{State: state}), state)
		}
		c.guard.options.DistrustBefore = now.Add(time.Second)
		require.False(t, c.untouched(store.Record{}), "it may have run before there was a guard")
	}
}

func unsure(s *situation) { s.unsure = true }

// Where nobody says whether an attempt follows, all is waited for that can be, and
// what is refused stays retryable.
func TestDecide_UnsureAttemptWaitsAndStaysRetryable(t *testing.T) {
	t.Parallel()
	fresh, old := inDoubtSince(10*time.Second), inDoubtSince(testDelay)
	running := runningFor(5 * time.Second)
	check(t,
		cell{"a live owner is waited for", meets(running, unsure), wait(time.Minute)},
		cell{"one that outlives the attempt is in flight", meets(running, unsure, timeLeft(0)), later(once.InFlight, 5*time.Second)},
		cell{"the settle delay is waited for", meets(fresh, unsure), wait(20 * time.Second)},
		cell{"a settle delay that does not fit stays retryable", meets(fresh, unsure, timeLeft(20*time.Second)), later(once.InDoubt, 20*time.Second)},
		cell{"a free key is waited for", meets(inState(store.Absent), unsure), wait(time.Minute)},
		cell{"what was in doubt long enough is taken over", meets(old, unsure, under(once.Rerun)), decision{do: takeOver}},
		cell{"also while the worker stops", meets(old, unsure, stopping, under(once.Rerun)), decision{do: takeOver}},
		cell{"it holds", meets(old, unsure), later(once.InDoubt, testHold)},
		cell{"without time for another attempt it is known to be the last", meets(fresh, unsure, scheduleLeft(0), timeLeft(0)), never(once.InDoubt)},
	)
}

// What a stop leaves no time for is refused, except to a local activity, to which
// each refusal is an attempt that failed.
func TestSituation_EndsWithTheWorkersStop(t *testing.T) {
	t.Parallel()
	for local, most := range map[bool]time.Duration{false: time.Second, true: time.Minute} {
		c := calledWith(sdkactivity.Info{IsLocalActivity: local}, byDefault)
		c.life, c.deadline, c.span = newLife(), time.Now().Add(time.Minute), time.Minute
		require.Greater(t, c.situation(store.Record{}, "").timeLeft, 30*time.Second)
		c.life.beginStop(time.Now().Add(time.Second))
		s := c.situation(store.Record{}, "")
		require.LessOrEqual(t, s.timeLeft, most)
		require.Equal(t, local, s.timeLeft > 30*time.Second)
		require.True(t, s.stopping)
		require.False(t, s.late, "the attempt itself has time")
	}
}
