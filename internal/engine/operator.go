package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// Operator is the engine's side for those who decide about records.
type Operator struct {
	store       measured
	settleDelay time.Duration
}

// Subject is what a door knows of the call whose record an operator decides about.
type Subject struct {
	Policy once.Policy // complete
	// Check refuses a finding that is not of the call's type, and Encode encodes it for
	// its duplicates.
	Check  func() error
	Encode func(context.Context) (store.Outcome, error)
}

// Resolve writes a finding into r, and returns the record as it then is.
func (o *Operator) Resolve(ctx context.Context, r store.Record, f resolve.Finding, d resolve.Decision, s Subject) (store.Record, error) {
	now, err := o.resolve(ctx, r, f, d, s)
	if err != nil {
		return now, fmt.Errorf("atmostonce: resolve: %w", err)
	}
	h := r.Info.Holder
	o.decided(ctx, observe.Resolved, now, s.Policy, Identity{Activity: r.Info.Activity, Holder: store.Holder{
		Namespace: h.Namespace, WorkflowID: h.WorkflowID, RunID: h.RunID, ActivityID: h.ActivityID, Attempt: h.Attempt,
	}})
	return now, nil
}

func (o *Operator) resolve(ctx context.Context, r store.Record, f resolve.Finding, d resolve.Decision, s Subject) (store.Record, error) {
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
		if now, err := o.tooEarly(ctx, r, d); err != nil {
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
	return o.write(ctx, r, store.Resolution{To: f.To, Outcome: outcome, TTL: s.Policy.TTL}, d)
}

// Forget erases r, and returns the record as it then is.
func (o *Operator) Forget(ctx context.Context, r store.Record, d resolve.Decision, p once.Policy) (store.Record, error) {
	now, err := o.forget(ctx, r, d)
	if err != nil {
		return now, fmt.Errorf("atmostonce: forget: %w", err)
	}
	o.decided(ctx, observe.Erased, now, p, Identity{Activity: r.Info.Activity, Holder: store.Holder{Namespace: r.Info.Holder.Namespace}})
	return now, nil
}

func (o *Operator) forget(ctx context.Context, r store.Record, d resolve.Decision) (store.Record, error) {
	if err := d.Validate(); err != nil {
		return r, err
	}
	if err := unforgettable(r, d); err != nil {
		return r, err
	}
	if now, err := o.tooEarly(ctx, r, d); err != nil {
		return now, err
	}
	return o.write(ctx, r, store.Resolution{To: store.Tombstone, Erase: true}, d)
}

// Find returns the one record whose key has the digest.
func (o *Operator) Find(ctx context.Context, digest string) (store.Record, error) {
	return Find(ctx, o.store, digest)
}

// Find returns the one record of s whose key has the digest.
func Find(ctx context.Context, s store.Store, digest string) (store.Record, error) {
	r, err := find(ctx, s, strings.ToLower(digest))
	if err != nil {
		return r, fmt.Errorf("atmostonce: find %q: %w", digest, err)
	}
	return r, nil
}

func find(ctx context.Context, s store.Store, digest string) (store.Record, error) {
	if err := checkDigest(digest); err != nil {
		return store.Record{}, err
	}
	found := map[string]store.Record{}
	for r, err := range s.List(ctx, store.Query{Digest: digest}) {
		if err != nil {
			return store.Record{}, err
		}
		if known, again := found[r.Key]; !again || known.Revision < r.Revision { // a listing may yield it twice
			found[r.Key] = r
		}
	}
	all := slices.Collect(maps.Values(found))
	switch len(all) {
	case 0:
		return store.Record{}, fmt.Errorf("%w: it was never made, is no longer remembered, or is in another store; then the next call runs", resolve.ErrNotFound)
	case 1:
		return all[0], nil
	}
	return store.Record{}, fmt.Errorf("%w: give more of its digits, as in %s and %s", resolve.ErrAmbiguous,
		keys.Downstream(all[0].Key), keys.Downstream(all[1].Key))
}

// decided reports that an operator has decided about the key of a call.
func (o *Operator) decided(ctx context.Context, what observe.Notice, r store.Record, p once.Policy, i Identity) {
	o.store.reporter.open(i.Named(r.Key), p).notice(ctx, what, r, nil)
}

// write makes the decision about the record as it was read.
func (o *Operator) write(ctx context.Context, r store.Record, res store.Resolution, d resolve.Decision) (store.Record, error) {
	res.ID, res.By, res.Who, res.Why, res.Force = rand.Text(), store.ByOperator, d.By, d.Why, d.Force
	now, err := persist(ctx, context.Background(), func(ctx context.Context) (store.Record, error) {
		return o.store.Resolve(ctx, r.Key, r, res)
	})
	if errors.Is(err, store.ErrMoved) {
		err = moved(now)
	}
	return now, err
}

// tooEarly refuses what lets another call run while r's last owner may still act.
// The time in r is that of its reading, so it asks the store for the time.
func (o *Operator) tooEarly(ctx context.Context, r store.Record, d resolve.Decision) (store.Record, error) {
	open := r.State == store.InDoubt || r.State == store.Pending ||
		r.State != store.Tombstone && r.By == store.ByOperator && !ownerSettled(r)
	if d.Force || !open {
		return r, nil
	}
	now, err := persist(ctx, context.Background(), func(ctx context.Context) (store.Record, error) {
		return o.store.load(ctx, r.Info.Holder.Namespace, r.Key)
	})
	switch until := MayActUntil(now, o.settleDelay); {
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

// MayActUntil is until when the last owner of a record in doubt or pending, or of
// one that an operator has settled, may have its effect, by the store's clock. A
// doubt that the owner itself declared says that its body is over.
func MayActUntil(r store.Record, settleDelay time.Duration) time.Time {
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
