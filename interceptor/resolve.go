package interceptor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

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
// call of the key runs.
func NotDone() Finding { return Finding{to: store.Tombstone} }

// Forced lets the finding decide about a key that is running, too. Its owner may
// go on, and have its effect.
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
