package telemetry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

var errDeclined = temporal.NewApplicationError(secret, "CardDeclined", secret)

var (
	perOrder  = once.Policy{Key: keys.From(byOrder), Scope: keys.PerWorkflow, Match: keys.Any()}
	inRunOne  = span{kind: "fail", failed: "in_flight", benign: true, about: original, age: time.Second}
	otherNote = charge{Order: secret, Note: "other " + secret}
)

// with returns perOrder with a change.
func with(change func(p *once.Policy)) once.Policy {
	p := perOrder
	change(&p)
	return p
}

func on(d once.DuplicatePolicy) once.Policy { return with(func(p *once.Policy) { p.OnDuplicate = d }) }

// claimedBefore is the original's claim of a second ago.
func claimedBefore(w *world) {
	claimed(w)
	pass(time.Second)
}

var freePaths = []path{
	{name: "absent", spans: []span{{kind: "execute"}}, counted: "executed/"},
	{
		name: "tombstone", before: settled(returning(errSecret)),
		spans: []span{{kind: "execute"}}, counted: "executed/",
	},
	{
		name: "one attempt", call: attempt{last: true},
		spans: []span{{kind: "execute"}}, counted: "executed/", notices: []string{"one_attempt/"},
	},
	{
		name: "no header", policy: once.Policy{Scope: keys.PerRun, Key: keys.From(byOrder)},
		spans: []span{{kind: "execute"}}, counted: "executed/", notices: []string{"no_header/"},
	},
	{
		name: "local activity", call: attempt{local: true},
		spans: []span{{kind: "execute"}}, counted: "executed/",
	},
	{
		name: "standalone activity", call: attempt{standalone: true}, policy: once.Policy{Scope: keys.PerNamespace, Key: keys.From(byOrder)},
		spans: []span{{kind: "execute"}}, counted: "executed/",
	},
	{
		name: "distrusted", call: attempt{run: "run-1", number: 2},
		change: func(o *interceptor.Options) { o.DistrustBefore = time.Now().Add(time.Hour) },
		spans:  []span{{kind: "fail", failed: "settling"}}, counted: "failed/settling",
	},
}

func TestPaths_FreeKeys(t *testing.T) {
	t.Parallel()
	walk(t, freePaths)
}

// firstCall is the header of the first call of its run.
const firstCall = `{"originalRunId":"run-1","firstRunId":"run-1","occurrence":1,"input":1}`

var (
	beforeReset = attempt{run: "run-1", activity: "3", header: firstCall}
	alone       = attempt{activity: "3", standalone: true}
)

var settledPaths = []path{
	{
		name: "succeeded, another run", before: settled(succeeding),
		spans: []span{{kind: "duplicate", about: original, age: time.Second}}, counted: "duplicate/",
		notices: []string{"other_run/"}, events: []string{"atmostonce.call.other_run"},
	},
	{
		name: "succeeded, the same run", before: settled(succeeding), call: repeat,
		spans: []span{{kind: "duplicate", about: original, age: time.Second}}, counted: "duplicate/",
		notices: []string{"same_run/"}, events: []string{"atmostonce.call.same_run"},
	},
	{
		name: "succeeded, a retry", before: settled(succeeding), call: retry,
		spans: []span{{kind: "duplicate", about: original, age: time.Second}}, counted: "duplicate/",
	},
	{
		name: "succeeded, per namespace", before: settled(succeeding), policy: once.Policy{Key: keys.From(byOrder), Scope: keys.PerNamespace},
		spans: []span{{kind: "duplicate", about: original, age: time.Second}}, counted: "duplicate/",
	},
	{
		name: "succeeded, a local activity", before: settled(succeeding), call: attempt{local: true},
		spans: []span{{kind: "duplicate", about: original, age: time.Second}}, counted: "duplicate/",
		notices: []string{"other_run/"}, events: []string{"atmostonce.call.other_run"},
	},
	{
		name: "failed", policy: with(func(p *once.Policy) { p.OnFailure = once.Lock }), before: settled(returning(errDeclined)), call: retry,
		spans: []span{{kind: "duplicate", failed: "CardDeclined", about: original, age: time.Second}}, counted: "duplicate/",
	},
	{
		name: "not kept", before: settled(func(context.Context, charge) (any, error) { return make([]byte, 3<<20), nil }), call: retry,
		spans: []span{{kind: "fail", failed: "outcome_not_kept", about: original, age: time.Second}}, counted: "failed/outcome_not_kept",
	},
	{
		name: "not decodable", policy: perOrder, before: func(w *world) { w.claim().succeed(); pass(time.Second) }, call: retry,
		spans: []span{{kind: "fail", failed: "bad_record", about: original, age: time.Second}}, counted: "failed/bad_record",
	},
	{
		name: "Reject another call", policy: on(once.Reject), before: settled(succeeding),
		spans: []span{{kind: "fail", failed: "duplicate", about: original, age: time.Second}}, counted: "failed/duplicate",
	},
	{
		name: "Reject the same call", policy: on(once.Reject), before: settled(succeeding), call: retry,
		spans: []span{{kind: "duplicate", about: original, age: time.Second}}, counted: "duplicate/",
	},
	{
		name: "Reject the call after a reset", policy: on(once.Reject), call: attempt{header: firstCall},
		before: func(w *world) { _ = w.earlier(beforeReset, succeeding); pass(time.Second) },
		spans:  []span{{kind: "duplicate", about: original, age: time.Second}}, counted: "duplicate/",
	},
	{
		name: "standalone", policy: once.Policy{Key: keys.From(byOrder), Scope: keys.PerNamespace}, call: attempt{standalone: true},
		before: func(w *world) { _ = w.earlier(alone, succeeding); pass(time.Second) },
		spans:  []span{{kind: "duplicate", about: alone, age: time.Second}}, counted: "duplicate/",
	},
	{
		name: "mismatch", before: settled(succeeding), in: &otherNote,
		spans: []span{{kind: "fail", failed: "mismatch", about: original, age: time.Second}}, counted: "failed/mismatch",
	},
}

