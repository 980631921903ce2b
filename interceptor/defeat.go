package interceptor

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// manyAttempts are as good as unlimited ones, and can be counted in time.
const manyAttempts = 1e8

// holdEnough is how long Hold must be able to hold: people who decide need time.
const holdEnough = 24 * time.Hour

// defeats returns what keeps the call's policy from being carried out, in the way
// in which the workflow makes the call; nil if there is nothing. That there is one
// attempt only is not among it: OneAttempt says so.
func (c *call) defeats() error {
	if c.inTest() && !c.header.found() {
		return nil // the test environment's own timeouts
	}
	return errors.Join(c.defeatsHold(), c.defeatsTakeover(), c.defeatsRetry(), c.defeatsWait())
}

// attempts returns MaximumAttempts; 0 if there is no limit that is known of.
func (c *call) attempts() time.Duration {
	if p := c.retries(); p != nil {
		return time.Duration(p.MaximumAttempts)
	}
	return 0
}

// defeatsHold: the call ends before anybody decides.
func (c *call) defeatsHold() error {
	p := c.policy.InDoubt
	want, limited := p.HoldTime()
	switch {
	case p == once.Hold:
		want = holdEnough
	case !limited:
		return nil
	}
	if n := c.attempts(); n > 1 && c.guard.options.HoldRetry < want/(n-1) { // a product may be too large
		return fmt.Errorf("MaximumAttempts %d: InDoubt %v holds for %v only, (MaximumAttempts-1) × HoldRetry; leave MaximumAttempts unlimited, or take Fail or Reconcile",
			n, p, (n-1)*c.guard.options.HoldRetry)
	}
	if p == once.Hold { // until when is said aloud; it must not be over at once
		want = c.guard.options.SettleDelay + c.guard.options.HoldRetry
	}
	if t := c.info.ScheduleToCloseTimeout; t > 0 && t < want && !c.info.IsLocalActivity {
		return fmt.Errorf("ScheduleToCloseTimeout %v: InDoubt %v cannot hold for longer; raise it, or take Fail or Reconcile", t, p)
	}
	return nil
}

// defeatsTakeover: the call ends before the settle delay does, after which alone
// it may ask or run again.
func (c *call) defeatsTakeover() error {
	p, o := c.policy.InDoubt, c.guard.options
	if !p.TakesOver() {
		return nil
	}
	never := "never runs again"
	if p.Reconciles() {
		never = "is never asked"
	}
	if t := c.info.ScheduleToCloseTimeout; t > 0 && t <= o.SettleDelay+2*granule {
		return fmt.Errorf("ScheduleToCloseTimeout %v: InDoubt %v %s, for the settle delay of %v does not fit; raise it by far, or lower SettleDelay", t, p, never, o.SettleDelay)
	}
	n, lease, span := min(c.attempts(), manyAttempts), o.Lease, c.info.StartToCloseTimeout
	if n < 2 || span <= 0 || c.info.IsLocalActivity {
		return nil
	}
	if w, ok := c.guard.store.Store.(store.OwnerWatcher); ok && w.SeesDeath() {
		lease = 0
	}
	// When its worker is killed, the next attempt comes at the attempt's end, and
	// then one every maxRetry until the lease is over. One lets the settle delay
	// pass and another decides, unless the last one waits for all of it in its slot.
	noticed := span
	if h := c.info.HeartbeatTimeout; h > 0 {
		noticed = min(h, span)
	}
	if n > 2 && noticed+(n-3)*maxRetry >= lease || noticed+(n-2)*maxRetry+span-margin(span) > lease+o.SettleDelay {
		return nil
	}
	return fmt.Errorf("MaximumAttempts %d, StartToCloseTimeout %v: after a worker is killed, InDoubt %v %s, for all attempts are over before the lease of %v and the settle delay of %v; raise one of the two, or lower Lease and SettleDelay",
		n, span, p, never, lease, o.SettleDelay)
}

// defeatsRetry: what the guard answers so that Temporal comes back is final.
func (c *call) defeatsRetry() error {
	p := c.retries()
	if p == nil {
		return nil
	}
	var errs []error
	if slices.Contains(p.NonRetryableErrorTypes, string(once.InDoubt)) && c.policy.InDoubt != once.Fail {
		errs = append(errs, fmt.Errorf("NonRetryableErrorTypes lists %s: the call ends with the doubt, before InDoubt %v applies; take it out, or take Fail", once.InDoubt, c.policy.InDoubt))
	}
	if slices.Contains(p.NonRetryableErrorTypes, string(once.InFlight)) {
		errs = append(errs, fmt.Errorf("NonRetryableErrorTypes lists %s: a call ends while another one runs, or its own earlier attempt; take it out, or take OnDuplicate Reject", once.InFlight))
	}
	return errors.Join(errs...)
}

// defeatsWait: an attempt is over before it has waited.
func (c *call) defeatsWait() error {
	span := c.info.StartToCloseTimeout
	if c.policy.OnDuplicate != once.Wait || span <= 0 || span-margin(span) >= minRetry {
		return nil
	}
	return fmt.Errorf("StartToCloseTimeout %v: OnDuplicate Wait has no time to wait, and answers as Return; raise it", span)
}
