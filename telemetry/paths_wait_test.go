package telemetry_test

import (
	"context"
	"testing"
	"time"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/store"
)

var waiting = on(once.Wait)

func waitingUnder(d once.DoubtPolicy) once.Policy {
	return with(func(p *once.Policy) { p.OnDuplicate, p.InDoubt = once.Wait, d })
}

// owned lets the original have the key, and does something about that a second
// after the call began.
func owned(then func(w *world, o owner)) func(w *world) {
	return func(w *world) {
		o := w.claim()
		w.beside.Go(func() {
			pass(time.Second)
			then(w, o)
		})
	}
}

// ending is an original that ends a second after the call began.
func ending(f body) func(w *world) {
	return func(w *world) {
		started := make(chan struct{})
		w.beside.Go(func() {
			_ = w.earlier(original, func(ctx context.Context, in charge) (any, error) {
				close(started)
				pass(time.Second)
				return f(ctx, in)
			})
		})
		<-started
	}
}

func waited(result string) span { return span{kind: "wait", waited: result, about: original} }

const otherRunEvent = "atmostonce.call.other_run"

var waitPaths = []path{
	{
		name: "settled", policy: waiting, before: ending(succeeding),
		spans:   []span{waited("completed"), {kind: "duplicate", about: original, age: time.Second, polled: true}},
		counted: "duplicate/", notices: []string{"other_run/"}, events: []string{otherRunEvent},
	},
	{
		name: "failed", policy: with(func(p *once.Policy) { p.OnDuplicate, p.OnFailure = once.Wait, once.Lock }), before: ending(returning(errDeclined)),
		spans:   []span{waited("failed"), {kind: "duplicate", failed: "CardDeclined", about: original, age: time.Second, polled: true}},
		counted: "duplicate/", notices: []string{"other_run/"}, events: []string{otherRunEvent},
	},
	{
		name: "released", policy: waiting, before: ending(returning(errSecret)),
		spans: []span{waited("released"), {kind: "execute"}}, counted: "executed/",
	},
	{
		name: "released too late to run", policy: waiting, call: attempt{within: time.Minute},
		before: owned(func(_ *world, o owner) { pass(40 * time.Second); o.release() }),
		spans:  []span{waited("timeout"), {kind: "fail", failed: "in_flight", benign: true, about: original, age: 41 * time.Second, polled: true}}, counted: "failed/in_flight",
	},
	{
		name: "released on the last attempt, late", policy: waiting, call: attempt{within: time.Minute, number: 2, last: true},
		before: owned(func(_ *world, o owner) { pass(40 * time.Second); o.release() }),
		spans:  []span{waited("released"), {kind: "execute"}}, counted: "executed/",
	},
	{
		name: "in doubt", policy: waiting, before: owned(func(_ *world, o owner) { o.doubt() }),
		spans: []span{waited("owner_lost"), {kind: "fail", failed: "settling", about: original, age: time.Second, polled: true}}, counted: "failed/settling",
	},
	{
		name: "lease over", policy: waiting, before: claimed,
		spans: []span{waited("owner_lost"), {kind: "fail", failed: "settling", about: original, age: time.Minute, polled: true}}, counted: "failed/settling",
	},
	{
		name: "taken over on the last attempt", policy: waitingUnder(once.Rerun), before: owned(func(_ *world, o owner) { o.doubt() }),
		call:  attempt{number: 2, last: true},
		spans: []span{waited("owner_lost"), {kind: "execute", about: original}}, counted: "executed/",
	},
	{
		name: "found on the last attempt", policy: waitingUnder(finding(secret, nil)), before: owned(func(_ *world, o owner) { o.doubt() }),
		call:    attempt{number: 2, last: true},
		spans:   []span{waited("owner_lost"), {kind: "duplicate", about: original, age: settleDelay + time.Second, polled: true}},
		counted: "duplicate/", notices: []string{"other_run/", "reconciled/"}, events: []string{otherRunEvent},
	},
	{
		name: "own deadline", policy: waiting, before: alive, call: attempt{within: 50 * time.Second},
		spans: []span{waited("timeout"), {kind: "fail", failed: "in_flight", benign: true, about: original, age: 45 * time.Second, polled: true}}, counted: "failed/in_flight",
	},
	{
		name: "last attempt under Return", policy: perOrder, before: ending(succeeding), call: attempt{number: 2, last: true},
		spans:   []span{waited("completed"), {kind: "duplicate", about: original, age: time.Second, polled: true}},
		counted: "duplicate/", notices: []string{"other_run/"}, events: []string{otherRunEvent},
	},
	{
		name: "pending, last attempt of another call", policy: perOrder, before: pendingFor(time.Second), call: attempt{number: 2, last: true, within: 50 * time.Second},
		spans: []span{waited("timeout"), {kind: "fail", failed: "in_flight", about: original, age: 46 * time.Second, polled: true}}, counted: "failed/in_flight",
	},
	{
		name: "canceled", policy: waiting, before: owned(func(w *world, _ owner) { w.cancel(nil) }),
		spans: []span{waited("cancelled"), {kind: "fail", failed: "*errors.errorString", about: original, age: time.Second, polled: true}}, counted: "failed/",
	},
	{
		name: "worker stops", policy: waiting, before: owned(func(w *world, _ owner) { close(w.stop) }),
		spans: []span{waited("stopped"), {kind: "fail", failed: "in_flight", benign: true, about: original, age: time.Second, polled: true}}, counted: "failed/in_flight",
	},
	{
		name: "store down", policy: waiting, before: owned(func(w *world, _ owner) { down("acquire", context.DeadlineExceeded)(w) }),
		spans: []span{waited("store_down"), {kind: "fail", failed: "store_down"}}, counted: "failed/store_down",
	},
	{
		name: "corrupt record", policy: waiting, before: owned(func(w *world, _ owner) { down("acquire", store.ErrCorrupt)(w) }),
		spans: []span{waited("bad_record"), {kind: "fail", failed: "bad_record"}}, counted: "failed/bad_record",
	},
}

func TestPaths_Waits(t *testing.T) {
	t.Parallel()
	walk(t, waitPaths)
}
