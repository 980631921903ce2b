package telemetry_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"time"

	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

func onFailure(f once.FailurePolicy) once.Policy {
	return with(func(p *once.Policy) { p.OnFailure = f })
}

// ran is a path on which the body runs; errorType is of the call, "" or one of
// the guard's own.
func ran(name string, p once.Policy, f body, errorType string, events ...string) path {
	return path{
		name: name, policy: p, body: f, spans: []span{{kind: "execute", failed: errorType}},
		counted: "executed/" + errorType, events: events,
	}
}

// erred is a path on which the body returns an error that passes.
func erred(name string, p once.Policy, err error, errorType string) path {
	q := ran(name, p, returning(err), "")
	q.spans[0].failed = errorType
	return q
}

var errBenign = temporal.NewApplicationErrorWithOptions(secret, "NotYet",
	temporal.ApplicationErrorOptions{Category: temporal.ApplicationErrorCategoryBenign})

var bodyPaths = []path{
	erred("error", perOrder, errSecret, "*errors.errorString"),
	erred("application error", perOrder, errDeclined, "CardDeclined"),
	{
		name: "benign error", policy: perOrder, body: returning(errBenign),
		spans: []span{{kind: "execute", failed: "NotYet", benign: true}}, counted: "executed/",
	},
	erred("error under Lock", onFailure(once.Lock), errDeclined, "CardDeclined"),
	erred("NotDone", onFailure(once.Doubt), once.NotDone(errDeclined), "CardDeclined"),
	erred("result pending", perOrder, sdkactivity.ErrResultPending, ""),
	ran("ambiguous error", perOrder, returning(io.ErrUnexpectedEOF), "in_doubt", inDoubtEvent),
	ran("ambiguous error under Lock", onFailure(once.Lock), returning(io.ErrUnexpectedEOF), "in_doubt", inDoubtEvent),
	ran("error under Doubt", onFailure(once.Doubt), returning(errSecret), "in_doubt", inDoubtEvent),
	ran("MaybeDone", perOrder, returning(once.MaybeDone(errSecret)), "in_doubt", inDoubtEvent),
	ran("MaybeDone under Fail", under(once.Fail), returning(once.MaybeDone(errSecret)), "in_doubt", inDoubtEvent),
	ran("MaybeDone under Resume", under(once.Resume), returning(once.MaybeDone(errSecret)), "settling"),
	ran("MaybeDone under Rerun", under(once.Rerun), returning(once.MaybeDone(errSecret)), "settling"),
	ran("MaybeDone under Reconcile", under(finding(nil, errSecret)), returning(once.MaybeDone(errSecret)), "settling"),
	ran("panic", perOrder, panicking, "in_doubt", inDoubtEvent),
	ran("panic under Rerun", under(once.Rerun), panicking, "settling"),
	ran("Goexit", perOrder, exiting, "in_doubt", inDoubtEvent),
	ran("not encodable", perOrder, func(context.Context, charge) (any, error) { return make(chan int), nil }, "outcome_not_kept"),
	{
		name: "result pending in a local activity", policy: perOrder, body: returning(sdkactivity.ErrResultPending), call: attempt{local: true},
		spans: []span{{kind: "execute", failed: "in_doubt"}}, counted: "executed/in_doubt", events: []string{inDoubtEvent},
	},
	{
		name: "local activity under Resume", policy: under(once.Resume), body: returning(once.MaybeDone(errSecret)), call: attempt{local: true},
		spans: []span{{kind: "execute", failed: "in_doubt"}}, counted: "executed/in_doubt", events: []string{inDoubtEvent},
	},
	{
		name: "MaybeDone under Rerun, the last attempt", policy: under(once.Rerun), body: returning(once.MaybeDone(errSecret)), call: attempt{number: 2, last: true},
		spans: []span{{kind: "execute", failed: "in_doubt"}}, counted: "executed/in_doubt", events: []string{inDoubtEvent},
	},
	{
		name: "panic under Rerun, the last attempt", policy: under(once.Rerun), body: panicking, call: attempt{number: 2, last: true},
		spans: []span{{kind: "execute", failed: "in_doubt"}}, counted: "executed/in_doubt", events: []string{inDoubtEvent},
	},
	{
		name: "error after a takeover", policy: under(once.Rerun), before: doubted(late), body: returning(errSecret), call: retry,
		spans: []span{{kind: "execute", failed: "settling", about: original}}, counted: "executed/settling",
	},
	{
		name: "canceled in the body", policy: perOrder,
		acts: func(w *world) body {
			return func(ctx context.Context, _ charge) (any, error) {
				w.cancel(nil)
				return nil, ctx.Err()
			}
		},
		spans: []span{{kind: "execute", failed: "in_doubt"}}, counted: "executed/in_doubt", events: []string{inDoubtEvent},
	},
}

func panicking(context.Context, charge) (any, error) { panic(secret) }

func exiting(context.Context, charge) (any, error) {
	runtime.Goexit()
	return nil, nil // not reached
}

func TestPaths_Bodies(t *testing.T) {
	t.Parallel()
	walk(t, bodyPaths)
}

