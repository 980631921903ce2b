package interceptor

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

func TestDefeats_NameWhatKeepsAPolicyFromBeingCarriedOut(t *testing.T) {
	t.Parallel()
	reconcile := once.Reconcile(findNothing)
	attempts := func(n int32) *temporal.RetryPolicy { return &temporal.RetryPolicy{MaximumAttempts: n} }
	for name, c := range map[string]struct {
		policy  once.Policy
		info    sdkactivity.Info
		defeats []string // what the error names; none if the policy can be carried out
	}{
		"Hold, unlimited":                        {once.Policy{InDoubt: once.Hold}, sdkactivity.Info{RetryPolicy: attempts(0)}, nil},
		"Hold, five attempts":                    {once.Policy{InDoubt: once.Hold}, sdkactivity.Info{RetryPolicy: attempts(5)}, []string{"MaximumAttempts 5: InDoubt Hold holds for 2m0s only"}},
		"Hold, attempts for a day":               {once.Policy{InDoubt: once.Hold}, sdkactivity.Info{RetryPolicy: attempts(2881)}, nil},
		"Hold, attempts past counting":           {once.Policy{InDoubt: once.Hold}, sdkactivity.Info{RetryPolicy: attempts(1e9)}, nil},
		"Rerun, attempts past counting":          {once.Policy{InDoubt: once.Rerun}, sdkactivity.Info{RetryPolicy: attempts(1e9), StartToCloseTimeout: time.Minute}, nil},
		"Hold, one attempt":                      {once.Policy{InDoubt: once.Hold}, sdkactivity.Info{RetryPolicy: attempts(1)}, nil}, // OneAttempt
		"Hold, five attempts, local":             {once.Policy{InDoubt: once.Hold}, sdkactivity.Info{RetryPolicy: attempts(5), IsLocalActivity: true}, []string{"MaximumAttempts 5"}},
		"Hold, over at once":                     {once.Policy{InDoubt: once.Hold}, sdkactivity.Info{RetryPolicy: attempts(0), ScheduleToCloseTimeout: 50 * time.Second}, []string{"ScheduleToCloseTimeout 50s: InDoubt Hold cannot hold"}},
		"Hold, until ScheduleToClose":            {once.Policy{InDoubt: once.Hold}, sdkactivity.Info{RetryPolicy: attempts(0), ScheduleToCloseTimeout: time.Hour}, nil},
		"HoldFor, long enough":                   {once.Policy{InDoubt: once.HoldFor(time.Minute)}, sdkactivity.Info{RetryPolicy: attempts(3)}, nil},
		"HoldFor, too few attempts":              {once.Policy{InDoubt: once.HoldFor(time.Hour)}, sdkactivity.Info{RetryPolicy: attempts(3)}, []string{"MaximumAttempts 3: InDoubt HoldFor holds for 1m0s only"}},
		"HoldFor, longer than ScheduleToClose":   {once.Policy{InDoubt: once.HoldFor(2 * time.Hour)}, sdkactivity.Info{RetryPolicy: attempts(0), ScheduleToCloseTimeout: time.Hour}, []string{"ScheduleToCloseTimeout 1h0m0s: InDoubt HoldFor cannot hold"}},
		"Fail needs no time":                     {once.Policy{InDoubt: once.Fail}, sdkactivity.Info{RetryPolicy: attempts(2), ScheduleToCloseTimeout: time.Second}, nil},
		"Reconcile, ScheduleToClose too short":   {once.Policy{InDoubt: reconcile}, sdkactivity.Info{RetryPolicy: attempts(0), ScheduleToCloseTimeout: 30 * time.Second}, []string{"ScheduleToCloseTimeout 30s: InDoubt Reconcile is never asked"}},
		"Rerun, ScheduleToClose too short":       {once.Policy{InDoubt: once.Rerun}, sdkactivity.Info{RetryPolicy: attempts(0), ScheduleToCloseTimeout: 30 * time.Second}, []string{"InDoubt Rerun never runs again"}},
		"Reconcile, ScheduleToClose long enough": {once.Policy{InDoubt: reconcile}, sdkactivity.Info{RetryPolicy: attempts(0), ScheduleToCloseTimeout: 5 * time.Minute}, nil},
		"Reconcile, attempts over too soon":      {once.Policy{InDoubt: reconcile}, sdkactivity.Info{RetryPolicy: attempts(5), StartToCloseTimeout: 10 * time.Second}, []string{"MaximumAttempts 5, StartToCloseTimeout 10s: after a worker is killed, InDoubt Reconcile is never asked"}},
		"Resume, heartbeats tell too soon":       {once.Policy{InDoubt: once.Resume}, sdkactivity.Info{RetryPolicy: attempts(3), StartToCloseTimeout: time.Minute, HeartbeatTimeout: 5 * time.Second}, []string{"InDoubt Resume never runs again"}},
		"Reconcile, two long attempts":           {once.Policy{InDoubt: reconcile}, sdkactivity.Info{RetryPolicy: attempts(2), StartToCloseTimeout: time.Minute}, nil},
		"Reconcile, enough attempts":             {once.Policy{InDoubt: reconcile}, sdkactivity.Info{RetryPolicy: attempts(8), StartToCloseTimeout: 10 * time.Second}, nil},
		"the doubt is final":                     {once.Policy{InDoubt: reconcile}, sdkactivity.Info{RetryPolicy: &temporal.RetryPolicy{NonRetryableErrorTypes: []string{string(once.InDoubt)}}}, []string{"NonRetryableErrorTypes lists atmostonce.InDoubt"}},
		"the doubt is final, as Fail says":       {once.Policy{InDoubt: once.Fail}, sdkactivity.Info{RetryPolicy: &temporal.RetryPolicy{NonRetryableErrorTypes: []string{string(once.InDoubt)}}}, nil},
		"in flight is final":                     {once.Policy{InDoubt: once.Fail}, sdkactivity.Info{RetryPolicy: &temporal.RetryPolicy{NonRetryableErrorTypes: []string{string(once.InFlight)}}}, []string{"NonRetryableErrorTypes lists atmostonce.InFlight"}},
		"Wait without time":                      {once.Policy{InDoubt: once.Fail, OnDuplicate: once.Wait}, sdkactivity.Info{RetryPolicy: attempts(0), StartToCloseTimeout: time.Second}, []string{"StartToCloseTimeout 1s: OnDuplicate Wait has no time to wait"}},
		"Wait with time":                         {once.Policy{InDoubt: once.Fail, OnDuplicate: once.Wait}, sdkactivity.Info{RetryPolicy: attempts(0), StartToCloseTimeout: 10 * time.Second}, nil},
		"several": {once.Policy{InDoubt: once.Hold, OnDuplicate: once.Wait}, sdkactivity.Info{RetryPolicy: attempts(2), StartToCloseTimeout: time.Second},
			[]string{"InDoubt Hold holds for 30s only", "OnDuplicate Wait has no time"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			call := calledWith(c.info, callHeader{})
			call.policy = c.policy
			err := call.defeats()
			if c.defeats == nil {
				require.NoError(t, err)
			}
			for _, what := range c.defeats {
				require.ErrorContains(t, err, what)
			}
		})
	}
}

