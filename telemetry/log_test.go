package telemetry_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/telemetry"
)

func TestEvents_SayWhatSomebodyShouldLookInto(t *testing.T) {
	t.Parallel()
	own := func(w *world) map[string]any {
		return map[string]any{
			"activity_type": "ChargeCard", "atmostonce.key.digest": keys.Downstream(w.key)[:16],
			"temporalWorkflowID": orderWorkflow, "temporalRunID": "run-2", "temporalActivityID": "4", "temporalActivityAttempt": int64(1),
		}
	}
	for name, c := range map[string]struct {
		path     path
		severity log.Severity
		about    attempt
	}{
		inDoubtEvent:                      {path{policy: under(once.Fail), before: doubted(late)}, log.SeverityError, original},
		leaseLostEvent:                    {lost("", func(*world, owner) {}, returning(errSecret), path{}), log.SeverityWarn, original},
		conflictEvent:                     {lost("", func(_ *world, o owner) { o.succeed() }, succeeding, path{}), log.SeverityError, original},
		storeLostEvent:                    {lost("", nil, succeeding, path{}), log.SeverityError, attempt{}},
		observedEvent:                     {path{policy: perOrder, before: claimed, change: inMode(once.Observe)}, log.SeverityWarn, original},
		otherRunEvent:                     {path{before: settled(succeeding)}, log.SeverityWarn, original},
		"atmostonce.record.settle_failed": {path{before: down("settle", errors.New("no route"))}, log.SeverityWarn, attempt{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, setup{policy: c.path.policy, change: c.path.change}, true)
				if c.path.before != nil {
					c.path.before(w)
				}
				before := time.Now()
				w.observe(c.path, surrounding)
				all := w.events.emitted()
				require.Len(t, all, 1)
				e := all[0]
				require.Equal(t, name, e.EventName())
				require.Equal(t, c.severity, e.Severity())
				require.Greater(t, len(e.Body().AsString()), 20, "what to do about it")
				require.False(t, e.Timestamp().Before(before))
				requireScope(t, e.InstrumentationScope())
				want := own(w)
				if name == observedEvent {
					want["error.type"] = "in_flight"
				}
				for k, v := range c.about.original() {
					want[k] = v
				}
				require.Equal(t, want, attributesOfEvent(e))
				call := w.spans.Ended()[0]
				require.Equal(t, call.SpanContext().SpanID(), e.SpanID())
				require.Equal(t, call.SpanContext().TraceID(), e.TraceID())
			})
		})
	}
}

func attributesOfEvent(e sdklog.Record) map[string]any {
	m := map[string]any{}
	e.WalkAttributes(func(a attribute.KeyValue) bool {
		m[string(a.Key)] = a.Value.AsInterface()
		return true
	})
	return m
}

func TestEvents_TellOfTheStore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err      error
		severity log.Severity
	}{
		"atmostonce.store.forgot":   {store.ErrForgot, log.SeverityError},
		"atmostonce.store.replaced": {store.ErrReplaced, log.SeverityWarn},
		"atmostonce.store.unsafe":   {store.ErrUnsafe, log.SeverityError},
	} {
		b := newBench(t, setup{store: checked{store.NewMemory(store.MemoryOptions{}), c.err}})
		b.plain = true // a worker with a plugin does not start on each of these
		require.NoError(t, b.call(done, charge{Order: "7"}))
		all := b.events.emitted()
		require.Len(t, all, 1)
		require.Equal(t, name, all[0].EventName())
		require.Equal(t, c.severity, all[0].Severity())
		require.Equal(t, map[string]int64{"check/": 1}, only(b.counts(t, "atmostonce.store.operation.duration", "atmostonce.store.operation", "error.type"), "check/"), "it did answer")
	}
}

func only(counts map[string]int64, label string) map[string]int64 {
	return map[string]int64{label: counts[label]}
}

// checked is a store that knows what is wrong with it.
type checked struct {
	store.Store
	err error
}

func (c checked) Check(context.Context) error { return c.err }