// lost is a path on which the store forgets the claim while the body runs, and
// lets the original have the key, which then does something.
func lost(name string, then func(w *world, o owner), f body, p path) path {
	p.name, p.policy = name, perOrder
	p.acts = func(w *world) body {
		return func(ctx context.Context, in charge) (any, error) {
			w.store.Clear()
			if then != nil {
				pass(time.Second)
				then(w, w.claim())
			}
			return f(ctx, in)
		}
	}
	return p
}

// resolved lets an operator decide about the key while the body runs, and waits
// until that has ended it.
func resolved(w *world) body {
	return func(ctx context.Context, _ charge) (any, error) {
		r, err := w.store.Load(ctx, w.key)
		if err == nil { // outside of the call, as an operator does
			_, err = w.quiet.Resolve(context.Background(), r, resolve.AsFailed(errSecret), resolve.Decision{By: "ann", Why: secret, Force: true})
		}
		if err != nil {
			return nil, err
		}
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
}

const (
	conflictEvent  = "atmostonce.record.conflict"
	leaseLostEvent = "atmostonce.lease.lost"
	storeLostEvent = "atmostonce.store.lost"
)

var supersededPaths = []path{
	lost("forgotten", nil, succeeding, path{
		spans: []span{{kind: "execute"}}, counted: "executed/", notices: []string{"store_lost/"}, events: []string{storeLostEvent},
	}),
	lost("forgotten, renewed", nil, func(context.Context, charge) (any, error) { pass(lease / 2); return secret, nil }, path{
		spans: []span{{kind: "execute"}}, counted: "executed/", notices: []string{"store_lost/", "store_lost/"}, events: []string{storeLostEvent, storeLostEvent},
	}),
	lost("success beside another run's", func(_ *world, o owner) { o.succeed() }, succeeding, path{
		spans: []span{{kind: "execute"}}, counted: "executed/", notices: []string{"conflict/"}, events: []string{conflictEvent},
	}),
	lost("error beside another run", func(*world, owner) {}, returning(errSecret), path{
		spans:   []span{{kind: "execute", failed: "in_flight", benign: true, about: original}},
		counted: "executed/in_flight", notices: []string{"lease_lost/"}, events: []string{leaseLostEvent},
	}),
	lost("error after another run's success", func(_ *world, o owner) { o.succeed() }, returning(errSecret), path{
		spans:   []span{{kind: "execute", failed: "bad_record", about: original}},
		counted: "executed/bad_record", notices: []string{"lease_lost/", "other_run/"}, events: []string{leaseLostEvent, otherRunEvent},
	}),
	lost("error after another run's doubt", func(_ *world, o owner) { o.doubt() }, returning(errSecret), path{
		spans:   []span{{kind: "execute", failed: "in_doubt", about: original}},
		counted: "executed/in_doubt", notices: []string{"lease_lost/"}, events: []string{leaseLostEvent, inDoubtEvent},
	}),
	{
		name: "resolved while it runs", policy: perOrder, acts: resolved,
		spans:   []span{{kind: "execute", failed: "in_flight", benign: true}},
		counted: "executed/in_flight", notices: []string{"lease_lost/"}, events: []string{leaseLostEvent},
	},
	{
		name: "renewals fail", policy: under(once.Rerun), before: down("renew", errors.New("no route")),
		body:  func(ctx context.Context, _ charge) (any, error) { <-ctx.Done(); return nil, context.Cause(ctx) },
		spans: []span{{kind: "execute", failed: "settling"}}, counted: "executed/settling",
		notices: []string{"lease_lost/", "renew_failed/", "renew_failed/"}, events: []string{leaseLostEvent},
	},
	{
		name: "the outcome is never written", policy: perOrder, before: down("settle", errors.New("no route")),
		spans: []span{{kind: "execute"}}, counted: "executed/",
		notices: []string{"settle_delayed/", "settle_failed/"}, events: []string{"atmostonce.record.settle_failed"},
	},
	{
		name: "an ambiguous error is never written", policy: perOrder, before: down("settle", errors.New("no route")), body: returning(io.EOF),
		spans: []span{{kind: "execute", failed: "in_doubt"}}, counted: "executed/in_doubt",
		notices: []string{"settle_delayed/", "settle_failed/"}, events: []string{inDoubtEvent, "atmostonce.record.settle_failed"},
	},
	{
		name: "a late success answers a takeover", policy: under(once.Rerun), call: retry,
		acts: func(w *world) body {
			return func(context.Context, charge) (any, error) {
				_, _ = w.store.Memory.Settle(context.Background(), w.late.bid, store.Outcome{State: store.Succeeded, Missing: "too large"})
				return nil, errSecret
			}
		},
		before: func(w *world) { w.late = w.claim(); w.late.doubt(); pass(late) },
		spans:  []span{{kind: "execute", failed: "outcome_not_kept", about: original}}, counted: "executed/outcome_not_kept",
	},
}

func TestPaths_SupersededBodies(t *testing.T) {
	t.Parallel()
	walk(t, supersededPaths)
}
