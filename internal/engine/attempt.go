package engine

import (
	"time"

	"github.com/atmostonce/atmostonce/once"
)

// Attempt is what is known of one attempt besides its identity: how long it has,
// whether others follow, and when it has to stop. The zero value is over; nothing
// else is known of it.
type Attempt struct {
	Deadline time.Time     // when its caller gives it up
	Answer   time.Time     // when the guard answers at the latest, before that
	Span     time.Duration // from its beginning to the deadline of its context

	ScheduleToClose time.Duration // of the call, from Holder.Scheduled on; 0: no limit
	StartToClose    time.Duration // of each attempt; 0: no limit
	Heartbeat       time.Duration // how often its caller wants to hear of it at least; 0: never

	Retries *Retries // nil: nothing is known
	Last    bool     // no attempt follows this one
	Unsure  bool     // nobody says whether one does
	Alone   bool     // nobody tries again by himself
	Test    bool     // it is made up by a test environment: nothing is known of the timeouts

	Stop <-chan struct{} // closed when it has to stop; besides Life
}

// Retries is a retry policy, as far as it matters here.
type Retries struct {
	MaximumAttempts int32 // 0: no limit
	MaximumInterval time.Duration
	NonRetryable    []string // types of errors
}

const (
	// minMargin and maxMargin bound how long before its deadline an attempt
	// answers.
	minMargin = 500 * time.Millisecond
	maxMargin = 5 * time.Second
	// retentionSlack is added to how long a record must outlive its claim: for
	// queueing, which nothing bounds.
	retentionSlack = time.Hour
	// unsureRetention is how long a record is kept at least where nobody says how
	// long it may be until the next attempt.
	unsureRetention = 30 * 24 * time.Hour
)

func margin(span time.Duration) time.Duration {
	return min(maxMargin, max(span/10, min(minMargin, span/4)))
}

// Until returns a with the deadline of its context, less the margin that an answer
// needs, and with what says that it has to stop earlier.
func (a Attempt) Until(deadline time.Time, stop <-chan struct{}) Attempt {
	a.Span = time.Until(deadline)
	a.Answer = deadline.Add(-margin(a.Span))
	a.Stop = stop
	return a
}

// left is how long the attempt may still run.
func (a Attempt) left() time.Duration {
	return max(time.Until(a.Deadline), time.Millisecond)
}

// span is how long the attempt has in all.
func (a Attempt) span() time.Duration {
	if a.Alone { // it has as long as its caller waits
		return time.Until(a.Answer)
	}
	return a.Span
}

// most is how many attempts there are; 0 if there is no limit that is known of.
func (a Attempt) most() time.Duration {
	if a.Retries == nil {
		return 0
	}
	return time.Duration(a.Retries.MaximumAttempts)
}

// scheduleLeft is the time until no further attempt is made of a call that was
// scheduled at that time; negative if there is no such time.
func (a Attempt) scheduleLeft(scheduled time.Time) time.Duration {
	if a.ScheduleToClose <= 0 {
		return -1
	}
	return max(0, time.Until(scheduled.Add(a.ScheduleToClose)))
}

// late reports whether too little of the attempt is left to start a body in it.
func (a Attempt) late(s situation) bool {
	return s.timeLeft < a.Span/2 && !s.mayBeLast(minRetry)
}

// ticks returns a channel that says when to send a heartbeat again: at least twice in
// each Heartbeat; nil where there is none. stop releases it.
func (a Attempt) ticks() (c <-chan time.Time, stop func()) {
	if a.Heartbeat <= 0 {
		return nil, func() {}
	}
	t := time.NewTicker(max(a.Heartbeat/2-a.Heartbeat/20, time.Millisecond))
	return t.C, t.Stop
}

// retention is how long the record of the request must be remembered: as the policy
// says, and for as long as a retry of the call can still come.
func (r *Request) retention(o Options) time.Duration {
	if r.Policy.TTL == once.Forever {
		return once.Forever
	}
	if r.Alone {
		return max(r.Policy.TTL, o.Lease)
	}
	floor := r.scheduleLeft(r.Holder.Scheduled)
	if floor < 0 || r.Holder.Local { // which begins anew, with all its time, when its worker is gone
		floor = r.StartToClose + maxRetry + o.HoldRetry + o.SettleDelay + retentionSlack
		if r.Retries != nil {
			floor += r.Retries.MaximumInterval
		} else {
			floor = max(floor, unsureRetention)
		}
	}
	return max(r.Policy.TTL, o.Lease+floor)
}