func TestEvents_TellOfAResolution(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, setup{policy: perOrder}, true)
		_, err := w.guard.Resolve(t.Context(), w.claim().doubt(), resolve.AsDone(secret), resolve.Decision{By: secret, Why: secret})
		require.NoError(t, err)
		all := w.events.emitted()
		require.Len(t, all, 1)
		require.Equal(t, "atmostonce.record.resolved", all[0].EventName())
		require.Equal(t, log.SeverityInfo, all[0].Severity())
		require.Equal(t, map[string]any{
			"activity_type": "ChargeCard", "atmostonce.key.digest": keys.Downstream(w.key)[:16],
			"temporalWorkflowID": orderWorkflow, "temporalRunID": "run-1", "temporalActivityID": "3", "temporalActivityAttempt": int64(1),
		}, attributesOfEvent(all[0]))
		require.Equal(t, map[string]int64{"ChargeCard/resolved": 1}, w.counts(t, "atmostonce.notices", "activity_type", "atmostonce.notice"))
		require.NotContains(t, w.exported(t), secret)
	})
}

func TestEvents_TellWhoHadARecordErased(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, setup{policy: perOrder}, true)
		r, err := w.guard.Resolve(t.Context(), w.claim().doubt(), resolve.AsFailed(errSecret), resolve.Decision{By: secret, Why: secret})
		require.NoError(t, err)
		pass(time.Hour)
		_, err = w.guard.Forget(t.Context(), r, resolve.Decision{By: "ann", Why: "request 4711"})
		require.NoError(t, err)
		all := w.events.emitted()
		require.Len(t, all, 2)
		require.Equal(t, "atmostonce.record.erased", all[1].EventName())
		require.Equal(t, log.SeverityInfo, all[1].Severity())
		require.Equal(t, map[string]any{
			"activity_type": "ChargeCard", "atmostonce.key.digest": keys.Downstream(w.key)[:16],
			"atmostonce.decision.by": "ann", "atmostonce.decision.why": "request 4711",
		}, attributesOfEvent(all[1]))
		require.Equal(t, map[string]int64{"ChargeCard/resolved": 1, "ChargeCard/erased": 1}, w.counts(t, "atmostonce.notices", "activity_type", "atmostonce.notice"))
		require.NotContains(t, w.exported(t), secret)
	})
}

func TestEvents_AreNotWithoutALoggerProvider(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{policy: once.Policy{InDoubt: once.Fail}, noEvents: true})
	require.Error(t, b.call(failing(once.MaybeDone(errors.New("no answer"))), charge{Order: "7"}))
	require.Empty(t, b.events.emitted())
	require.Len(t, b.lines.containing("WARN atmostonce: in_doubt"), 1, "the worker's log has it in any case")
}

func TestEvents_AreNotMadeForALoggerThatIsOff(t *testing.T) {
	t.Parallel()
	off := &deaf{}
	g := newGuard(t, setup{}, telemetry.NewOTel(telemetry.Options{LoggerProvider: sdklog.NewLoggerProvider(sdklog.WithProcessor(off))}))
	b := &bench{guard: g, temporal: newHandler(), lines: &lines{}}
	require.Error(t, b.call(failing(once.MaybeDone(errors.New("no answer"))), charge{Order: "7"}))
	require.Empty(t, off.emitted())
}

// deaf is a processor that wants nothing.
type deaf struct{ events }

func (*deaf) Enabled(context.Context, sdklog.EnabledParameters) bool { return false }

func TestEvents_AreNotMadeWhileItSettles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, setup{policy: under(once.Fail)}, true)
		doubted(early)(w)
		w.observe(path{}, surrounding)
		require.Empty(t, w.events.emitted())
		require.Len(t, w.lines.containing("INFO atmostonce: in doubt for now"), 1)
		require.Empty(t, w.lines.containing("WARN atmostonce"))
		pass(settleDelay)
		w.observe(path{}, surrounding)
		require.Equal(t, []string{inDoubtEvent}, w.events.names())
		require.Len(t, w.lines.containing("WARN atmostonce: in_doubt"), 1)
	})
}

