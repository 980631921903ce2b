package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// fingerprint is different for states that differ in what can still happen.
func (m *model) fingerprint() string {
	var b strings.Builder
	r := m.load()
	fmt.Fprint(&b, m.made, m.decided, m.epoch, r.State, r.Marked, r.Origin, r.By, r.Owner, string(r.Outcome.Data), r.Kept != nil,
		r.Now.Before(r.LeaseEnd))
	if r.State == store.InDoubt {
		age := r.Now.Sub(r.Doubted)
		fmt.Fprint(&b, age >= modelDelay, age >= modelHold)
	}
	for _, e := range r.History {
		fmt.Fprint(&b, "|", e.What, e.From, e.FromBy, e.Owner)
	}
	for _, a := range m.attempts {
		fmt.Fprint(&b, "\n", a.call, a.phase, a.request, a.wrote, a.pending, a.barred)
		done := a.phase == over || a.phase == dead
		if !done || a.request != unsent {
			fmt.Fprint(&b, a.origin, a.granted, a.epoch)
		}
		if !done {
			fmt.Fprint(&b, a.verdict, a.silent, a.stale, a.cut)
		}
		if !done || a.pending {
			fmt.Fprint(&b, a.bid.Clean, a.from.State, a.from.Revision == r.Revision)
		}
	}
	return b.String()
}

// node is a state, by the way that leads to it.
type node struct {
	before *node
	by     move
}

func (n *node) path() (all []move) {
	for ; n.before != nil; n = n.before {
		all = append(all, n.by)
	}
	slices.Reverse(all)
	return all
}

// search visits every state, the nearest first, until one breaks a promise. A
// store cannot be copied, so each is reached again from the start.
func search(r rules) (states int, broken string) {
	seen := map[string]int{} // with the fewest faults
	for queue := []*node{{}}; len(queue) > 0; queue = queue[1:] {
		path := queue[0].path()
		m := retrace(r, path)
		next := m.moves()
		if len(next) == 0 {
			m.checkRest()
			if m.broken != "" {
				return len(seen), explain(m, path)
			}
		}
		for i, x := range next {
			if i > 0 {
				m = retrace(r, path)
			}
			m.step(x)
			m.checkRecord()
			if m.broken != "" {
				return len(seen), explain(m, append(path, x))
			}
			f := m.fingerprint()
			if fewest, found := seen[f]; !found || m.faults < fewest {
				seen[f] = m.faults
				queue = append(queue, &node{queue[0], x})
			}
		}
	}
	return len(seen), ""
}

func retrace(r rules, path []move) *model {
	m := newModel(r)
	for _, x := range path {
		m.step(x)
	}
	return m
}

func explain(m *model, path []move) string {
	var b strings.Builder
	for _, x := range path {
		fmt.Fprintf(&b, "call %d, attempt %d %s%s\n", m.attempts[x.who].call, x.who, x.act, x.fate)
	}
	return b.String() + m.broken
}

func findNothing(context.Context, string) (string, error) { return "", once.ErrNotDone }

// The bodies return errors of every kind, so that one search stands for Unlock,
// Lock, Doubt and Classify.
func TestModel_KeepsThePromiseInEveryOrder(t *testing.T) {
	t.Parallel()
	for _, doubt := range []once.DoubtPolicy{
		once.Hold, once.HoldFor(modelHold), once.Fail, once.Resume, once.Rerun, once.Reconcile(findNothing),
		once.DecidedBy(noLedger{"ledger"}),
	} {
		for _, r := range []rules{
			{policy: once.Policy{InDoubt: doubt, OnDuplicate: once.Return}, faults: 1},
			{policy: once.Policy{InDoubt: doubt, OnDuplicate: once.Wait}, faults: 2},
			{policy: once.Policy{InDoubt: doubt, OnDuplicate: once.Reject}, reset: true, faults: 1},
			{policy: once.Policy{InDoubt: doubt, OnDuplicate: once.Return}, unknown: true, faults: 1},
			{policy: once.Policy{InDoubt: doubt, OnDuplicate: once.Return}, operator: 2, faults: 1},
		} {
			r.decide, r.unsure, r.bars, r.most = decide, retDoubt, doubt.Ledger() != nil, [2]int{2, 1}
			t.Run(fmt.Sprint(r.policy.InDoubt, "/", r.policy.OnDuplicate, "/", r.operator), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					states, broken := search(r)
					require.Empty(t, broken)
					t.Logf("%d states with up to %d faults", states, r.faults)
				})
			})
		}
	}
}

// as decides by another policy than the one that the promise is about.
func as(p once.DoubtPolicy) func(situation) decision {
	return func(s situation) decision {
		s.policy.InDoubt = p
		return decide(s)
	}
}

// instead decides otherwise on records in a state that belong to others.
func instead(state store.State, do action) func(situation) decision {
	return func(s situation) decision {
		if s.record.State == state && !s.record.Owned(s.nonce) {
			return decision{do: do}
		}
		return decide(s)
	}
}

