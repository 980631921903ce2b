// Package engine carries guarded calls from their claim to their answer. The doors
// through which calls come in, package interceptor for Temporal's activities, say
// what they are about and what their callers get.
//
// From the ground up: decide says what a call does with the record that it meets;
// identity, attempt and options are what it knows by itself; account reports; claim
// is what it asks of the store, and lease keeps that alive; call carries out.
package engine

import (
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// Engine guards calls over one store. Its methods may be called from any number of
// goroutines.
type Engine struct {
	options  Options
	store    measured
	reporter *reporter
	checks   *checks
	renewer  *renewer
	lookouts *lookouts

	Census   *Census   // of the store's open records
	Operator *Operator // decides about records

	seesDeath bool // the store sees that an owner is dead, before its lease is over
}

// CheckStore reports a store that is nil.
func CheckStore(s store.Store) error {
	if v := reflect.ValueOf(s); s == nil || v.Kind() == reflect.Pointer && v.IsNil() {
		return errors.New("the store is nil")
	}
	return nil
}

// New returns an engine. The options are complete.
func New(s store.Store, o Options, sink Sink) *Engine {
	r := newReporter(kindOf(s), o.Observers, sink)
	e := &Engine{options: o, reporter: r, store: measure(s, r), lookouts: newLookouts(s)}
	e.checks = &checks{store: e.store, lease: o.Lease, began: time.Now()}
	e.renewer = newRenewer(e.store, o)
	e.Census, e.Operator = newCensus(e.store, o.CountRecords), &Operator{e.store, o.SettleDelay}
	if w, watches := s.(store.OwnerWatcher); watches {
		quietly(func() { e.seesDeath = w.SeesDeath() })
	}
	return e
}

// Kind is the kind of the store.
func (e *Engine) Kind() string { return e.reporter.kind }

// Name returns i with its key, as the policy says. c.Input is the digest of the input.
func (e *Engine) Name(i Identity, p once.Policy, c keys.Call) (Identity, error) {
	i.Input = e.options.KeySecret.hide(c.Input)
	c.Input = i.Input
	return i.derive(p, e.options.KeySecret, c)
}

// Start asks the store before calls are taken, and returns why none may be. Where
// they may in spite of what the store says, or nothing is guarded, as idle reports,
// that is logged, and the next call has it noticed.
func (e *Engine) Start(ctx context.Context, idle func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err := e.checks.check(ctx)
	if tolerable(err) || err != nil && idle() {
		e.reporter.sink.Log().Warn("atmostonce: look at the store", "Error", err)
		e.checks.owed.Store(&err) // there is no call yet whose metrics could show it
		return nil
	}
	return err
}

// Prepare makes the series of the counters known for an activity, once for each
// destination: before anything happened, if it can be. first says that they were not.
func (e *Engine) Prepare(ctx context.Context, to any, p Place) (first bool) {
	r := e.reporter
	if _, prepared := r.prepared.LoadOrStore(preparation{to, p}, true); prepared {
		return false
	}
	for _, m := range observe.Series(p.Namespace, p.Queue, p.Activity) {
		r.measureAt(ctx, to, m)
	}
	return true
}
