package telemetry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/store"
)

func under(d once.DoubtPolicy) once.Policy { return with(func(p *once.Policy) { p.InDoubt = d }) }

const inDoubtEvent = "atmostonce.record.in_doubt"

// doubtful is a path on which a record in doubt is not decided about.
func doubtful(name string, d once.DoubtPolicy, since time.Duration, call attempt, errorType string) path {
	p := path{
		name: name, policy: under(d), before: doubted(since), call: call,
		spans: []span{{kind: "fail", failed: errorType, about: original, age: since}}, counted: "failed/" + errorType,
	}
	if errorType == "in_doubt" {
		p.events = []string{inDoubtEvent}
	}
	return p
}

// overtaken is a path on which the body runs although an earlier run is in doubt.
func overtaken(name string, d once.DoubtPolicy, call attempt, notices ...string) path {
	return path{
		name: name, policy: under(d), before: doubted(time.Minute), call: call,
		spans: []span{{kind: "execute", about: original}}, counted: "executed/", notices: notices,
	}
}

const early, late = settleDelay - time.Second, time.Minute

var (
	other     = attempt{}
	lastRetry = attempt{run: "run-1", activity: "3", number: 2, last: true}
)

var undecidedPaths = []path{
	doubtful("Hold, early", once.Hold, early, other, "settling"),
	doubtful("HoldFor, early", once.HoldFor(time.Second), early, other, "settling"),
	doubtful("Fail, early", once.Fail, early, other, "settling"),
	doubtful("Resume, early", once.Resume, early, retry, "settling"),
	doubtful("Rerun, early", once.Rerun, early, other, "settling"),
	doubtful("Reconcile, early", finding(secret, nil), early, other, "settling"),
	doubtful("Hold", once.Hold, late, other, "in_doubt"),
	doubtful("Hold, a retry", once.Hold, late, retry, "in_doubt"),
	doubtful("Hold, the last attempt", once.Hold, late, lastRetry, "in_doubt"),
	doubtful("HoldFor, before its end", once.HoldFor(time.Hour), late, other, "in_doubt"),
	doubtful("HoldFor, after its end", once.HoldFor(time.Minute), late, other, "in_doubt"),
	doubtful("Fail", once.Fail, late, other, "in_doubt"),
	doubtful("Resume, another call", once.Resume, late, other, "in_doubt"),
	{
		name: "a Reconcile function that panics", policy: under(once.Reconcile(func(context.Context, charge) (any, error) { panic(secret) })),
		before: doubted(late),
		spans:  []span{{kind: "fail", failed: "in_doubt", about: original, age: late}}, counted: "failed/in_doubt", events: []string{inDoubtEvent},
	},
	{
		name: "Reject", policy: with(func(p *once.Policy) { p.OnDuplicate, p.InDoubt = once.Reject, once.Fail }), before: doubted(late),
		spans: []span{{kind: "fail", failed: "in_doubt", about: original, age: late}}, counted: "failed/in_doubt", events: []string{inDoubtEvent},
	},
	{
		name: "Fail, waited out on the last attempt", policy: under(once.Fail), before: doubted(early), call: lastRetry,
		spans:   []span{waited("owner_lost"), {kind: "fail", failed: "in_doubt", about: original, age: settleDelay, polled: true}},
		counted: "failed/in_doubt", events: []string{inDoubtEvent},
	},
	{
		name: "Fail, no time to wait it out", policy: under(once.Fail), before: doubted(0), call: attempt{run: "run-1", activity: "3", number: 2, last: true, within: 20 * time.Second},
		spans: []span{{kind: "fail", failed: "in_doubt", about: original}}, counted: "failed/in_doubt", events: []string{inDoubtEvent},
	},
	{
		name: "Rerun, the worker stops", policy: under(once.Rerun), before: both(doubted(late), func(w *world) { close(w.stop) }),
		spans: []span{{kind: "fail", failed: "settling", about: original, age: late}}, counted: "failed/settling",
	},
	{
		name: "marked by the store", policy: perOrder, before: both(claimed, func(*world) { pass(lease) }), call: retry,
		spans: []span{{kind: "fail", failed: "settling", about: original, age: lease}}, counted: "failed/settling",
	},
}