// What is read at night ends in the command, with the digest that it takes.
func TestLog_EndsInTheCommandThatSettlesIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]path{
		"in_doubt":      {policy: under(once.Fail), before: doubted(settleDelay)},
		"settle_failed": {before: down("settle", errors.New("no route"))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, setup{policy: c.policy, change: c.change}, true)
				c.before(w)
				w.observe(c, surrounding)
				command := "temporal atmostonce show " + keys.Downstream(w.key)[:16]
				warned := w.lines.containing("WARN atmostonce: " + name)
				require.Len(t, warned, 1)
				require.Contains(t, warned[0], command)
				all := w.events.emitted()
				require.Len(t, all, 1)
				require.Regexp(t, command+"$", all[0].Body().AsString())
			})
		})
	}
}

func TestLog_WarnsOfASecondEqualCallInARun(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{})
	require.NoError(t, b.call(done, charge{Order: "7"}))
	require.Empty(t, b.lines.containing("WARN"))
	require.NoError(t, b.call(done, charge{Order: "7"}))
	warned := b.lines.containing("WARN atmostonce: same_run")
	require.Len(t, warned, 1)
	require.Contains(t, warned[0], "if both are meant, use a Key, or keys.PerCall")
	require.Contains(t, warned[0], "HolderWorkflowID default-test-workflow-id")
	require.Contains(t, warned[0], "KeyDigest "+attributes(b.span(t, "atmostonce.execute ChargeCard"))["atmostonce.key.digest"].(string))
}

func TestLog_SaysWhatEnforceWouldHaveDone(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{policy: once.Policy{OnDuplicate: once.Reject}, change: inMode(once.Observe)})
	for range 2 {
		require.NoError(t, b.call(done, charge{Order: "7"}))
	}
	require.Regexp(t, `Reason atmostonce.Duplicate`, b.lines.containing("WARN atmostonce: observed")[0])
}

func TestLog_TellsOfAnActivityTypeOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{policy: once.Policy{Scope: keys.PerRun}})
	for i := range 2 {
		require.NoError(t, b.call(done, charge{Order: strconv.Itoa(i)}))
	}
	warned := b.lines.containing("WARN atmostonce: no_header")
	require.Len(t, warned, 1)
	require.Regexp(t, `KeyDigest [0-9a-f]{16} Remedy .{20,}`, warned[0])
	require.Equal(t, map[string]int64{"no_header": 2}, b.counts(t, "atmostonce.notices", "atmostonce.notice"), "each is counted")
}

func TestLog_QuotesTheErrorOfTheStore(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{store: checked{store.NewMemory(store.MemoryOptions{}), store.ErrForgot}})
	b.plain = true
	require.NoError(t, b.call(done, charge{Order: "7"}))
	require.Len(t, b.lines.containing("WARN atmostonce: store_forgot"), 1)
	require.Regexp(t, `Remedy .{20,} Error .*records were lost`, b.lines.containing("store_forgot")[0])
}

// What has weight in one log has it in the other, what is about the activity
// type alone excepted.
func TestLog_AndEventsTellTheSame(t *testing.T) {
	t.Parallel()
	for _, notice := range append(observe.Notices(), "in_doubt") {
		e := observe.Event{Kind: observe.KindNotice, Notice: notice, Activity: "ChargeCard"}
		if notice == "in_doubt" {
			e = observe.Event{Kind: observe.KindFail, Reason: once.InDoubt, Activity: "ChargeCard"}
		}
		all := &events{}
		o := telemetry.NewOTel(telemetry.Options{LoggerProvider: sdklog.NewLoggerProvider(sdklog.WithProcessor(all))})
		_, end := o.Begin(t.Context(), e)
		end(e)
		weighty := observe.Remedy(notice) != "" && notice != observe.NoHeader && notice != observe.OneAttempt &&
			notice != observe.PolicyDefeated && notice != observe.Overruled
		require.Equal(t, weighty || notice == observe.Resolved || notice == observe.Erased, len(all.names()) == 1, notice)
	}
}
