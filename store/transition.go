package store

import (
	"slices"
	"time"
)

// Transition is what one call of a [Store] does to a record, for a store of one's own on
// anything that has compare-and-set: read the record with the store's clock, Apply, write
// what came of it if nobody has written since, and begin again if somebody has. That is
// package sqlstore.
//
// A Transition may be applied any number of times, and from any number of goroutines.
type Transition struct {
	key      string
	validate func() error
	turn     func(r *Record, now time.Time) (changed bool, err error)
}

// Acquiring is [Store].Acquire of a store that goes by its clock.
func Acquiring(b Bid) Transition {
	return Transition{b.Key, b.Validate, func(r *Record, now time.Time) (bool, error) {
		return r.acquire(b, now, !now.Before(r.LeaseEnd))
	}}
}

// Renewing is [Store].Renew.
func Renewing(b Bid) Transition {
	return Transition{b.Key, b.Validate, func(r *Record, now time.Time) (bool, error) { return r.renew(b, now) }}
}

// Settling is [Store].Settle. The data of o is copied at each Apply.
func Settling(b Bid, o Outcome) Transition {
	validate := func() error {
		if err := b.Validate(); err != nil {
			return err
		}
		return o.Validate()
	}
	return Transition{b.Key, validate, func(r *Record, now time.Time) (bool, error) {
		o := o
		o.Data = slices.Clone(o.Data)
		return r.settle(b, o, now)
	}}
}

// Releasing is [Store].Release.
func Releasing(b Bid) Transition {
	return Transition{b.Key, b.Validate, func(r *Record, now time.Time) (bool, error) { return r.release(b, now) }}
}

// TakingOver is [Store].Takeover.
func TakingOver(b Bid, from Record) Transition {
	return Transition{b.Key, b.Validate, func(r *Record, now time.Time) (bool, error) { return r.takeover(b, from, now) }}
}

// Resolving is [Store].Resolve.
func Resolving(key string, from Record, res Resolution) Transition {
	return Transition{key, res.Validate, func(r *Record, now time.Time) (bool, error) {
		res := res
		res.Outcome.Data = slices.Clone(res.Outcome.Data)
		return r.resolve(res, from, now)
	}}
}

// Loading is [Store].Load: it changes nothing, and forgets what has expired.
func Loading(key string) Transition {
	return Transition{key, func() error { return nil }, func(*Record, time.Time) (bool, error) { return false, nil }}
}

// Key returns the key that the call is about.
func (t Transition) Key() string { return t.key }

// Validate returns the ErrInvalid that the call is to be refused with, before anything is
// read.
func (t Transition) Validate() error { return t.validate() }

// Apply returns what comes of the record r, which the store read at the moment now of its
// own clock: the zero Record where there is none. The answer of the call is after and
// err; after is to be written first if changed is set. A record past its expiry is
// taken for none, so that what is written then takes its place.
//
// A change that leaves Record.Revision as it is has moved Expires only, unless r had
// expired. r is not changed, and after shares no memory with it.
func (t Transition) Apply(r Record, now time.Time) (after Record, changed bool, err error) {
	if r.State == Absent || r.expired(now) {
		r = Record{Key: t.key}
	}
	after = r.clone()
	changed, err = t.turn(&after, now)
	after.Now = now
	return after, changed, err
}
