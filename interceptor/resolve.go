package interceptor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

// Finding is what somebody has found out about an effect. Make it with Done,
// Failed or NotDone.
type Finding struct {
	to     store.State
	result any
	err    error
	force  bool
}

// Done says that the effect took place. result is what the activity would have
// returned; duplicates get it replayed.
func Done(result any) Finding { return Finding{to: store.Succeeded, result: result} }

// Failed says that the effect did not take place, and is not to be tried again:
// err is replayed, and not retried.
func Failed(err error) Finding { return Finding{to: store.Failed, err: err} }

// NotDone says that the effect did not take place, or has been undone: the next
// call of the key runs. It says so of what the last owner may yet do, too: find
// out after that, or make sure that the owner is gone.
func NotDone() Finding { return Finding{to: store.Tombstone} }

// ErrTooEarly is why Guard.Resolve does not take NotDone: the last owner may still
// have its effect. The message says until when.
var ErrTooEarly = errors.New("too early for NotDone")

// Forced lets the finding decide about a key that is running, too, and NotDone
// about one whose last owner may still act. That owner may go on, and have its
// effect.
func (f Finding) Forced() Finding {
	f.force = true
	return f
}

// Resolve writes an operator's finding into the record r, which Store.Load or
// Store.List gave: into one that is in doubt or pending. NotDone also reopens a
// settled one, whose effect may then happen again. why is kept in the
// record's history. It returns the record as it then is; the next attempt acts on
// it.
//
// A record goes in doubt while its last owner may still be alive: suspended, cut
// off from the store, or with a request on its way. NotDone, which lets another
// call run, is refused with ErrTooEarly until it is over by the store's clock: until
// SettleDelay has passed since Record.Doubted and, unless the owner itself declared
// the doubt, until Record.Deadline; for a pending record, until SettleDelay after
// Record.Deadline; for one that an operator has settled meanwhile, until both have
// passed. Finding.Forced decides in spite of that.
//
// Unlike Store.Resolve it encodes the result as the guard's client does, and
// remembers it as long as the activity's policy says, or Options.Defaults if this
// guard does not mark the activity. store.ErrMoved says that the record has changed
// since it was read: read it again. A store that cannot be reached is asked again
// until ctx ends.
//
// Of a pending record Temporal learns only at the next attempt, after StartToClose:
// complete the activity at Temporal too, or report its end with Complete instead.
func (g *Guard) Resolve(ctx context.Context, r store.Record, f Finding, why string) (store.Record, error) {
	switch {
	case f.to == "":
		return r, errors.New("atmostonce: resolve: an empty Finding: use Done, Failed or NotDone")
	case f.to == store.Failed && f.err == nil:
		return r, errors.New("atmostonce: resolve: Failed needs an error")
	case r.State == store.Absent:
		return r, errors.New("atmostonce: resolve: there is no record")
	case why == "":
		return r, errors.New("atmostonce: resolve: say why: it is kept in the record")
	case r.State == store.Running && !f.force:
		return r, errors.New("atmostonce: resolve: it is running, and may have its effect yet: Finding.Forced decides in spite of that")
	case r.State == store.Tombstone, f.to != store.Tombstone && (r.State == store.Succeeded || r.State == store.Failed):
		return r, fmt.Errorf("atmostonce: resolve: it is %s: what is settled can only be reopened, by NotDone", r.State)
	}
	if now, err := g.tooEarly(ctx, r, f); err != nil {
		return now, fmt.Errorf("atmostonce: resolve: %w", err)
	}
	outcome, err := g.encodeFinding(ctx, r, f)
	if err != nil {
		return r, fmt.Errorf("atmostonce: resolve: %w", err)
	}
	resolution := store.Resolution{
		ID: rand.Text(), To: f.to, Outcome: outcome, By: store.ByOperator, Why: why,
		TTL: g.policyOf(r.Info.Activity).TTL, Force: f.force,
	}
	now, err := persist(ctx, context.Background(), func(ctx context.Context) (store.Record, error) {
		return g.store.Resolve(ctx, r.Key, r, resolution)
	})
	if d := (*definiteError)(nil); errors.As(err, &d) {
		now = d.record
	}
	if err != nil {
		return now, fmt.Errorf("atmostonce: resolve: %w", err)
	}
	g.resolved(ctx, now)
	return now, nil
}