func TestPaths_SettledKeys(t *testing.T) {
	t.Parallel()
	walk(t, settledPaths)
}

var heldPaths = []path{
	{
		name: "running, Return", policy: perOrder, before: claimedBefore, spans: []span{inRunOne}, counted: "failed/in_flight",
	},
	{
		name: "running, Return, a retry", policy: perOrder, before: claimedBefore, call: retry, spans: []span{inRunOne}, counted: "failed/in_flight",
	},
	{
		name: "running, Reject", policy: on(once.Reject), before: claimedBefore,
		spans: []span{{kind: "fail", failed: "duplicate", about: original, age: time.Second}}, counted: "failed/duplicate",
	},
	{
		name: "running, Reject, a retry", policy: on(once.Reject), before: claimedBefore, call: retry, spans: []span{inRunOne}, counted: "failed/in_flight",
	},
	{
		name: "running, mismatch", before: claimedBefore, in: &otherNote,
		spans: []span{{kind: "fail", failed: "mismatch", about: original, age: time.Second}}, counted: "failed/mismatch",
	},
	{
		name: "pending, another call", policy: perOrder, before: pendingFor(time.Second), spans: []span{inRunOne}, counted: "failed/in_flight",
	},
	{
		name: "pending, Reject", policy: on(once.Reject), before: pendingFor(time.Second),
		spans: []span{{kind: "fail", failed: "duplicate", about: original, age: time.Second}}, counted: "failed/duplicate",
	},
	{
		name: "pending, a retry before the attempt's end", policy: perOrder, before: pendingFor(time.Second), call: retry,
		spans: []span{{kind: "fail", failed: "settling", about: original, age: time.Second}}, counted: "failed/settling",
	},
	{
		name: "pending, a retry after the settle delay", policy: perOrder, before: pendingFor(time.Hour), call: retry,
		spans: []span{{kind: "fail", failed: "in_doubt", about: original, age: time.Hour}}, counted: "failed/in_doubt",
		events: []string{"atmostonce.record.in_doubt"},
	},
	{
		name: "worker stops", before: func(w *world) { close(w.stop) },
		spans: []span{{kind: "fail", failed: "in_flight", benign: true}}, counted: "failed/in_flight",
	},
	{
		name: "canceled before", begun: func(w *world) { w.cancel(nil) },
		spans: []span{{kind: "fail", failed: "*errors.errorString"}}, counted: "failed/",
	},
	{
		name: "canceled after the claim",
		before: func(w *world) {
			w.store.after = func(verb string) {
				if verb == "acquire" {
					w.cancel(errDeclined)
				}
			}
		},
		spans: []span{{kind: "fail", failed: "CardDeclined"}}, counted: "failed/",
	},
}

func pendingFor(d time.Duration) func(w *world) {
	return func(w *world) {
		w.claim().settle(store.Outcome{State: store.Pending})
		pass(d)
	}
}

func TestPaths_HeldKeys(t *testing.T) {
	t.Parallel()
	walk(t, heldPaths)
}

func badKey(err error) keys.Func {
	return keys.FromCall(func(keys.Call) (string, error) { return "", err })
}

var panickingKey = keys.FromCall(func(c keys.Call) (string, error) {
	if c.ActivityID != "" {
		panic(secret)
	}
	return "key", nil // of the test itself
})

