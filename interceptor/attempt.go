package interceptor

import (
	"cmp"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// What the guard knows of an attempt besides its input: how long it has, whether
// others follow, and for how long its record must be remembered.

const (
	// minMargin and maxMargin bound how long before its deadline an attempt
	// answers.
	minMargin = 500 * time.Millisecond
	maxMargin = 5 * time.Second
	// retentionSlack is added to how long a record must outlive its claim: for
	// queueing, which nothing bounds.
	retentionSlack = time.Hour
	// unsureRetention is how long a record is kept at least where nobody says how
	// long Temporal may wait before it tries again.
	unsureRetention = 30 * 24 * time.Hour
)

func margin(span time.Duration) time.Duration {
	return min(maxMargin, max(span/10, min(minMargin, span/4)))
}

// attemptLeft is how long the attempt may still run.
func (c *call) attemptLeft() time.Duration {
	return max(time.Until(c.info.Deadline), time.Millisecond)
}

// retention is how long the record must be remembered: as the policy says, and
// never shorter than Temporal can still retry the call.
func (c *call) retention() time.Duration {
	if c.policy.TTL == once.Forever {
		return once.Forever
	}
	floor := c.scheduleLeft()
	if floor < 0 || c.info.IsLocalActivity { // which begins anew, with all its time, when its worker is gone
		floor = c.info.StartToCloseTimeout + maxRetry + c.guard.options.HoldRetry + c.guard.options.SettleDelay + retentionSlack
		if p := c.retries(); p != nil {
			floor += p.MaximumInterval
		} else {
			floor = max(floor, unsureRetention)
		}
	}
	return max(c.policy.TTL, c.guard.options.Lease+floor)
}

// scheduleLeft is the time until Temporal makes no further attempt; negative if
// there is no such time.
func (c *call) scheduleLeft() time.Duration {
	if c.info.ScheduleToCloseTimeout <= 0 {
		return -1
	}
	return max(0, time.Until(c.info.ScheduledTime.Add(c.info.ScheduleToCloseTimeout)))
}

// untouched reports whether r, as the store gave it, excludes an effect. The
// number of the attempt does not: a reset of the activity begins to count anew.
func (c *call) untouched(r store.Record) bool {
	return (r.State == store.Absent || r.State == store.Tombstone) && !c.older()
}

// older reports whether the call was scheduled before the guard was there: it may
// have run without leaving a record.
func (c *call) older() bool { return c.info.ScheduledTime.Before(c.guard.options.DistrustBefore) }

// retries returns what is known of the call's retry policy; nil if nothing is. An
// eager activity comes without, but its workflow's worker, which is this one, has
// put it into the header.
func (c *call) retries() *temporal.RetryPolicy {
	switch {
	case c.info.RetryPolicy != nil:
		return c.info.RetryPolicy
	case c.header.found():
		return c.header.policy()
	}
	return nil
}

// lastAttempt reports whether no attempt follows this one. The SDK's test
// environments, which keep the policy to themselves, have no time to wait: there
// each attempt is answered as one that others follow.
func (c *call) lastAttempt() bool {
	p := c.retries()
	return p != nil && p.MaximumAttempts > 0 && c.info.Attempt >= p.MaximumAttempts && (c.info.RetryPolicy != nil || !c.inTest())
}

// unsure reports whether this may or may not be the last attempt.
func (c *call) unsure() bool { return c.retries() == nil && !c.info.IsLocalActivity && !c.inTest() }

// inTest reports whether the call is not Temporal's but that of one of the SDK's
// test environments, which make up their task tokens.
func (c *call) inTest() bool {
	i := c.info
	return string(i.TaskToken) == cmp.Or(i.WorkflowExecution.RunID, i.ActivityRunID)+"#"+i.ActivityID
}

// stopping reports whether the worker stops.
func (c *call) stopping() bool {
	select {
	case <-c.life.stopping:
		return true
	case <-c.stop:
		return true
	default:
		return false
	}
}

// late reports whether too little of the attempt is left to start a body in it.
func (c *call) late(s situation) bool {
	return s.timeLeft < c.span/2 && !s.mayBeLast(minRetry)
}