// tooEarly refuses a finding that lets another call run while r's last owner may
// still act. The time in r is of when it was read, so it asks the store for it.
func (g *Guard) tooEarly(ctx context.Context, r store.Record, f Finding) (store.Record, error) {
	open := r.State == store.InDoubt || r.State == store.Pending || r.By == store.ByOperator
	if f.to != store.Tombstone || f.force || !open {
		return r, nil
	}
	now, err := persist(ctx, context.Background(), func(ctx context.Context) (store.Record, error) {
		return g.store.Load(ctx, r.Key)
	})
	switch until := mayActUntil(now, g.options.SettleDelay); {
	case err != nil:
		return r, err
	case now.State != r.State || now.Revision != r.Revision || now.Fence != r.Fence:
		return now, store.ErrMoved
	case now.Now.Before(until):
		return now, fmt.Errorf("%w: the last owner may act until %s, for another %v: wait, then find out again; or decide in spite of that with Finding.Forced",
			ErrTooEarly, shownTime(until), until.Sub(now.Now).Round(time.Millisecond))
	}
	return now, nil
}

// mayActUntil is until when the last owner of a record in doubt or pending, or of
// one that an operator has settled, may have its effect, by the store's clock. A
// doubt that the owner itself declared says that its body is over.
func mayActUntil(r store.Record, settleDelay time.Duration) time.Time {
	until := r.Doubted.Add(settleDelay)
	switch r.State {
	case store.Pending:
		return r.Deadline.Add(settleDelay)
	case store.Succeeded, store.Failed:
		until = r.Settled.Add(settleDelay)
	}
	if (r.Marked || r.State != store.InDoubt) && r.Deadline.After(until) {
		return r.Deadline
	}
	return until
}

// shownTime is t in full seconds, and not earlier.
func shownTime(t time.Time) string {
	return t.Add(time.Second - 1).Truncate(time.Second).UTC().Format(time.RFC3339)
}

func (g *Guard) encodeFinding(ctx context.Context, r store.Record, f Finding) (store.Outcome, error) {
	if f.to == store.Tombstone {
		return store.Outcome{}, nil
	}
	conv, err := g.converters()
	if err != nil {
		return store.Outcome{}, err
	}
	h := r.Info.Holder
	c := codec{conv, ctx, target{ActivitySerializationContext: converter.ActivitySerializationContext{
		Namespace: h.Namespace, WorkflowID: h.WorkflowID, ActivityType: r.Info.Activity, IsLocal: h.Local,
	}}}
	if f.to == store.Failed {
		o, _ := c.encodeFailure(f.err)
		return o, nil
	}
	o, _, err := c.encode(f.result, g.options.MaxOutcome)
	if err == nil && o.Missing != "" {
		err = fmt.Errorf("the result: %s", o.Missing)
	}
	return o, err
}

// resolved tells that an operator has decided.
func (g *Guard) resolved(ctx context.Context, r store.Record) {
	h := r.Info.Holder
	c := &call{guard: g, policy: g.policyOf(r.Info.Activity), digest: keys.Downstream(r.Key)[:16], info: sdkactivity.Info{
		Namespace: h.Namespace, ActivityID: h.ActivityID, Attempt: h.Attempt,
		WorkflowExecution: workflow.Execution{ID: h.WorkflowID, RunID: h.RunID},
		ActivityType:      sdkactivity.Type{Name: r.Info.Activity},
	}}
	c.notice(ctx, Resolved, r, nil)
}