// Each of these guards is broken in one place: a search that does not find it
// would not find the same mistake in the guard.
func TestModel_FindsBrokenGuards(t *testing.T) {
	t.Parallel()
	noDelay := func(s situation) decision {
		s.settleDelay = 0
		return decide(s)
	}
	resume := func(s situation) decision {
		s.retry = s.sameCall
		return decide(s)
	}
	reconcile := once.Reconcile(findNothing)
	for name, broken := range map[string]struct {
		doubt once.DoubtPolicy
		rules rules
	}{
		"asks before the settle delay":              {reconcile, rules{decide: noDelay}},
		"believes a ledger that bars nothing":       {once.DecidedBy(noLedger{"ledger"}), rules{}},
		"runs again what a ledger knows":            {once.DecidedBy(noLedger{"ledger"}), rules{bars: true, decide: as(once.Rerun)}},
		"does not ask":                              {reconcile, rules{decide: as(once.Rerun)}},
		"takes over under Hold":                     {once.Hold, rules{decide: as(once.Rerun)}},
		"takes over under Fail":                     {once.Fail, rules{decide: as(once.Resume)}},
		"goes on after a reset":                     {once.Resume, rules{decide: resume, reset: true}},
		"takes over after the hold":                 {once.HoldFor(modelHold), rules{decide: as(once.Rerun)}},
		"runs beside a live owner":                  {once.Rerun, rules{decide: instead(store.Running, run)}},
		"runs what has succeeded":                   {once.Hold, rules{decide: instead(store.Succeeded, run)}},
		"replays what is in doubt":                  {once.Hold, rules{decide: instead(store.InDoubt, replay)}},
		"waits for what is in doubt":                {once.Hold, rules{decide: instead(store.InDoubt, await)}},
		"releases after an ambiguous error":         {once.Hold, rules{unsure: retUnlock}},
		"fails for good after an ambiguous error":   {once.Fail, rules{unsure: retLock}},
		"fails for good after a takeover":           {once.Resume, rules{locksAll: true}},
		"goes on when its lease is over":            {reconcile, rules{goesOn: true}},
		"takes over by state alone":                 {reconcile, rules{store: func(s store.Store) store.Store { return anyRevision{s} }}},
		"acquires what has lost its lease":          {once.Hold, rules{store: func(s store.Store) store.Store { return eager{s} }}},
		"leaves a tombstone after a takeover":       {once.Resume, rules{store: func(s store.Store) store.Store { return forgetful{s} }}},
		"frees what an operator corrects":           {once.Hold, rules{operator: 1, store: func(s store.Store) store.Store { return freeing{s} }}},
		"releases a success that could not be told": {once.Hold, rules{store: func(s store.Store) store.Store { return ungrateful{s} }}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := broken.rules
			r.policy, r.most, r.faults = once.Policy{InDoubt: broken.doubt, OnDuplicate: once.Wait}, [2]int{2, 1}, 1
			if r.decide == nil {
				r.decide = decide
			}
			if r.unsure == "" {
				r.unsure = retDoubt
			}
			synctest.Test(t, func(t *testing.T) {
				states, found := search(r)
				require.NotEmpty(t, found, "nothing found in %d states", states)
				t.Logf("after %d states:\n%s", states, found)
			})
		})
	}
}

// anyRevision takes over a record whatever was written to it since it was read.
type anyRevision struct{ store.Store }

func (s anyRevision) Takeover(ctx context.Context, b store.Bid, from store.Record) (store.Record, error) {
	if now, err := s.Load(ctx, b.Key); err == nil && now.State == from.State {
		from = now
	}
	return s.Store.Takeover(ctx, b, from)
}

// eager grants a key whose owner has lost its lease.
type eager struct{ store.Store }

func (s eager) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	r, err := s.Store.Acquire(ctx, b)
	if err == nil && r.State == store.InDoubt && r.Marked {
		return s.Takeover(ctx, b, r)
	}
	return r, err
}

// forgetful lets any release speak for the runs before it.
type forgetful struct{ store.Store }

func (s forgetful) Release(ctx context.Context, b store.Bid) (store.Record, error) {
	r, err := s.Store.Release(ctx, b)
	if err == nil && r.State == store.InDoubt {
		return s.Resolve(ctx, b.Key, r, store.Resolution{ID: "release", To: store.Tombstone, By: "release", TTL: b.TTL})
	}
	return r, err
}

// freeing corrects by way of a tombstone.
type freeing struct{ store.Store }

func (s freeing) Resolve(ctx context.Context, key string, from store.Record, res store.Resolution) (store.Record, error) {
	if from.State == store.Succeeded {
		res.To = store.Tombstone
	}
	return s.Store.Resolve(ctx, key, from, res)
}

// ungrateful gives a key back when it fails to record a success.
type ungrateful struct{ store.Store }

func (s ungrateful) Settle(ctx context.Context, b store.Bid, o store.Outcome) (store.Record, error) {
	if o.State == store.Succeeded {
		return s.Release(ctx, b)
	}
	return s.Store.Settle(ctx, b, o)
}
