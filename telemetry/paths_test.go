package telemetry_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	sdkactivity "go.temporal.io/sdk/activity"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
)

// path is one way through the guard, and all that its telemetry shows of it.
type path struct {
	name   string
	policy once.Policy // by order, per workflow, unless it says a Key or Scope
	change func(*interceptor.Options)
	plain  bool           // the guard is an interceptor of the worker, not a plugin
	before func(w *world) // the call
	begun  func(w *world) // the call, but not the guard's part in it
	call   attempt
	in     *charge             // defaults to input
	body   body                // defaults to one that succeeds
	acts   func(w *world) body // in place of body

	spans   []span   // in the order in which they end
	counted string   // "outcome/error.type"
	notices []string // "notice/error.type", sorted
	events  []string // in the order in which they come
}

// span is one that a path has.
type span struct {
	kind    string // execute, duplicate, fail or wait
	failed  string // error.type
	benign  bool   // and yet no failure
	waited  string // the result of a wait
	about   attempt
	age     time.Duration // of the record that the answer rests on
	polled  bool          // the record was looked at up to two seconds before or after
	keyless bool          // no digest
}

// The series of one activity's counters that are there from its first call on.
const preparedCalls, preparedNotices = 19, 9

// unprepared are the notices that no alert is about.
func unprepared(notice string) bool {
	return !slices.Contains([]string{"conflict/", "lease_lost/", "other_run/", "same_run/", "settle_failed/", "store_forgot/", "store_lost/", "store_replaced/", "store_unsafe/"}, notice)
}

// variant is one way in which everything can be set up.
type variant struct {
	sampled     bool // the original's span
	surrounding bool // a span surrounds the call, besides the one in its header
	temporal    bool // metrics go to Temporal's handler
}

// Each pair of values is in one of them.
var variants = []variant{
	{sampled: true}, {surrounding: true}, {sampled: true, surrounding: true, temporal: true}, {temporal: true},
}

// walk goes every path, and requires that it shows as it says: in spans, metrics
// and log events, and that nothing of it reveals the secret.
func walk(t *testing.T, paths []path) {
	t.Helper()
	for _, p := range paths {
		for _, v := range variants {
			t.Run(fmt.Sprintf("%s%+v", p.name, v), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { goAlong(t, p, v) })
			})
		}
	}
}

var surrounding = trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{9}, SpanID: trace.SpanID{9}, TraceFlags: trace.FlagsSampled})

func goAlong(t *testing.T, p path, v variant) {
	t.Helper()
	w := newWorld(t, setup{policy: p.policy, temporal: v.temporal, change: p.change}, v.sampled)
	if p.before != nil {
		p.before(w)
	}
	parent := surrounding
	if !v.surrounding {
		parent = trace.SpanContext{}
	}
	w.observe(p, parent)
	w.beside.Wait()

	ended := w.spans.Ended()
	require.Len(t, w.spans.Started(), len(ended), "every span ends")
	names := []string{}
	for _, s := range ended {
		names = append(names, s.Name())
	}
	want := []string{}
	for _, s := range p.spans {
		want = append(want, "atmostonce."+s.kind+" ChargeCard")
	}
	require.Equal(t, want, names, "%v", w.err)
	for i, s := range ended {
		w.requireSpan(p, p.spans[i], s, ended[len(ended)-1], v)
	}
	w.requireTraceInRecord(p)
	w.requireMetrics(p)
	w.requireEvents(p)
	w.requireNoSecret()
}

func (w *world) requireSpan(p path, want span, s, call sdktrace.ReadOnlySpan, v variant) {
	t := w.t
	t.Helper()
	require.Equal(t, trace.SpanKindInternal, s.SpanKind())
	status := sdktrace.Status{}
	if want.failed != "" && !want.benign {
		status.Code = codes.Error // an error's text may hold input
	}
	require.Equal(t, status, s.Status(), s.Name())
	requireScope(t, s.InstrumentationScope())
	require.Empty(t, s.Events())
	switch {
	case want.kind == "wait":
		require.Equal(t, call.SpanContext().SpanID(), s.Parent().SpanID())
	case v.surrounding:
		require.Equal(t, surrounding.SpanID(), s.Parent().SpanID())
	default:
		require.Equal(t, "b7ad6b7169203331", s.Parent().SpanID().String(), "of the header")
	}
	about := want.about.original()
	if want.about != (attempt{}) && v.sampled {
		require.Len(t, s.Links(), 1, s.Name())
		link := s.Links()[0]
		require.Equal(t, originalTrace+originalSpan, link.SpanContext.TraceID().String()+link.SpanContext.SpanID().String())
		got := map[string]any{}
		for _, a := range link.Attributes {
			got[string(a.Key)] = a.Value.AsInterface()
		}
		about["atmostonce.link"] = "original"
		require.Equal(t, about, got)
		about = nil
	} else {
		require.Empty(t, s.Links(), s.Name())
	}
	got, all := attributes(s), w.attributesOf(p, want, about)
	if want.polled {
		require.InDelta(t, want.age.Seconds(), got["atmostonce.record.age"], 2)
		all["atmostonce.record.age"] = got["atmostonce.record.age"]
	}
	require.Equal(t, all, got, s.Name())
}

// original is what is shown of the attempt whose run a span is about.
func (a attempt) original() map[string]any {
	m := map[string]any{}
	if a.standalone {
		m["atmostonce.original.run_id"] = a.info(sdkactivity.Info{}, time.Now()).ActivityRunID
	}
	if a.run != "" {
		m["atmostonce.original.workflow_id"] = orderWorkflow
		m["atmostonce.original.run_id"] = a.run
	}
	if a != (attempt{}) {
		m["atmostonce.original.attempt"] = int64(max(a.number, 1))
	}
	return m
}