func TestPaths_UndecidedDoubts(t *testing.T) {
	t.Parallel()
	walk(t, undecidedPaths)
}

var decidedPaths = []path{
	overtaken("Resume, a retry", once.Resume, retry),
	overtaken("Rerun", once.Rerun, other),
	overtaken("Rerun, the last attempt", once.Rerun, lastRetry),
	overtaken("Reconcile, not done", finding(nil, once.ErrNotDone), other, "reconciled/"),
	{
		name: "Reconcile, found", policy: under(finding(secret, nil)), before: doubted(late), call: retry,
		spans: []span{{kind: "duplicate", about: original, age: late}}, counted: "duplicate/", notices: []string{"reconciled/"},
	},
	{
		name: "Reconcile, found for another call", policy: under(finding(secret, nil)), before: doubted(late),
		spans: []span{{kind: "duplicate", about: original, age: late}}, counted: "duplicate/",
		notices: []string{"other_run/", "reconciled/"}, events: []string{otherRunEvent},
	},
	{
		name: "Reconcile, found what cannot be encoded", policy: under(finding(make(chan int), nil)), before: doubted(late), call: retry,
		spans: []span{{kind: "fail", failed: "outcome_not_kept", about: original, age: late}}, counted: "failed/outcome_not_kept",
		notices: []string{"reconciled/"},
	},
	{
		name: "Reconcile, no answer", policy: under(finding(nil, errSecret)), before: doubted(late),
		spans: []span{{kind: "fail", failed: "in_doubt", about: original, age: late}}, counted: "failed/in_doubt",
		notices: []string{"reconciled/"}, events: []string{inDoubtEvent},
	},
	{
		name: "Reconcile, no answer on the last attempt", policy: under(finding(nil, errSecret)), before: doubted(late), call: lastRetry,
		spans: []span{{kind: "fail", failed: "in_doubt", about: original, age: late}}, counted: "failed/in_doubt",
		notices: []string{"reconciled/"}, events: []string{inDoubtEvent},
	},
	{
		name: "takeover, store down", policy: under(once.Rerun), before: both(doubted(late), down("takeover", errors.New("no route"))),
		spans: []span{{kind: "fail", failed: "store_down", about: original}}, counted: "failed/store_down",
	},
	{
		name: "takeover, the owner was faster", policy: under(once.Rerun), call: retry,
		before: func(w *world) {
			o := w.claim()
			o.doubt()
			pass(late)
			w.store.before(func(verb string) error {
				if verb == "takeover" {
					o.settle(store.Outcome{State: store.Succeeded, Missing: "too large"})
				}
				return nil
			})
		},
		spans: []span{waited("outcome_not_kept"), {kind: "fail", failed: "outcome_not_kept", about: original, age: late, polled: true}}, counted: "failed/outcome_not_kept",
	},
	{
		name: "takeover, the original was faster", policy: under(once.Rerun),
		before: func(w *world) {
			r := w.claimedBy("run-0").doubt()
			pass(late)
			w.store.before(func(verb string) error {
				if verb == "takeover" {
					w.takeOver(r).settle(store.Outcome{State: store.Succeeded, Missing: "too large"})
				}
				return nil
			})
		},
		spans: []span{waited("outcome_not_kept"), {kind: "fail", failed: "outcome_not_kept", about: original}}, counted: "failed/outcome_not_kept",
		notices: []string{"other_run/"}, events: []string{otherRunEvent},
	},
}

func TestPaths_DecidedDoubts(t *testing.T) {
	t.Parallel()
	walk(t, decidedPaths)
}
