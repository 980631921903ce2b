package interceptor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// Resolve writes an operator's finding into the record r, which Guard.Find,
// Store.Load or Store.List gave. What is in doubt or pending is decided by it. What
// is settled is corrected by Done and Failed, and reopened by NotDone, so that the
// effect may happen again. It returns the record as it then is; the next attempt
// acts on it.
//
// A record goes in doubt while its last owner may still be alive: suspended, cut
// off from the store, or with a request on its way. NotDone, which lets another
// call run, is refused with ErrTooEarly until it is over by the store's clock: until
// SettleDelay has passed since Record.Doubted and, unless the owner itself declared
// the doubt, until Record.Deadline; for a pending record, until SettleDelay after
// Record.Deadline; for one that an operator has settled before its owner, until both
// have passed. Decision.Force decides in spite of that.
//
// Unlike Store.Resolve it encodes the result as the guard's client does, and
// remembers it as long as the activity's policy says, or Options.Defaults if this
// guard does not mark the activity. A result of another type than the activity's is
// refused with ErrResultType, if this guard knows the activity's function.
// store.ErrMoved says that the record has changed since it was read: read it again.
// A store that cannot be reached is asked again until ctx ends.
//
// Of a pending record Temporal learns only at the next attempt, after StartToClose:
// complete the activity at Temporal too, or report its end with Complete instead.
func (g *Guard) Resolve(ctx context.Context, r store.Record, f resolve.Finding, d resolve.Decision) (store.Record, error) {
	now, err := g.resolve(ctx, r, f, d)
	if err != nil {
		return now, fmt.Errorf("atmostonce: resolve: %w", err)
	}
	h := r.Info.Holder
	g.decided(ctx, observe.Resolved, now, sdkactivity.Info{
		Namespace: h.Namespace, ActivityID: h.ActivityID, Attempt: h.Attempt,
		WorkflowExecution: workflow.Execution{ID: h.WorkflowID, RunID: h.RunID},
		ActivityType:      sdkactivity.Type{Name: r.Info.Activity},
	})
	return now, nil
}

func (g *Guard) resolve(ctx context.Context, r store.Record, f resolve.Finding, d resolve.Decision) (store.Record, error) {
	if err := f.Validate(); err != nil {
		return r, err
	}
	if err := d.Validate(); err != nil {
		return r, err
	}
	if err := undecidable(r, f, d); err != nil {
		return r, err
	}
	if err := g.checkResult(r.Info.Activity, f); err != nil {
		return r, err
	}
	if f.To == store.Tombstone {
		if now, err := g.tooEarly(ctx, r, d); err != nil {
			return now, err
		}
	}
	outcome, err := g.encodeFinding(ctx, r, f)
	if err != nil {
		return r, err
	}
	if err := unchanged(r, f.To, outcome); err != nil {
		return r, err
	}
	return g.write(ctx, r, store.Resolution{To: f.To, Outcome: outcome, TTL: g.policyOf(r.Info.Activity).TTL}, d)
}

// Forget erases the record r, which Guard.Find, Store.Load or Store.List gave, for
// instance because its customer asks for it. Nothing is left of it but its key, its
// fence, the nonces of its claims and this decision, for store.TombstoneTTL; then
// that is gone, too. The next call of the key runs, so that the effect may happen
// again. It returns the record as it then is, and tells the observers: notice
// Erased is what remains as evidence.
//
// What runs, is pending or in doubt is refused, unless Decision.Force is set; so is,
// with ErrTooEarly, what an operator has settled while the last owner may still act;
// see Resolve. An owner that has its effect all the same, and reports it, brings the
// record back: that is the only evidence of it.
func (g *Guard) Forget(ctx context.Context, r store.Record, d resolve.Decision) (store.Record, error) {
	now, err := g.forget(ctx, r, d)
	if err != nil {
		return now, fmt.Errorf("atmostonce: forget: %w", err)
	}
	g.decided(ctx, observe.Erased, now, sdkactivity.Info{
		Namespace: r.Info.Holder.Namespace, ActivityType: sdkactivity.Type{Name: r.Info.Activity},
	})
	return now, nil
}