// attributesOf are all that a span has.
func (w *world) attributesOf(p path, want span, about map[string]any) map[string]any {
	policy := p.policy.OnDuplicate
	if policy == 0 {
		policy = once.Return
	}
	id := p.call.info(sdkactivity.Info{}, w.began)
	all := map[string]any{
		"atmostonce.policy": policy.String(), "atmostonce.store.type": "memory",
		"temporalActivityID": id.ActivityID, "temporalActivityAttempt": int64(id.Attempt),
	}
	if p.call.standalone {
		all["temporalRunID"] = id.ActivityRunID
	} else {
		all["temporalWorkflowID"], all["temporalRunID"] = id.WorkflowExecution.ID, id.WorkflowExecution.RunID
	}
	if !want.keyless {
		all["atmostonce.key.digest"] = keys.Downstream(w.key)[:16]
	}
	if want.kind == "wait" {
		all["atmostonce.wait.result"] = want.waited
	} else {
		all["atmostonce.outcome"] = map[string]string{"execute": "executed", "duplicate": "duplicate", "fail": "failed"}[want.kind]
	}
	if want.failed != "" {
		all["error.type"] = want.failed
	}
	if want.age != 0 {
		all["atmostonce.record.age"] = want.age.Seconds()
	}
	for k, v := range about {
		all[k] = v
	}
	return all
}

// requireTraceInRecord requires that later calls link to the right span.
func (w *world) requireTraceInRecord(p path) {
	r, err := w.store.Load(context.Background(), w.key)
	require.NoError(w.t, err)
	if r.Info.Trace == "" || r.Info.Trace == w.originalTraceparent() {
		return
	}
	sc := w.spans.Ended()[len(p.spans)-1].SpanContext()
	require.Equal(w.t, "00-"+sc.TraceID().String()+"-"+sc.SpanID().String()+"-01", r.Info.Trace)
}

func (w *world) requireMetrics(p path) {
	t := w.t
	require.Equal(t, map[string]int64{"ChargeCard/default-test-namespace/default-test-taskqueue/" + p.counted: 1},
		w.counts(t, "atmostonce.calls", "activity_type", "namespace", "task_queue", "atmostonce.outcome", "error.type"), "%v", w.err)
	require.Len(t, w.metric(t, "atmostonce.calls"), preparedCalls, "no series begins at 1")
	notices := []string{}
	for label, n := range w.counts(t, "atmostonce.notices", "atmostonce.notice", "error.type") {
		notices = append(notices, slices.Repeat([]string{label}, int(n))...)
	}
	slices.Sort(notices)
	require.Equal(t, append([]string{}, p.notices...), notices)
	born := preparedNotices
	for _, notice := range slices.Compact(slices.Clone(notices)) {
		if unprepared(notice) {
			born++
		}
	}
	require.Len(t, w.metric(t, "atmostonce.notices"), born, "no series that an alert is about begins at 1")
	for _, d := range observe.Metrics() {
		w.requireLabels(d)
	}
	waits := map[string]int64{}
	for _, s := range p.spans {
		if s.kind == "wait" {
			waits[s.waited]++
		}
	}
	require.Equal(t, waits, w.counts(t, "atmostonce.wait.duration", "atmostonce.wait.result"))
	if w.reader != nil {
		require.Empty(t, w.temporal.named("atmostonce"), "what is counted natively is not counted twice")
	}
}

// requireLabels requires that a metric's series have no labels and values but
// those that it is described with.
func (w *world) requireLabels(d observe.Metric) {
	for _, s := range w.metric(w.t, d.Name) {
		rest := maps.Clone(s.labels)
		for _, label := range d.Labels {
			if value, has := rest[label.Name]; has && label.Values != nil {
				require.Contains(w.t, label.Values, value, "%s of %s", label.Name, d.Name)
			}
			delete(rest, label.Name)
		}
		require.Empty(w.t, rest, d.Name)
	}
}

func (w *world) requireEvents(p path) {
	require.Equal(w.t, p.events, w.events.names())
	for _, e := range w.events.emitted() {
		inTrace := len(p.spans) == 0 || slices.ContainsFunc(w.spans.Ended(), func(s sdktrace.ReadOnlySpan) bool { return s.SpanContext().SpanID() == e.SpanID() })
		require.True(w.t, inTrace, "%s has the context of a span", e.EventName())
	}
}

var errSecret = fmt.Errorf("declined: %s", secret)

func returning(err error) body {
	return func(context.Context, charge) (any, error) { return nil, err }
}

func finding(result any, err error) once.DoubtPolicy {
	return once.Reconcile(func(context.Context, charge) (any, error) { return result, err })
}

// What has happened before a path begins.

// claimed is the original's claim, whose owner is silent.
func claimed(w *world) { w.claim() }

// alive is the original's claim, renewed beside the call.
func alive(w *world) {
	o := w.claim()
	w.beside.Go(func() { o.renew(2 * lease) })
}

func settled(f body) func(w *world) {
	return func(w *world) {
		_ = w.earlier(original, f)
		pass(time.Second)
	}
}

// doubted is a doubt that the owner declared d ago.
func doubted(d time.Duration) func(w *world) {
	return func(w *world) {
		w.claim().doubt()
		pass(d)
	}
}

// down makes the store's answer to a verb an error.
func down(verb string, err error) func(w *world) {
	return func(w *world) { w.store.fail(verb, fmt.Errorf("%w: %s", err, quotable)) }
}

// both does one thing after the other.
func both(first, second func(w *world)) func(w *world) {
	return func(w *world) {
		first(w)
		second(w)
	}
}
