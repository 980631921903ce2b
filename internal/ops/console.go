package ops

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// Resolver decides about records. The guards are such.
type Resolver interface {
	Find(ctx context.Context, digest string) (store.Record, error)
	Resolve(ctx context.Context, r store.Record, f resolve.Finding, d resolve.Decision) (store.Record, error)
	Forget(ctx context.Context, r store.Record, d resolve.Decision) (store.Record, error)
}

// PolicyOf returns the policy of a record's activity or function, as the guard knows it;
// the zero value if by does not know it, or is no guard.
func PolicyOf(by any, r store.Record) (p once.Policy) {
	if g, knows := by.(interface {
		Policy(r store.Record) (once.Policy, bool)
	}); knows {
		p, _ = g.Policy(r)
	}
	return p
}

// Console looks into a store. Its methods may be called from any number of goroutines.
type Console struct{ Store store.Store }

// Filter selects what is listed. Its zero value selects what is open.
type Filter struct {
	States     []store.State // none: those of Open
	Namespace  string
	Activity   string
	WorkflowID string
	Digest     string        // begins the digest
	Older      time.Duration // in its state; for what is settled, too
}

// Open are the states of which something may yet come, in the order of a list.
var Open = []store.State{store.InDoubt, store.Pending, store.Running}

// Every has all states that a record can have, in the order of a list.
var Every = append(slices.Clone(Open), store.Failed, store.Succeeded, store.Tombstone)

// Query is the query of one of the filter's states.
func (f Filter) Query(s store.State) store.Query {
	return store.Query{State: s, Namespace: f.Namespace, Activity: f.Activity, WorkflowID: f.WorkflowID, Digest: f.Digest}
}

// List yields the records that match, by state: those of an open state the oldest
// first, those that are settled in no order and after a look at every record. It keeps
// none of them. A record that cannot be read is yielded as an error, and the list
// goes on.
func (c Console) List(ctx context.Context, f Filter) iter.Seq2[store.Record, error] {
	states := f.States
	if len(states) == 0 {
		states = Open
	}
	return func(yield func(store.Record, error) bool) {
		var settled []store.State
		for _, s := range states {
			if !s.IsOpen() {
				settled = append(settled, s)
				continue
			}
			if !c.some(ctx, f, f.Query(s), nil, yield) {
				return
			}
		}
		switch len(settled) {
		case 0:
		case 1:
			c.some(ctx, f, f.Query(settled[0]), nil, yield)
		default: // one look at all records
			c.some(ctx, f, f.Query(store.Absent), settled, yield)
		}
	}
}

// some yields what a query finds, and reports whether more is wanted.
func (c Console) some(ctx context.Context, f Filter, q store.Query, states []store.State, yield func(store.Record, error) bool) bool {
	for r, err := range c.Store.List(ctx, q) {
		switch {
		case err != nil:
			if !yield(r, err) || ctx.Err() != nil {
				return false
			}
			continue
		case states != nil && !slices.Contains(states, r.State):
			continue
		case f.Older != 0 && r.Now.Sub(r.Since()) <= f.Older:
			if r.State.IsOpen() {
				return true // those that follow are younger
			}
			continue
		}
		if !yield(r, nil) {
			return false
		}
	}
	return true
}

// Find returns the one record that is meant by what: at least 8 digits of its digest,
// or its whole key. The error is resolve.ErrNotFound where there is none, and
// resolve.ErrAmbiguous where there are several.
func (c Console) Find(ctx context.Context, what string) (store.Record, error) {
	if _, err := hex.DecodeString(what + strings.Repeat("0", len(what)%2)); err == nil {
		return engine.Find(ctx, c.Store, what)
	}
	r, err := c.Store.Load(ctx, what)
	if err == nil && r.State == store.Absent {
		err = fmt.Errorf("%w of that key: it was never made, is no longer remembered, or is in another store; then the next call runs", resolve.ErrNotFound)
	}
	return r, err
}

// OfWorkflow returns the records of a workflow ID, those in doubt first. It looks at
// every record.
func (c Console) OfWorkflow(ctx context.Context, id string) (all []store.Record, err error) {
	for r, err := range c.Store.List(ctx, store.Query{WorkflowID: id}) {
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(all, func(other store.Record) bool { return other.Key == r.Key }); i < 0 {
			all = append(all, r)
		} else if all[i].Revision < r.Revision {
			all[i] = r
		}
	}
	slices.SortFunc(all, func(a, b store.Record) int {
		return cmp.Or(slices.Index(Every, a.State)-slices.Index(Every, b.State), a.Compare(b))
	})
	return all, nil
}

// Stats counts what is open; see store.Stats. Those in doubt come first, the oldest
// of them first.
func (c Console) Stats(ctx context.Context) ([]store.Stat, error) {
	all, err := store.Stats(ctx, c.Store)
	slices.SortStableFunc(all, func(a, b store.Stat) int {
		return cmp.Or(slices.Index(Every, a.State)-slices.Index(Every, b.State), cmp.Compare(b.Age, a.Age))
	})
	return all, err
}
