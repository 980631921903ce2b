package interceptor

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"

	"github.com/atmostonce/atmostonce/observe"
)

// meter writes measurements to the metrics handler of one client of Temporal.
type meter struct {
	handler client.MetricsHandler
	series  sync.Map // Measurement without its value → client.MetricsCounter, MetricsTimer or MetricsGauge
}

// newMeter returns one that does nothing if nobody listens.
func newMeter(h client.MetricsHandler) *meter {
	if h == client.MetricsNopHandler {
		h = nil
	}
	return &meter{handler: h}
}

func (m *meter) record(x observe.Measurement) {
	if m.handler == nil {
		return
	}
	id := observe.Measurement{Metric: x.Metric, Values: x.Values}
	to, known := m.series.Load(id)
	if !known {
		to, _ = m.series.LoadOrStore(id, open(m.handler, x))
	}
	put(to, x)
}

// open returns the counter, timer or gauge of a measurement's series. It has the labels
// of the SDK's own metrics: a Prometheus registry wants the same ones each time.
func open(h client.MetricsHandler, x observe.Measurement) any {
	tags := map[string]string{
		"namespace": none, "client_name": "temporal_go", "worker_type": none,
		"workflow_type": none, "activity_type": none, "task_queue": none,
	}
	description := describe(x.Metric)
	for i, label := range description.Labels {
		tags[underscored(label.Name)] = cmp.Or(x.Values[i], none)
	}
	h = h.WithTags(tags)
	switch name := underscored(x.Metric); {
	case description.Kind == observe.Histogram:
		return h.Timer(name)
	case description.Kind == observe.Gauge && description.Unit == "s": // handlers add it to timers only
		return h.Gauge(name + "_seconds")
	case description.Kind == observe.Gauge:
		return h.Gauge(name)
	default:
		return h.Counter(name)
	}
}

func put(to any, x observe.Measurement) {
	switch to := to.(type) {
	case client.MetricsCounter:
		to.Inc(x.Count)
	case client.MetricsTimer:
		to.Record(x.Duration)
	case client.MetricsGauge:
		to.Update(x.Value)
	}
}

const none = "none"

func underscored(name string) string { return strings.ReplaceAll(name, ".", "_") }

var described = observe.Metrics()

func describe(name string) observe.Metric {
	for _, m := range described {
		if m.Name == name {
			return m
		}
	}
	return observe.Metric{}
}

// metrics is where a guard's measurements go.
type metrics struct {
	recorder func(context.Context, observe.Measurement) // of an observer; nil: Temporal's handler takes them
	prepared sync.Map                                   // preparation → true

	mu        sync.Mutex
	last      *meter   // of the last client
	namespace string   // of the last client
	several   bool     // other clients have another handler or namespace
	meters    []*meter // of all clients, each once
}

// recordedBy lets the first observer that wants the measurements have them.
func (s *metrics) recordedBy(observers []*observer) {
	for _, o := range observers {
		if r, ok := o.Observer.(observe.Recorder); ok && s.recorder == nil {
			s.recorder, _ = bounded(context.Background(), o, r.Recorder)
		}
	}
}

// learn is told of each client.
func (s *metrics) learn(m *meter, namespace string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(s.meters, func(other *meter) bool { return equal(other.handler, m.handler) }) {
		s.meters = append(s.meters, m)
	}
	s.several = s.several || s.last != nil && (s.namespace != namespace || !equal(s.last.handler, m.handler))
	s.last, s.namespace = m, namespace
}

// learnFrom learns the metrics handler from a call, where the guard is no plugin of
// the client.
func (s *metrics) learnFrom(ctx context.Context) {
	if !sdkactivity.IsActivity(ctx) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.meters) == 0 {
		s.meters = append(s.meters, newMeter(sdkactivity.GetMetricsHandler(ctx)))
	}
}

// client returns the meter and namespace of the only client; nil if there are
// others, or none.
func (s *metrics) client() (*meter, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.several {
		return nil, ""
	}
	return s.last, s.namespace
}

// of returns the meter of the client that ctx came through, or else of the only
// client; nil if that is not known.
func (s *metrics) of(ctx context.Context) *meter {
	if c := captureOf(ctx); c != nil && c.meter != nil {
		return c.meter
	}
	if sdkactivity.IsActivity(ctx) {
		return nil
	}
	m, _ := s.client()
	return m
}

// everywhere hands x, which is about no call, to whoever takes the measurements of
// any client.
func (s *metrics) everywhere(ctx context.Context, x observe.Measurement) {
	s.mu.Lock()
	all := slices.Clone(s.meters)
	s.mu.Unlock()
	if s.recorder != nil {
		all = []*meter{nil}
	}
	for _, m := range all {
		s.measureAt(ctx, m, x)
	}
}

// measure hands x to whoever takes the measurements.
func (s *metrics) measure(ctx context.Context, x observe.Measurement) { s.measureAt(ctx, s.of(ctx), x) }

func (s *metrics) measureAt(ctx context.Context, m *meter, x observe.Measurement) {
	defer func() { _ = recover() }() // a metrics handler must not change an answer
	switch {
	case s.recorder != nil:
		s.recorder(ctx, x)
	case m != nil:
		m.record(x)
	case sdkactivity.IsActivity(ctx):
		if h := sdkactivity.GetMetricsHandler(ctx); h != client.MetricsNopHandler {
			put(open(h, x), x)
		}
	}
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
func (c *call) count(ctx context.Context, e observe.Event) {
	c.guard.metrics.measure(ctx, observe.Measurement{Metric: observe.Calls, Count: 1, Values: c.place().values(e.Outcome(), e.ErrorType())})
}

func (c *call) countNotice(ctx context.Context, e observe.Event) {
	c.guard.metrics.measure(ctx, observe.Measurement{Metric: observe.NoticeCount, Count: 1, Values: c.place().values(string(e.Notice), e.ErrorType())})
}

func (c *call) countWait(ctx context.Context, e observe.Event, took time.Duration) {
	c.guard.metrics.measure(ctx, observe.Measurement{Metric: observe.WaitDuration, Duration: took, Values: c.place().values(string(e.Waited))})
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
	for _, x := range observe.Series(p.namespace, p.queue, p.activity) {
		s.measureAt(ctx, m, x)
	}
}

type preparation struct {
	meter *meter
	place place
}
