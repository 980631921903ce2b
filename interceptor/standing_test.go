package interceptor_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// desk is an operator's, with one record on it.
type desk struct {
	t     *testing.T
	guard *interceptor.Guard
	store *store.Memory
	bid   store.Bid
	r     store.Record
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	s := memory()
	return &desk{t: t, guard: underDefaults(t, s, once.Policy{}), store: s, bid: store.Bid{
		Key: "v1/default/g/ChargeCard/7", Owner: "a", Lease: time.Minute, TTL: 30 * 24 * time.Hour, Deadline: 10 * time.Minute, Began: true,
		Info: store.Info{Activity: "ChargeCard", Holder: store.Holder{Namespace: "default", WorkflowID: "order-7", RunID: "run"}},
	}}
}

func (d *desk) took(r store.Record, err error) {
	d.t.Helper()
	require.NoError(d.t, err)
	d.r = r
}

func (d *desk) runs() { d.took(d.store.Acquire(d.t.Context(), d.bid)) }

func (d *desk) ends(o store.Outcome) {
	d.runs()
	d.took(d.store.Settle(d.t.Context(), d.bid, o))
}

func (d *desk) resolves(f resolve.Finding) {
	d.took(d.guard.Resolve(d.t.Context(), d.r, f, byAnn("asked the bank")))
}

// outcome is what the guard records for f.
func (d *desk) outcome(f resolve.Finding) store.Outcome {
	d.t.Helper()
	other := newDesk(d.t)
	other.ends(store.Outcome{State: store.InDoubt})
	other.resolves(f)
	return other.r.Outcome
}

var (
	done    = resolve.AsDone(receipt{ID: "r-7"})
	decline = resolve.AsFailed(errors.New("declined"))
)

// standings are the records that an operator may meet, in the order of the table.
var standings = []struct {
	name string
	is   func(d *desk)
}{
	{"no record", func(d *desk) { d.r = store.Record{Key: d.bid.Key} }},
	{"free", func(d *desk) { d.runs(); d.took(d.store.Release(d.t.Context(), d.bid)) }},
	{"free, as an operator said", func(d *desk) {
		d.ends(store.Outcome{State: store.InDoubt})
		later(time.Hour)
		d.resolves(resolve.AsNotDone())
	}},
	{"free, as an operator said, early", func(d *desk) {
		d.ends(store.Outcome{State: store.InDoubt})
		d.took(d.guard.Resolve(d.t.Context(), d.r, resolve.AsNotDone(), forced("it is gone")))
	}},
	{"erased", func(d *desk) {
		d.ends(d.outcome(done))
		d.took(d.guard.Forget(d.t.Context(), d.r, byAnn("asked for it")))
	}},
	{"released after an erasure", func(d *desk) {
		d.ends(d.outcome(done))
		d.took(d.guard.Forget(d.t.Context(), d.r, byAnn("asked for it")))
		d.bid.Owner = "b"
		d.runs()
		d.took(d.store.Release(d.t.Context(), d.bid))
	}},
	{"running", (*desk).runs},
	{"in doubt", func(d *desk) { d.ends(store.Outcome{State: store.InDoubt}); later(time.Hour) }},
	{"in doubt, early", func(d *desk) { d.ends(store.Outcome{State: store.InDoubt}) }},
	{"pending", func(d *desk) { d.ends(store.Outcome{State: store.Pending}); later(time.Hour) }},
	{"pending, early", func(d *desk) { d.ends(store.Outcome{State: store.Pending}) }},
	{"succeeded", func(d *desk) { d.ends(d.outcome(done)) }},
	{"failed", func(d *desk) { d.ends(d.outcome(decline)) }},
	{"succeeded, as an operator said", func(d *desk) { d.ends(store.Outcome{State: store.InDoubt}); d.resolves(done); later(time.Hour) }},
	{"succeeded, as an operator said, early", func(d *desk) { d.ends(store.Outcome{State: store.InDoubt}); d.resolves(done) }},
	{"failed, as an operator said, early", func(d *desk) { d.ends(store.Outcome{State: store.InDoubt}); d.resolves(decline) }},
	{"succeeded, corrected", func(d *desk) { d.ends(d.outcome(decline)); d.resolves(done) }},
	{"succeeded, as Reconcile found", func(d *desk) {
		d.ends(store.Outcome{State: store.InDoubt})
		d.took(d.store.Resolve(d.t.Context(), d.bid.Key, d.r, store.Resolution{
			ID: "1", To: store.Succeeded, Outcome: d.outcome(done), By: store.ByReconcile, Why: "found", TTL: time.Hour,
		}))
	}},
	{"succeeded, before it was superseded", func(d *desk) {
		d.ends(store.Outcome{State: store.InDoubt})
		b := d.bid
		b.Owner = "b"
		_, err := d.store.Takeover(d.t.Context(), b, d.r)
		require.NoError(d.t, err)
		_, err = d.store.Settle(d.t.Context(), d.bid, d.outcome(done))
		require.ErrorIs(d.t, err, store.ErrConflict)
		d.took(d.store.Release(d.t.Context(), b))
	}},
}