func TestDefeats_AreJudgedByWhatTheWorkflowSaid(t *testing.T) {
	t.Parallel()
	eager := calledWith(sdkactivity.Info{}, callHeader{Occurrence: 1, Retry: newRetryHeader(&temporal.RetryPolicy{MaximumAttempts: 5})})
	eager.policy.InDoubt = once.Hold
	require.ErrorContains(t, eager.defeats(), "MaximumAttempts 5")

	test := calledWith(sdkactivity.Info{ActivityRunID: "run", ActivityID: "1", ScheduleToCloseTimeout: time.Second}, callHeader{})
	test.info.TaskToken = []byte("run#1")
	test.policy.InDoubt = once.Hold
	require.NoError(t, test.defeats(), "the test environment's own timeout")
}

// The store that sees its owner die leaves only the settle delay to pass.
func TestDefeats_AStoreThatSeesDeathHasNoLeaseToWaitFor(t *testing.T) {
	t.Parallel()
	c := calledWith(sdkactivity.Info{RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 3}, StartToCloseTimeout: 10 * time.Second}, callHeader{})
	c.policy.InDoubt = once.Rerun
	require.Error(t, c.defeats())
	c.guard.store.Store = watching{sees: false}
	require.Error(t, c.defeats())
	c.guard.store.Store = watching{sees: true}
	require.NoError(t, c.defeats())
}

// watching is a store that says whether it sees the death of an owner.
type watching struct {
	store.Store
	sees bool
}

func (w watching) SeesDeath() bool { return w.sees }

func BenchmarkDefeats(b *testing.B) {
	c := calledWith(sdkactivity.Info{RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 5000}, StartToCloseTimeout: time.Minute}, callHeader{})
	c.policy = once.Policy{InDoubt: once.Hold, OnDuplicate: once.Wait}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.defeats(); err != nil {
			b.Fatal(errors.Unwrap(err))
		}
	}
}
