package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// Options are what the doors' options have in common; they document them.
type Options struct {
	DistrustBefore time.Time
	KeySecret      Secret
	Lease          time.Duration
	SettleDelay    time.Duration
	HoldRetry      time.Duration
	MaxOutcome     int
	CountRecords   time.Duration
	Observers      []observe.Observer
}

// MaxOutcome is the default of Options.MaxOutcome.
const MaxOutcome = 2 << 20

// Complete returns o with its defaults, and all that is wrong with it.
func (o Options) Complete() (Options, error) {
	var errs []error
	duration := func(name string, d *time.Duration, least, standard time.Duration) {
		if *d == 0 {
			*d = standard
		}
		if *d < least && *d != standard {
			errs = append(errs, fmt.Errorf("%s is %v; the least is %v", name, *d, least))
		}
	}
	duration("Lease", &o.Lease, 30*time.Millisecond, 60*time.Second)
	duration("SettleDelay", &o.SettleDelay, time.Millisecond, 30*time.Second)
	duration("HoldRetry", &o.HoldRetry, time.Millisecond, 30*time.Second)
	duration("CountRecords", &o.CountRecords, time.Second, 0)
	if o.SettleDelay <= o.Lease/3 {
		errs = append(errs, fmt.Errorf("SettleDelay is %v; it must be greater than %v, a third of Lease, so that a slow owner can renew first", o.SettleDelay, o.Lease/3))
	}
	if n := len(o.KeySecret); n > 0 && n < minSecret {
		errs = append(errs, fmt.Errorf("KeySecret has %d bytes; the least is %d", n, minSecret))
	}
	o.KeySecret = slices.Clone(o.KeySecret)
	if o.MaxOutcome == 0 {
		o.MaxOutcome = MaxOutcome
	}
	if o.MaxOutcome < 0 || o.MaxOutcome > store.MaxData {
		errs = append(errs, fmt.Errorf("MaxOutcome is %d; the least is 1, and the most is %d, store.MaxData", o.MaxOutcome, store.MaxData))
	}
	return o, errors.Join(errs...)
}

// Complete returns p, completed by the defaults of a policy.
func Complete(p once.Policy) once.Policy {
	if p.Key.IsZero() && p.Scope == 0 {
		p.Scope = keys.PerWorkflow
	}
	return p.Or(once.Policy{
		TTL:         30 * 24 * time.Hour,
		OnDuplicate: once.Return,
		OnFailure:   once.Unlock,
		InDoubt:     once.Hold,
	})
}