func (g *Guard) forget(ctx context.Context, r store.Record, d resolve.Decision) (store.Record, error) {
	if err := d.Validate(); err != nil {
		return r, err
	}
	if err := unforgettable(r, d); err != nil {
		return r, err
	}
	if now, err := g.tooEarly(ctx, r, d); err != nil {
		return now, err
	}
	return g.write(ctx, r, store.Resolution{To: store.Tombstone, Erase: true}, d)
}

// write makes the decision about the record as it was read.
func (g *Guard) write(ctx context.Context, r store.Record, res store.Resolution, d resolve.Decision) (store.Record, error) {
	res.ID, res.By, res.Who, res.Why, res.Force = rand.Text(), store.ByOperator, d.By, d.Why, d.Force
	now, err := persist(ctx, context.Background(), func(ctx context.Context) (store.Record, error) {
		return g.store.Resolve(ctx, r.Key, r, res)
	})
	if d := (*definiteError)(nil); errors.As(err, &d) {
		now = d.record
	}
	if errors.Is(err, store.ErrMoved) {
		err = moved(now)
	}
	return now, err
}

// tooEarly refuses what lets another call run while r's last owner may still act.
// The time in r is of when it was read, so it asks the store for it.
func (g *Guard) tooEarly(ctx context.Context, r store.Record, d resolve.Decision) (store.Record, error) {
	open := r.State == store.InDoubt || r.State == store.Pending ||
		r.State != store.Tombstone && r.By == store.ByOperator && !ownerSettled(r)
	if d.Force || !open {
		return r, nil
	}
	now, err := persist(ctx, context.Background(), func(ctx context.Context) (store.Record, error) {
		return g.store.Load(ctx, r.Key)
	})
	switch until := mayActUntil(now, g.options.SettleDelay); {
	case err != nil:
		return r, err
	case now.State != r.State || now.Revision != r.Revision || now.Fence != r.Fence:
		return now, moved(now)
	case now.Now.Before(until):
		return now, fmt.Errorf("%w: the last owner may act until %s, for another %v: wait, then find out again; or decide in spite of that with Decision.Force",
			resolve.ErrTooEarly, shownTime(until), until.Sub(now.Now).Round(time.Millisecond))
	}
	return now, nil
}

// ownerSettled reports whether an operator corrected what the owner itself had
// settled: that one's body is over.
func ownerSettled(r store.Record) bool {
	return slices.ContainsFunc(r.History, func(e store.Turn) bool {
		return e.What == store.TurnResolved && e.Owner == r.Owner && (e.From == store.Succeeded || e.From == store.Failed) && e.FromBy == ""
	})
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

func (g *Guard) encodeFinding(ctx context.Context, r store.Record, f resolve.Finding) (store.Outcome, error) {
	if f.To == store.Tombstone {
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
	if f.To == store.Failed {
		o, _ := c.encodeFailure(f.Err)
		return o, kept(o, "error")
	}
	o, _, err := c.encode(f.Result, g.options.MaxOutcome)
	if err == nil {
		err = kept(o, "result")
	}
	return o, err
}

// kept refuses an outcome without what it is to replay.
func kept(o store.Outcome, what string) error {
	if o.Missing != "" {
		return fmt.Errorf("the %s: %s", what, o.Missing)
	}
	return nil
}

// decided tells that an operator has decided about the key of a call.
func (g *Guard) decided(ctx context.Context, what observe.Notice, r store.Record, info sdkactivity.Info) {
	c := &call{guard: g, policy: g.policyOf(info.ActivityType.Name), digest: keys.Downstream(r.Key)[:16], info: info}
	c.notice(ctx, what, r, nil)
}
