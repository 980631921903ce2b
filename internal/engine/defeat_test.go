package engine

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/once"
)

func TestDefeats_NameWhatKeepsAPolicyFromBeingCarriedOut(t *testing.T) {
	t.Parallel()
	reconcile := once.Reconcile(findNothing)
	attempts := func(n int32) *Retries { return &Retries{MaximumAttempts: n} }
	for name, c := range map[string]struct {
		policy  once.Policy
		attempt Attempt
		defeats []string // what the error names; none if the policy can be carried out
	}{
		"Hold, unlimited":                        {once.Policy{InDoubt: once.Hold}, Attempt{Retries: attempts(0)}, nil},
		"Hold, five attempts":                    {once.Policy{InDoubt: once.Hold}, Attempt{Retries: attempts(5)}, []string{"MaximumAttempts 5: InDoubt Hold holds for 2m0s only"}},
		"Hold, attempts for a day":               {once.Policy{InDoubt: once.Hold}, Attempt{Retries: attempts(2881)}, nil},
		"Hold, attempts past counting":           {once.Policy{InDoubt: once.Hold}, Attempt{Retries: attempts(1e9)}, nil},
		"Rerun, attempts past counting":          {once.Policy{InDoubt: once.Rerun}, Attempt{Retries: attempts(1e9), StartToClose: time.Minute}, nil},
		"Hold, one attempt":                      {once.Policy{InDoubt: once.Hold}, Attempt{Retries: attempts(1)}, nil}, // OneAttempt
		"Hold, five attempts, local":             {once.Policy{InDoubt: once.Hold}, Attempt{Retries: attempts(5)}, []string{"MaximumAttempts 5"}},
		"Hold, over at once":                     {once.Policy{InDoubt: once.Hold}, Attempt{Retries: attempts(0), ScheduleToClose: 50 * time.Second}, []string{"ScheduleToCloseTimeout 50s: InDoubt Hold cannot hold"}},
		"Hold, until ScheduleToClose":            {once.Policy{InDoubt: once.Hold}, Attempt{Retries: attempts(0), ScheduleToClose: time.Hour}, nil},
		"HoldFor, long enough":                   {once.Policy{InDoubt: once.HoldFor(time.Minute)}, Attempt{Retries: attempts(3)}, nil},
		"HoldFor, too few attempts":              {once.Policy{InDoubt: once.HoldFor(time.Hour)}, Attempt{Retries: attempts(3)}, []string{"MaximumAttempts 3: InDoubt HoldFor holds for 1m0s only"}},
		"HoldFor, longer than ScheduleToClose":   {once.Policy{InDoubt: once.HoldFor(2 * time.Hour)}, Attempt{Retries: attempts(0), ScheduleToClose: time.Hour}, []string{"ScheduleToCloseTimeout 1h0m0s: InDoubt HoldFor cannot hold"}},
		"Fail needs no time":                     {once.Policy{InDoubt: once.Fail}, Attempt{Retries: attempts(2), ScheduleToClose: time.Second}, nil},
		"Reconcile, ScheduleToClose too short":   {once.Policy{InDoubt: reconcile}, Attempt{Retries: attempts(0), ScheduleToClose: 30 * time.Second}, []string{"ScheduleToCloseTimeout 30s: InDoubt Reconcile is never asked"}},
		"Rerun, ScheduleToClose too short":       {once.Policy{InDoubt: once.Rerun}, Attempt{Retries: attempts(0), ScheduleToClose: 30 * time.Second}, []string{"InDoubt Rerun never runs again"}},
		"Reconcile, ScheduleToClose long enough": {once.Policy{InDoubt: reconcile}, Attempt{Retries: attempts(0), ScheduleToClose: 5 * time.Minute}, nil},
		"Reconcile, attempts over too soon":      {once.Policy{InDoubt: reconcile}, Attempt{Retries: attempts(5), StartToClose: 10 * time.Second}, []string{"MaximumAttempts 5, StartToCloseTimeout 10s: after a worker is killed, InDoubt Reconcile is never asked"}},
		"Resume, heartbeats tell too soon":       {once.Policy{InDoubt: once.Resume}, Attempt{Retries: attempts(3), StartToClose: time.Minute, Heartbeat: 5 * time.Second}, []string{"InDoubt Resume never runs again"}},
		"Reconcile, two long attempts":           {once.Policy{InDoubt: reconcile}, Attempt{Retries: attempts(2), StartToClose: time.Minute}, nil},
		"Reconcile, enough attempts":             {once.Policy{InDoubt: reconcile}, Attempt{Retries: attempts(8), StartToClose: 10 * time.Second}, nil},
		"the doubt is final":                     {once.Policy{InDoubt: reconcile}, Attempt{Retries: &Retries{NonRetryable: []string{string(once.InDoubt)}}}, []string{"NonRetryableErrorTypes lists atmostonce.InDoubt"}},
		"the doubt is final, as Fail says":       {once.Policy{InDoubt: once.Fail}, Attempt{Retries: &Retries{NonRetryable: []string{string(once.InDoubt)}}}, nil},
		"in flight is final":                     {once.Policy{InDoubt: once.Fail}, Attempt{Retries: &Retries{NonRetryable: []string{string(once.InFlight)}}}, []string{"NonRetryableErrorTypes lists atmostonce.InFlight"}},
		"Wait without time":                      {once.Policy{InDoubt: once.Fail, OnDuplicate: once.Wait}, Attempt{Retries: attempts(0), StartToClose: time.Second}, []string{"StartToCloseTimeout 1s: OnDuplicate Wait has no time to wait"}},
		"Wait with time":                         {once.Policy{InDoubt: once.Fail, OnDuplicate: once.Wait}, Attempt{Retries: attempts(0), StartToClose: 10 * time.Second}, nil},
		"several": {once.Policy{InDoubt: once.Hold, OnDuplicate: once.Wait}, Attempt{Retries: attempts(2), StartToClose: time.Second},
			[]string{"InDoubt Hold holds for 30s only", "OnDuplicate Wait has no time"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := requestWith(c.attempt)
			r.Policy = c.policy
			r.Holder.Local = strings.HasSuffix(name, ", local")
			err := r.defeats(complete(t), false)
			if c.defeats == nil {
				require.NoError(t, err)
			}
			for _, what := range c.defeats {
				require.ErrorContains(t, err, what)
			}
		})
	}
}

