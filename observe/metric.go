package observe

import (
	"time"

	"github.com/atmostonce/atmostonce/once"
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

// The names of the metrics.
const (
	Calls         = "atmostonce.calls"
	NoticeCount   = "atmostonce.notices"
	WaitDuration  = "atmostonce.wait.duration"
	StoreDuration = "atmostonce.store.operation.duration"
	OpenRecords   = "atmostonce.records"
	RecordAge     = "atmostonce.record.age"
)

// Metrics returns all that a guard measures. No label has a key, an input, a
// workflow ID or a workflow type.
func Metrics() []Metric {
	at := func(more ...Label) []Label {
		return append([]Label{{Name: "namespace"}, {Name: "task_queue"}, {Name: "activity_type"}}, more...)
	}
	records := []Label{{Name: "namespace"}, {Name: "activity_type"}, {"atmostonce.state", []string{"running", "in_doubt", "pending"}}}
	return []Metric{
		{Calls, Counter, "{call}", "Guarded activity attempts, each counted once, at its end.",
			at(Label{"atmostonce.outcome", []string{"executed", "duplicate", "failed", "skipped"}}, Label{"error.type", reasonLabels()}), nil},
		{NoticeCount, Counter, "{notice}", "What the guard noticed beside its answers.",
			at(Label{"atmostonce.notice", texts(Notices())}, Label{"error.type", reasonLabels()}), nil},
		{WaitDuration, Histogram, "s", "Time for which calls kept their slot until another call had ended.",
			at(Label{"atmostonce.wait.result", texts(waitResults())}),
			[]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}},
		{StoreDuration, Histogram, "s", "Duration of calls to the store, without those that their caller gave up.",
			[]Label{{Name: "namespace"}, {Name: "atmostonce.store.type"}, {"atmostonce.store.operation", storeOperations}, {"error.type", storeErrorTypes()}},
			[]float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}},
		{OpenRecords, Gauge, "{record}", "Records in the store that are running, in doubt or pending, with Options.CountRecords.", records, nil},
		{RecordAge, Gauge, "s", "For how long the oldest of these records has been in its state; 0 if there is none.", records, nil},
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

// Series returns the series that one activity's counters have, at 0, for whoever makes
// them known before anything has happened: an alert compares them with their past.
func Series(namespace, queue, activity string) []Measurement {
	var all []Measurement
	add := func(metric string, rest ...string) {
		m := Measurement{Metric: metric}
		copy(m.Values[:], append([]string{namespace, queue, activity}, rest...))
		all = append(all, m)
	}
	for _, outcome := range []string{"executed", "duplicate", "failed", "skipped"} {
		add(Calls, outcome, "")
	}
	for _, reason := range []string{settling, reasonLabel(once.InDoubt), reasonLabel(once.InFlight), reasonLabel(once.OutcomeNotKept), reasonLabel(once.BadRecord)} {
		add(Calls, "executed", reason)
	}
	for _, reason := range reasonLabels() {
		add(Calls, "failed", reason)
	}
	for _, notice := range []Notice{Conflict, LeaseLost, OtherRun, SameRun, SettleFailed, StoreForgot, StoreLost, StoreReplaced, StoreUnsafe} {
		add(NoticeCount, string(notice), "")
	}
	return all
}

func texts[T ~string](all []T) []string {
	list := make([]string, len(all))
	for i, t := range all {
		list[i] = string(t)
	}
	return list
}
