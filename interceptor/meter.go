package interceptor

import (
	"cmp"
	"strings"
	"sync"

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