var brokenPaths = []path{
	{
		name: "store down", before: down("acquire", context.DeadlineExceeded),
		spans: []span{{kind: "fail", failed: "store_down"}}, counted: "failed/store_down",
	},
	{
		name: "store full", before: down("acquire", store.ErrFull),
		spans: []span{{kind: "fail", failed: "store_down"}}, counted: "failed/store_down",
	},
	{
		name: "corrupt record", before: down("acquire", store.ErrCorrupt),
		spans: []span{{kind: "fail", failed: "bad_record"}}, counted: "failed/bad_record",
	},
	{
		name: "store refuses the call", before: down("acquire", store.ErrInvalid),
		spans: []span{{kind: "fail", failed: "bad_setup"}}, counted: "failed/bad_setup",
	},
	{
		name: "bad key", policy: once.Policy{Scope: keys.PerWorkflow, Key: badKey(errSecret)},
		spans: []span{{kind: "fail", failed: "bad_key", keyless: true}}, counted: "failed/bad_key",
	},
	{
		name: "the key function panics", policy: once.Policy{Scope: keys.PerWorkflow, Key: panickingKey},
		spans: []span{{kind: "fail", failed: "bad_key", keyless: true}}, counted: "failed/bad_key",
	},
	{
		name: "bad set-up", plain: true, change: func(o *interceptor.Options) { o.DataConverter = nil },
		spans: []span{{kind: "fail", failed: "bad_setup", keyless: true}}, counted: "failed/bad_setup",
	},
	{
		name: "skip", policy: once.Policy{Scope: keys.PerWorkflow, Key: badKey(keys.ErrSkip)}, body: returning(errSecret),
		counted: "skipped/",
	},
}

func TestPaths_Broken(t *testing.T) {
	t.Parallel()
	walk(t, brokenPaths)
}

func inMode(m once.Mode) func(*interceptor.Options) {
	return func(o *interceptor.Options) { o.Mode = func(string) once.Mode { return m } }
}

const observedEvent = "atmostonce.call.observed"

// observing is a path in Mode Observe, in which the body runs.
func observing(name string, p path) path {
	p.name, p.change, p.counted = "Observe, "+name, inMode(once.Observe), "executed/"
	if len(p.notices) > 0 {
		p.events = append(p.events, observedEvent)
	}
	return p
}

var modePaths = []path{
	{name: "Off", change: inMode(once.Off), before: claimed, counted: "skipped/"},
	{
		name: "Off, bad key", change: inMode(once.Off), policy: once.Policy{Scope: keys.PerWorkflow, Key: badKey(errSecret)},
		body: returning(errSecret), counted: "skipped/",
	},
	observing("absent", path{spans: []span{{kind: "execute"}}}),
	observing("doubt", path{body: returning(once.MaybeDone(errSecret)), spans: []span{{kind: "execute", failed: "*errors.errorString"}}}),
	observing("succeeded", path{before: settled(succeeding), spans: []span{{kind: "execute", about: original}}, notices: []string{"observed/"}}),
	observing("rejected", path{
		policy: on(once.Reject), before: settled(succeeding),
		spans: []span{{kind: "execute", about: original}}, notices: []string{"observed/duplicate"},
	}),
	observing("mismatch", path{
		before: settled(succeeding), in: &otherNote,
		spans: []span{{kind: "execute", about: original}}, notices: []string{"observed/mismatch"},
	}),
	observing("running", path{
		policy: perOrder, before: claimed,
		spans: []span{{kind: "execute", about: original}}, notices: []string{"observed/in_flight"},
	}),
	observing("in doubt", path{
		policy: perOrder, before: doubted(time.Hour), call: retry,
		spans: []span{{kind: "execute", about: original}}, notices: []string{"observed/in_doubt"},
	}),
	observing("store down", path{
		before: down("acquire", errors.New("no route")),
		spans:  []span{{kind: "execute"}}, notices: []string{"observed/store_down"},
	}),
	observing("corrupt record", path{
		before: down("acquire", store.ErrVersion),
		spans:  []span{{kind: "execute"}}, notices: []string{"observed/bad_record"},
	}),
	observing("store refuses the call", path{
		before: down("acquire", store.ErrInvalid),
		spans:  []span{{kind: "execute"}}, notices: []string{"observed/bad_setup"},
	}),
	{
		name: "Observe, bad key", change: inMode(once.Observe), policy: once.Policy{Scope: keys.PerWorkflow, Key: badKey(errors.New(quotable))},
		counted: "skipped/", notices: []string{"observed/bad_key"}, events: []string{observedEvent},
	},
	{
		name: "Observe, a body that panics", change: inMode(once.Observe), body: func(context.Context, charge) (any, error) { panic(secret) },
		spans: []span{{kind: "execute", failed: "panic"}}, counted: "executed/",
	},
	{
		name: "Observe, skip", change: inMode(once.Observe), policy: once.Policy{Scope: keys.PerWorkflow, Key: badKey(keys.ErrSkip)},
		counted: "skipped/",
	},
}

func TestPaths_Modes(t *testing.T) {
	t.Parallel()
	walk(t, modePaths)
}