// Its timeouts are its own, unless a header says that a workflow made the call.
func TestDefeats_AreNotJudgedInATestEnvironment(t *testing.T) {
	t.Parallel()
	r := requestWith(Attempt{ScheduleToClose: time.Second, Retries: &Retries{}, Test: true})
	r.Policy.InDoubt = once.Hold
	require.Error(t, r.defeats(complete(t), false))
	r.Holder.Occurrence = 0
	require.NoError(t, r.defeats(complete(t), false))
}

// The store that sees its owner die leaves only the settle delay to pass.
func TestDefeats_AStoreThatSeesDeathHasNoLeaseToWaitFor(t *testing.T) {
	t.Parallel()
	r := requestWith(Attempt{Retries: &Retries{MaximumAttempts: 3}, StartToClose: 10 * time.Second})
	r.Policy.InDoubt = once.Rerun
	require.Error(t, r.defeats(complete(t), false))
	require.NoError(t, r.defeats(complete(t), true))
}

func BenchmarkDefeats(b *testing.B) {
	r := requestWith(Attempt{Retries: &Retries{MaximumAttempts: 5000}, StartToClose: time.Minute})
	r.Policy = once.Policy{InDoubt: once.Hold, OnDuplicate: once.Wait}
	o, _ := Options{}.Complete()
	b.ReportAllocs()
	for b.Loop() {
		if err := r.defeats(o, false); err != nil {
			b.Fatal(errors.Unwrap(err))
		}
	}
}
