package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// Subject is what a door knows of the call whose record an operator decides about.
type Subject struct {
	Policy once.Policy // complete
	// Check refuses a finding that is not of the call's type, and Encode encodes it for
	// its duplicates.
	Check  func() error
	Encode func(context.Context) (store.Outcome, error)
}

// Resolve writes a finding into r, and returns the record as it then is.
func (e *Engine) Resolve(ctx context.Context, r store.Record, f resolve.Finding, d resolve.Decision, s Subject) (store.Record, error) {
	now, err := e.resolve(ctx, r, f, d, s)
	if err != nil {
		return now, fmt.Errorf("atmostonce: resolve: %w", err)
	}
	h := r.Info.Holder
	e.decided(ctx, observe.Resolved, now, s.Policy, Identity{Activity: r.Info.Activity, Holder: store.Holder{
		Namespace: h.Namespace, WorkflowID: h.WorkflowID, RunID: h.RunID, ActivityID: h.ActivityID, Attempt: h.Attempt,
	}})
	return now, nil
}

func (e *Engine) resolve(ctx context.Context, r store.Record, f resolve.Finding, d resolve.Decision, s Subject) (store.Record, error) {
	if err := f.Validate(); err != nil {
		return r, err
	}
	if err := d.Validate(); err != nil {
		return r, err
	}
	if err := undecidable(r, f, d); err != nil {
		return r, err
	}
	if err := s.Check(); err != nil {
		return r, err
	}
	var outcome store.Outcome
	if f.To == store.Tombstone {
		if now, err := e.tooEarly(ctx, r, d); err != nil {
			return now, err
		}
	} else {
		var err error
		if outcome, err = s.Encode(ctx); err != nil {
			return r, err
		}
	}
	if err := unchanged(r, f.To, outcome); err != nil {
		return r, err
	}
	return e.write(ctx, r, store.Resolution{To: f.To, Outcome: outcome, TTL: s.Policy.TTL}, d)
}

// Forget erases r, and returns the record as it then is.
func (e *Engine) Forget(ctx context.Context, r store.Record, d resolve.Decision, p once.Policy) (store.Record, error) {
	now, err := e.forget(ctx, r, d)
	if err != nil {
		return now, fmt.Errorf("atmostonce: forget: %w", err)
	}
	e.decided(ctx, observe.Erased, now, p, Identity{Activity: r.Info.Activity, Holder: store.Holder{Namespace: r.Info.Holder.Namespace}})
	return now, nil
}

func (e *Engine) forget(ctx context.Context, r store.Record, d resolve.Decision) (store.Record, error) {
	if err := d.Validate(); err != nil {
		return r, err
	}
	if err := unforgettable(r, d); err != nil {
		return r, err
	}
	if now, err := e.tooEarly(ctx, r, d); err != nil {
		return now, err
	}
	return e.write(ctx, r, store.Resolution{To: store.Tombstone, Erase: true}, d)
}

// decided reports that an operator has decided about the key of a call.
func (e *Engine) decided(ctx context.Context, what observe.Notice, r store.Record, p once.Policy, i Identity) {
	e.reporter.open(i.Named(r.Key), p).notice(ctx, what, r, nil)
}

// write makes the decision about the record as it was read.
func (e *Engine) write(ctx context.Context, r store.Record, res store.Resolution, d resolve.Decision) (store.Record, error) {
	res.ID, res.By, res.Who, res.Why, res.Force = rand.Text(), store.ByOperator, d.By, d.Why, d.Force
	now, err := persist(ctx, context.Background(), func(ctx context.Context) (store.Record, error) {
		return e.store.Resolve(ctx, r.Key, r, res)
	})
	if errors.Is(err, store.ErrMoved) {
		err = moved(now)
	}
	return now, err
}

// tooEarly refuses what lets another call run while r's last owner may still act.
// The time in r is of when it was read, so it asks the store for it.
func (e *Engine) tooEarly(ctx context.Context, r store.Record, d resolve.Decision) (store.Record, error) {
	open := r.State == store.InDoubt || r.State == store.Pending ||
		r.State != store.Tombstone && r.By == store.ByOperator && !ownerSettled(r)
	if d.Force || !open {
		return r, nil
	}
	now, err := persist(ctx, context.Background(), func(ctx context.Context) (store.Record, error) {
		return e.store.load(ctx, r.Info.Holder.Namespace, r.Key)
	})
	switch until := mayActUntil(now, e.options.SettleDelay); {
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
