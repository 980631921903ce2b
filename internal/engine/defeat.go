package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/atmostonce/atmostonce/once"
)

// manyAttempts are as good as unlimited ones, and can be counted in time.
const manyAttempts = 1e8

// holdEnough is how long Hold must be able to hold: people who decide need time.
const holdEnough = 24 * time.Hour

// defeats returns what keeps the call's policy from being carried out, in the way
// in which the workflow makes the call; nil if there is nothing. A single attempt
// is not among it: OneAttempt reports that.
func (r Request) defeats(o Options, seesDeath bool) error {
	if r.Test && !r.hasHeader() {
		return nil // the test environment's own timeouts
	}
	return errors.Join(r.defeatsHold(o), r.defeatsTakeover(o, seesDeath), r.defeatsRetry(), r.defeatsWait())
}

// defeatsHold: the call ends before anybody decides.
func (r Request) defeatsHold(o Options) error {
	p := r.Policy.InDoubt
	want, limited := p.HoldTime()
	switch {
	case p == once.Hold:
		want = holdEnough
	case !limited:
		return nil
	}
	if n := r.most(); n > 1 && o.HoldRetry < want/(n-1) { // a product may be too large
		return fmt.Errorf("MaximumAttempts %d: InDoubt %v holds for %v only, (MaximumAttempts-1) × HoldRetry; leave MaximumAttempts unlimited, or take Fail or Reconcile",
			n, p, (n-1)*o.HoldRetry)
	}
	if p == once.Hold { // it names no end; it must not be over at once
		want = o.SettleDelay + o.HoldRetry
	}
	if t := r.ScheduleToClose; t > 0 && t < want && !r.Holder.Local {
		return fmt.Errorf("ScheduleToCloseTimeout %v: InDoubt %v cannot hold for longer; raise it, or take Fail or Reconcile", t, p)
	}
	return nil
}

// defeatsTakeover: the call ends before the settle delay does, after which alone
// it may ask or run again.
func (r Request) defeatsTakeover(o Options, seesDeath bool) error {
	p := r.Policy.InDoubt
	if !p.TakesOver() {
		return nil
	}
	never, settle := "never runs again", o.SettleDelay
	switch {
	case p.Reconciles():
		never = "is never asked"
	case p.Ledger() != nil:
		never, settle = "is never asked", 0
	}
	if t := r.ScheduleToClose; t > 0 && t <= settle+2*granule {
		return fmt.Errorf("ScheduleToCloseTimeout %v: InDoubt %v %s, for the settle delay of %v does not fit; raise it by far, or lower SettleDelay", t, p, never, settle)
	}
	n, lease, span := min(r.most(), manyAttempts), o.Lease, r.StartToClose
	if n < 2 || span <= 0 || r.Holder.Local {
		return nil
	}
	if seesDeath {
		lease = 0
	}
	// When its worker is killed, the next attempt comes at the attempt's end, and
	// then one every maxRetry until the lease is over. One lets the settle delay
	// pass and another decides, unless the last one waits for all of it in its slot.
	noticed := span
	if h := r.Heartbeat; h > 0 {
		noticed = min(h, span)
	}
	if n > 2 && noticed+(n-3)*maxRetry >= lease || noticed+(n-2)*maxRetry+span-margin(span) > lease+settle {
		return nil
	}
	return fmt.Errorf("MaximumAttempts %d, StartToCloseTimeout %v: after a worker is killed, InDoubt %v %s, for all attempts are over before the lease of %v and the settle delay of %v; raise one of the two, or lower Lease and SettleDelay",
		n, span, p, never, lease, settle)
}

// defeatsRetry: what the guard answers so that the caller comes back is final.
func (r Request) defeatsRetry() error {
	p := r.Retries
	if p == nil {
		return nil
	}
	var errs []error
	if slices.Contains(p.NonRetryable, string(once.InDoubt)) && r.Policy.InDoubt != once.Fail {
		errs = append(errs, fmt.Errorf("NonRetryableErrorTypes lists %s: the call ends with the doubt, before InDoubt %v applies; take it out, or take Fail", string(once.InDoubt), r.Policy.InDoubt))
	}
	if slices.Contains(p.NonRetryable, string(once.InFlight)) {
		errs = append(errs, fmt.Errorf("NonRetryableErrorTypes lists %s: a call ends while another one runs, or its own earlier attempt; take it out, or take OnDuplicate Reject", string(once.InFlight)))
	}
	return errors.Join(errs...)
}

// defeatsWait: an attempt is over before it has waited.
func (r Request) defeatsWait() error {
	span := r.StartToClose
	if r.Policy.OnDuplicate != once.Wait || span <= 0 || span-margin(span) >= minRetry {
		return nil
	}
	return fmt.Errorf("StartToCloseTimeout %v: OnDuplicate Wait has no time to wait, and answers as Return; raise it", span)
}
