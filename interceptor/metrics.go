package interceptor

import (
	"context"
	"time"

	once "github.com/atmostonce/atmostonce/activity"
)

// Metric describes what the guard measures under one name.
type Metric struct {
	// Name has dots between its parts; Temporal's metrics handler gets underscores.
	Name        string
	Kind        MetricKind
	Unit        string // as UCUM has it: s for seconds, {call} for a count of calls
	Description string
	Labels      []Label   // of every series
	Buckets     []float64 // of a Histogram: upper bounds in seconds
}

// MetricKind says what a metric is.
type MetricKind uint8

// The kinds of Metric.
const (
	Counter   MetricKind = iota + 1 // see Measurement.Count
	Histogram                       // see Measurement.Duration
	Gauge                           // see Measurement.Value
)

// Label is one dimension of a metric.
type Label struct {
	Name   string
	Values []string // that it can have, besides none; nil: they are the user's
}

const (
	calls         = "atmostonce.calls"
	notices       = "atmostonce.notices"
	waitDuration  = "atmostonce.wait.duration"
	storeDuration = "atmostonce.store.operation.duration"
	openRecords   = "atmostonce.records"
	recordAge     = "atmostonce.record.age"
)

// Metrics returns all that a guard measures. No label has a key, an input, a
// workflow ID or a workflow type.
func Metrics() []Metric {
	at := func(more ...Label) []Label {
		return append([]Label{{Name: "namespace"}, {Name: "task_queue"}, {Name: "activity_type"}}, more...)
	}
	records := []Label{{Name: "namespace"}, {Name: "activity_type"}, {"atmostonce.state", []string{"running", "in_doubt", "pending"}}}
	return []Metric{
		{calls, Counter, "{call}", "Guarded activity attempts, each counted once, at its end.",
			at(Label{"atmostonce.outcome", []string{"executed", "duplicate", "failed", "skipped"}}, Label{"error.type", reasonLabels()}), nil},
		{notices, Counter, "{notice}", "What the guard noticed beside its answers.",
			at(Label{"atmostonce.notice", Notices()}, Label{"error.type", reasonLabels()}), nil},
		{waitDuration, Histogram, "s", "Time for which calls kept their slot until another call had ended.",
			at(Label{"atmostonce.wait.result", waitResults()}),
			[]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}},
		{storeDuration, Histogram, "s", "Duration of calls to the store, without those that their caller gave up.",
			[]Label{{Name: "namespace"}, {"atmostonce.store.type", storeKinds}, {"atmostonce.store.operation", storeOperations}, {"error.type", storeErrorTypes()}},
			[]float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}},
		{openRecords, Gauge, "{record}", "Records in the store that are running, in doubt or pending, with Options.CountRecords.", records, nil},
		{recordAge, Gauge, "s", "For how long the oldest of these records has been in its state; 0 if there is none.", records, nil},
	}
}

// reasonLabels are what Event.ErrorType can be.
func reasonLabels() []string {
	labels := []string{settling}
	for _, r := range []once.Reason{once.InFlight, once.Duplicate, once.Mismatch, once.InDoubt, once.OutcomeNotKept,
		once.StoreDown, once.BadRecord, once.BadKey, once.BadSetup} {
		labels = append(labels, reasonLabel(r))
	}
	return labels
}

// Measurement adds to one series of a metric.
type Measurement struct {
	Metric string    // its name
	Values [5]string // of its labels, in their order; "" where there is none. No metric has more
	// Count is what a counter gains. 0 makes the series known before it counts:
	// what compares a series with its past, such as an alert, misses the first
	// value.
	Count    int64
	Duration time.Duration // of a histogram
	Value    float64       // of a gauge; NaN: it is not known, and what was known is no longer so
}

// Recorder is implemented by observers that take the guard's metrics. Without one
// they go to the metrics handler of Temporal's client; they never go to both.
type Recorder interface {
	// Recorder returns what is called with each measurement, from any number of
	// goroutines; nil leaves the metrics to Temporal's handler. It is called in the
	// middle of a call, as Temporal's handler is: it must not block, as the
	// instruments of OpenTelemetry do not. A panic in it is swallowed.
	Recorder() func(context.Context, Measurement)
}

// place is where a call is, as metrics tell it.
type place struct{ namespace, queue, activity string }

func (p place) values(rest ...string) (v [5]string) {
	copy(v[:], append([]string{p.namespace, p.queue, p.activity}, rest...))
	return v
}

func (c *call) place() place {
	return place{c.info.Namespace, c.info.TaskQueue, c.info.ActivityType.Name}
}

// count adds the call's end to the metrics.
func (c *call) count(ctx context.Context, e Event) {
	c.guard.metrics.measure(ctx, Measurement{Metric: calls, Count: 1, Values: c.place().values(e.Outcome(), e.ErrorType())})
}

func (c *call) countNotice(ctx context.Context, e Event) {
	c.guard.metrics.measure(ctx, Measurement{Metric: notices, Count: 1, Values: c.place().values(e.Notice, e.ErrorType())})
}

func (c *call) countWait(ctx context.Context, e Event, took time.Duration) {
	c.guard.metrics.measure(ctx, Measurement{Metric: waitDuration, Duration: took, Values: c.place().values(e.Waited)})
}

// prepare makes the series of the counters known for an activity, once for each
// client: before anything happened, if it can be.
func (s *metrics) prepare(ctx context.Context, m *meter, p place) {
	if _, prepared := s.prepared.LoadOrStore(preparation{m, p}, true); prepared {
		return
	}
	if m == nil {
		s.learnFrom(ctx)
	}
	for _, v := range alerted() {
		s.measureAt(ctx, m, Measurement{Metric: calls, Values: p.values(v[0], v[1])})
	}
	for _, notice := range []string{Conflict, LeaseLost, OtherRun, SameRun, SettleFailed, StoreForgot, StoreLost, StoreReplaced, StoreUnsafe} {
		s.measureAt(ctx, m, Measurement{Metric: notices, Values: p.values(notice, "")})
	}
}

// alerted are the series of calls: an alert compares all of them with Temporal's
// own.
func alerted() [][2]string {
	series := [][2]string{{"executed", ""}, {"duplicate", ""}, {"failed", ""}, {"skipped", ""}}
	for _, reason := range []string{settling, reasonLabel(once.InDoubt), reasonLabel(once.InFlight), reasonLabel(once.OutcomeNotKept), reasonLabel(once.BadRecord)} {
		series = append(series, [2]string{"executed", reason})
	}
	for _, reason := range reasonLabels() {
		series = append(series, [2]string{"failed", reason})
	}
	return series
}

type preparation struct {
	meter *meter
	place place
}

const settling = "settling"
