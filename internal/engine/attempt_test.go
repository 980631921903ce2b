package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

func complete(t *testing.T) Options {
	t.Helper()
	o, err := Options{}.Complete()
	require.NoError(t, err)
	return o
}

// requestWith is a first attempt, of which that is known.
func requestWith(a Attempt) Request {
	r := Request{Attempt: a, Policy: once.Policy{TTL: time.Minute}, Life: NewLife()}
	r.Holder.Attempt, r.Holder.Occurrence = 1, 1
	return r
}

func TestRetention_OutlivesWhatCanBeRetried(t *testing.T) {
	t.Parallel()
	const slack = time.Minute + maxRetry + 30*time.Second + 30*time.Second + time.Hour // Lease, its longest delay, HoldRetry, SettleDelay
	every := func(d time.Duration) *Retries { return &Retries{MaximumInterval: d} }
	for name, c := range map[string]struct {
		attempt Attempt
		local   bool
		want    time.Duration // besides the slack
	}{
		"a retry policy":                   {Attempt{Retries: every(10 * time.Hour)}, false, 10 * time.Hour},
		"nothing":                          {Attempt{}, false, 30*24*time.Hour - slack + time.Minute},
		"a local activity":                 {Attempt{}, true, 30*24*time.Hour - slack + time.Minute},
		"a local activity, which is anew":  {Attempt{ScheduleToClose: time.Second, Retries: every(10 * time.Hour)}, true, 10 * time.Hour},
		"how long each of the attempts is": {Attempt{StartToClose: time.Hour, Retries: every(time.Hour)}, false, 2 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := requestWith(c.attempt)
			r.Holder.Local, r.Holder.Scheduled = c.local, time.Now()
			require.Equal(t, slack+c.want, r.retention(complete(t)))
		})
	}
	within := requestWith(Attempt{ScheduleToClose: time.Hour, Retries: every(10 * time.Hour)})
	within.Holder.Scheduled = time.Now()
	require.InDelta(t, time.Hour+time.Minute, within.retention(complete(t)), float64(time.Minute), "within ScheduleToClose")
	within.Policy.TTL = once.Forever
	require.Equal(t, once.Forever, within.retention(complete(t)))
}

func callOf(r Request, o Options) *call { return &call{Request: &r, engine: &Engine{options: o}} }

func TestUntouched_RestsOnTheStoreAndNotOnTheAttempt(t *testing.T) {
	t.Parallel()
	for _, attempt := range []int32{1, 2} {
		c := callOf(requestWith(Attempt{}), complete(t))
		c.Holder.Attempt, c.Holder.Scheduled = attempt, now
		for _, state := range []store.State{store.Absent, store.Tombstone, store.Running, store.InDoubt, store.Pending, store.Succeeded, store.Failed} {
			require.Equal(t, state == store.Absent || state == store.Tombstone, c.isUntouched(store.Record{State: state}), state)
		}
		c.engine.options.DistrustBefore = now.Add(time.Second)
		require.False(t, c.isUntouched(store.Record{}), "it may have run before there was a guard")
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
		c := callOf(requestWith(Attempt{Answer: time.Now().Add(time.Minute), Span: time.Minute}), complete(t))
		c.Holder.Local = local
		require.Greater(t, c.situation(store.Record{}).timeLeft, 30*time.Second)
		c.Life.BeginStop(time.Now().Add(time.Second))
		s := c.situation(store.Record{})
		require.LessOrEqual(t, s.timeLeft, most)
		require.Equal(t, local, s.timeLeft > 30*time.Second)
		require.True(t, s.stopping)
		require.False(t, s.late, "the attempt itself has time")
	}
}