// decisions are what an operator may try.
var decisions = []struct {
	name string
	try  func(d *desk, by resolve.Decision) (store.Record, error)
}{
	{"Done", finds(done)},
	{"Done otherwise", finds(resolve.AsDone(receipt{ID: "r-8"}))},
	{"Failed", finds(decline)},
	{"NotDone", finds(resolve.AsNotDone())},
	{"Forget", func(d *desk, by resolve.Decision) (store.Record, error) {
		return d.guard.Forget(d.t.Context(), d.r, by)
	}},
	{"NotDone, as it was in doubt before", func(d *desk, by resolve.Decision) (store.Record, error) {
		before := d.r
		before.State, before.Revision = store.InDoubt, before.Revision-1
		return d.guard.Resolve(d.t.Context(), before, resolve.AsNotDone(), by)
	}},
	{"Done, as it was in doubt before", func(d *desk, by resolve.Decision) (store.Record, error) {
		before := d.r
		before.State, before.Revision = store.InDoubt, before.Revision-1
		return d.guard.Resolve(d.t.Context(), before, done, by)
	}},
}

func finds(f resolve.Finding) func(d *desk, by resolve.Decision) (store.Record, error) {
	return func(d *desk, by resolve.Decision) (store.Record, error) {
		return d.guard.Resolve(d.t.Context(), d.r, f, by)
	}
}

// Each decision about each record is written, or the message says what to do.
func TestDecisions_SayWhatToDo(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for _, standing := range standings {
		fmt.Fprintf(&b, "%s\n", standing.name)
		for _, decision := range decisions {
			var answers [2]string
			for i := range answers {
				synctest.Test(t, func(t *testing.T) {
					d := newDesk(t)
					standing.is(d)
					answers[i] = d.tries(decision.try, i == 1)
				})
			}
			fmt.Fprintf(&b, "\t%s: %s\n", decision.name, answers[0])
			if answers[1] != answers[0] {
				fmt.Fprintf(&b, "\t%s, by force: %s\n", decision.name, answers[1])
			}
		}
	}
	path := filepath.Join("testdata", "decisions.txt")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), b.String(), "to write it anew: go test ./interceptor -run TestDecisions -update")
}

// tries returns the answer to the operator. A refusal has changed nothing.
func (d *desk) tries(try func(d *desk, by resolve.Decision) (store.Record, error), force bool) string {
	d.t.Helper()
	before, err := d.store.Load(d.t.Context(), d.bid.Key)
	require.NoError(d.t, err)
	r, failure := try(d, resolve.Decision{By: "bob", Why: "why", Force: force})
	now, err := d.store.Load(d.t.Context(), d.bid.Key)
	require.NoError(d.t, err)
	if failure != nil {
		require.Equal(d.t, before, now, "it is refused: %v", failure)
		return failure.Error()
	}
	require.Equal(d.t, now, r)
	e := now.History[len(now.History)-1]
	require.Equal(d.t, []string{"bob", "why", store.ByOperator}, []string{e.Who, e.Why, e.By})
	return fmt.Sprintf("%s: it is %s", e.What, now.State)
}

// A decision by way of the store may have no name: it is not that of who came before.
func TestResolve_NamesNobodyElse(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.ends(store.Outcome{State: store.InDoubt})
	d.resolves(decline)
	d.took(d.store.Resolve(t.Context(), d.bid.Key, d.r, store.Resolution{
		ID: "1", To: store.Succeeded, Outcome: d.outcome(done), By: store.ByOperator, Why: "asked", TTL: time.Hour,
	}))
	_, err := d.guard.Resolve(t.Context(), d.r, done, byAnn("asked the bank"))
	require.ErrorContains(t, err, "settled as succeeded already, by an operator:")
}

// What keeps no call from running needs no second look at the record.
func TestResolve_WritesAtOnceWhatLetsNothingRun(t *testing.T) {
	t.Parallel()
	s := newFaulty()
	g, r := doubted(t, s, once.Policy{})
	s.set("load", fault{times: always})
	_, err := g.Resolve(t.Context(), r, done, byAnn("asked the bank"))
	require.NoError(t, err)
	require.Zero(t, s.count("load"))
}
