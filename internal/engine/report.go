package engine

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/atmostonce/atmostonce/observe"
)

// reporter takes what is reported to the observers, the metrics and the log.
type reporter struct {
	kind      string // of the store
	observers []*observer
	recorder  func(context.Context, observe.Measurement) // of an observer; nil: the sink takes them
	sink      Sink
	repeats   repeats
	prepared  sync.Map // preparation → true
}

func newReporter(kind string, observers []observe.Observer, sink Sink) *reporter {
	r := &reporter{kind: kind, observers: newObservers(observers), sink: sink}
	for _, o := range r.observers { // the first one that wants the measurements has them
		if records, ok := o.Observer.(observe.Recorder); ok && r.recorder == nil {
			var recorder func(context.Context, observe.Measurement)
			if bounded(context.Background(), o, func() { recorder = records.Recorder() }) {
				r.recorder = recorder
			}
		}
	}
	return r
}

// span is something that has begun, and is to end.
type span struct {
	reporter *reporter
	ctx      context.Context
	began    time.Time
	ends     []func(observe.Event) // of the observers
}

// begin reports something that starts. It returns the traceparent of the first
// observer that traces, if it is a call.
func (r *reporter) begin(ctx context.Context, e observe.Event) (bctx context.Context, traceparent string, s span) {
	s = span{reporter: r, ctx: ctx, began: time.Now(), ends: make([]func(observe.Event), 0, len(r.observers))}
	e.Store = r.kind
	for _, o := range r.observers {
		var t string
		var end func(observe.Event)
		ctx, t, end = o.begin(ctx, e)
		traceparent = cmp.Or(traceparent, t)
		s.ends = append(s.ends, end)
	}
	return ctx, traceparent, s
}

// end reports the end.
func (s span) end(e observe.Event) {
	e.Took, e.Store = time.Since(s.began), s.reporter.kind
	s.reporter.warn(s.ctx, e)
	for _, end := range s.ends {
		end(e)
	}
}

// report reports what has no duration.
func (r *reporter) report(ctx context.Context, e observe.Event) {
	e.Store, e.Repeated = r.kind, r.repeats.isRepeat(e)
	r.warn(ctx, e)
	for _, o := range r.observers {
		o.report(ctx, e)
	}
}

// measure hands m to whoever takes the measurements.
func (r *reporter) measure(ctx context.Context, m observe.Measurement) {
	r.measureAt(ctx, r.destination(ctx), m)
}

func (r *reporter) destination(ctx context.Context) (to any) {
	if r.recorder == nil {
		to = r.sink.Destination(ctx)
	}
	return to
}

func (r *reporter) measureAt(ctx context.Context, to any, m observe.Measurement) {
	defer func() { _ = recover() }() // what takes metrics must not change an answer
	if r.recorder != nil {
		r.recorder(ctx, m)
		return
	}
	r.sink.Measure(ctx, to, m)
}

// everywhere hands m, which is about no call, to whoever takes the measurements of
// any.
func (r *reporter) everywhere(ctx context.Context, m observe.Measurement) {
	all := []any{nil}
	if r.recorder == nil {
		all = r.sink.All()
	}
	for _, to := range all {
		r.measureAt(ctx, to, m)
	}
}

// Place is where calls are, as metrics have it.
type Place struct{ Namespace, Queue, Activity string }

type preparation struct {
	to    any
	place Place
}

// warn logs what somebody should look into. The logger must not block; a panic in it
// is swallowed.
func (r *reporter) warn(ctx context.Context, e observe.Event) {
	quietly(func() {
		if logger := r.sink.Logger(ctx); logger != nil {
			write(logger, e)
		}
	})
}

// subject says what e is about. The logger of an activity names it already.
func subject(e observe.Event) []any {
	if ofActivity := e.ActivityID != "" || e.RunID == ""; ofActivity {
		return []any{"KeyDigest", e.Digest}
	}
	return []any{"Function", e.Activity, "KeyDigest", e.Digest}
}

func write(logger Logger, e observe.Event) {
	if e.Repeated {
		return
	}
	what := e.Warning()
	if e.Settling && (e.Kind == observe.KindExecute || e.Kind == observe.KindFail) {
		logger.Info("atmostonce: in doubt for now; nothing is decided before the settle delay is over", subject(e)...)
	}
	if what == "" {
		return
	}
	fields := append([]any{"Notice", string(what)}, append(subject(e), "Remedy", e.Remedy())...)
	if h := e.Record.Info.Holder; h.WorkflowID != "" {
		fields = append(fields, "HolderWorkflowID", h.WorkflowID, "HolderRunID", h.RunID)
	}
	if e.Kind == observe.KindNotice && e.Reason != "" {
		fields = append(fields, "Reason", string(e.Reason))
	}
	if e.Kind == observe.KindNotice && e.Err != nil {
		fields = append(fields, "Error", e.Err)
	}
	logger.Warn("atmostonce: "+string(what), fields...)
}
