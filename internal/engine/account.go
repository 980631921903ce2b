package engine

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// account is what is reported of one call.
type account struct {
	reporter *reporter
	identity *Identity
	policy   once.DuplicatePolicy

	report    observe.Event // what became of the call
	leaseLost atomic.Bool   // it was reported
}

// open returns the account of a call, which the policy guards.
func (r *reporter) open(i Identity, p once.Policy) *account {
	return &account{reporter: r, identity: &i, policy: p.OnDuplicate}
}

// event is what every event of the call has.
func (a *account) event(k observe.Kind) observe.Event {
	i, h := a.identity, &a.identity.Holder
	return observe.Event{
		Kind: k, Activity: i.Activity, Digest: i.Digest, Policy: a.policy, WorkflowID: h.WorkflowID,
		RunID: cmp.Or(h.RunID, h.ActivityRunID), ActivityID: h.ActivityID, Attempt: h.Attempt,
	}
}

// notice reports something to know that changes no answer.
func (a *account) notice(ctx context.Context, what observe.Notice, r store.Record, err error) {
	e := a.event(observe.KindNotice)
	e.Notice, e.Err, e.Record = what, err, shown(r)
	a.noticed(ctx, e)
}

// noticeLeaseLost reports once that the claim is another call's, or may be.
func (a *account) noticeLeaseLost(ctx context.Context, r store.Record, err error) {
	if a.leaseLost.CompareAndSwap(false, true) {
		a.notice(ctx, observe.LeaseLost, r, err)
	}
}

// noticed counts a notice, logs it, and hands it to the observers.
func (a *account) noticed(ctx context.Context, e observe.Event) {
	a.count(ctx, observe.NoticeCount, string(e.Notice), e.ErrorType())
	a.reporter.report(ctx, e)
}

// begin reports the beginning of a call. It returns the call's traceparent, and what
// reports and counts its end.
func (a *account) begin(ctx context.Context, claim observe.Event) (bctx context.Context, traceparent string, end func(observe.Event)) {
	begun, traceparent, s := a.reporter.begin(ctx, claim)
	return begun, traceparent, func(e observe.Event) {
		a.count(begun, observe.Calls, e.Outcome(), e.ErrorType())
		s.end(e)
	}
}

// open reports that the call begins.
func (a *account) open(ctx context.Context) (bctx context.Context, traceparent string, end func(observe.Event)) {
	a.report = a.event(observe.KindClaim)
	return a.begin(ctx, a.report)
}

// close reports that it has ended.
func (a *account) close(end func(observe.Event)) {
	if a.report.Kind == observe.KindClaim { // a function of the user's panics
		a.report.Kind = observe.KindFail
	}
	end(a.report)
}

// ran passes an answer on for a call whose body did run, whatever the answer rests on.
func (a *account) ran(result any, err error) (any, error) {
	a.report.Kind = observe.KindExecute
	return result, err
}

// waited counts the end of a wait.
func (a *account) waited(ctx context.Context, how observe.WaitResult, took time.Duration) {
	a.reporter.measure(ctx, observe.Measurement{Metric: observe.WaitDuration, Duration: took, Values: a.values(string(how))})
}

func (a *account) count(ctx context.Context, metric string, labels ...string) {
	a.reporter.measure(ctx, observe.Measurement{Metric: metric, Count: 1, Values: a.values(labels...)})
}

func (a *account) values(labels ...string) (v [5]string) {
	v[0], v[1], v[2] = a.identity.Holder.Namespace, a.identity.Queue, a.identity.Activity
	copy(v[3:], labels)
	return v
}

// shown returns what observers may see of a record.
func shown(r store.Record) store.Record {
	r.Key, r.Info.Match = "", ""
	r.Outcome.Data, r.Kept = nil, nil
	return r
}

// wrote reports what became of a write that ends a claim.
func (a *account) wrote(ctx context.Context, r store.Record, err error) {
	switch {
	case errors.Is(err, store.ErrConflict):
		a.notice(ctx, observe.Conflict, r, err)
	case errors.Is(err, store.ErrSuperseded):
		a.noticeLeaseLost(ctx, r, err)
	case err != nil:
		a.notice(ctx, observe.SettleFailed, r, err)
	case r.Forgotten:
		a.notice(ctx, observe.StoreLost, r, nil)
	}
}
