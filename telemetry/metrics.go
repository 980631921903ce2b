package telemetry

import (
	"context"
	"math"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/atmostonce/atmostonce/observe"
)

// meter writes the guard's measurements to instruments.
type meter struct {
	instruments map[string]instrument
	series      sync.Map // Measurement without its value → series
}

type instrument struct {
	labels    []observe.Label
	counter   metric.Int64Counter     // nil: it is no counter
	histogram metric.Float64Histogram // nil: it is no histogram
	gauge     *gauge                  // nil: it is no gauge
}

// gauge has the exported values of a gauge, without those that are not known any
// more.
type gauge struct {
	mu     sync.Mutex
	values map[*series]float64
}

// series holds the options that say which one it is, ready to be passed.
type series struct {
	instrument
	add     []metric.AddOption
	record  []metric.RecordOption
	observe []metric.ObserveOption
}

func newMeter(m metric.Meter) *meter {
	all := map[string]instrument{}
	for _, described := range observe.Metrics() {
		i, err := newInstrument(m, described)
		if err != nil {
			otel.Handle(err)
		}
		all[described.Name] = i
	}
	return &meter{instruments: all}
}

func newInstrument(m metric.Meter, d observe.Metric) (i instrument, err error) {
	i.labels = d.Labels
	unit, description := metric.WithUnit(d.Unit), metric.WithDescription(d.Description)
	switch d.Kind {
	case observe.Counter:
		i.counter, err = m.Int64Counter(d.Name, unit, description)
	case observe.Histogram:
		i.histogram, err = m.Float64Histogram(d.Name, unit, description, metric.WithExplicitBucketBoundaries(d.Buckets...))
	case observe.Gauge:
		i.gauge = &gauge{values: map[*series]float64{}}
		_, err = m.Float64ObservableGauge(d.Name, unit, description, metric.WithFloat64Callback(i.gauge.observe))
	}
	return i, err
}

func (g *gauge) observe(_ context.Context, o metric.Float64Observer) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for s, value := range g.values {
		o.Observe(value, s.observe...)
	}
	return nil
}

func (g *gauge) set(s *series, value float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if math.IsNaN(value) {
		delete(g.values, s)
		return
	}
	g.values[s] = value
}

func (m *meter) record(ctx context.Context, x observe.Measurement) {
	i, known := m.instruments[x.Metric]
	switch {
	case !known:
		return
	case i.counter != nil && i.counter.Enabled(ctx):
		i.counter.Add(ctx, x.Count, m.seriesOf(i, x).add...)
	case i.histogram != nil && i.histogram.Enabled(ctx):
		i.histogram.Record(ctx, x.Duration.Seconds(), m.seriesOf(i, x).record...)
	case i.gauge != nil:
		i.gauge.set(m.seriesOf(i, x), x.Value)
	}
}

func (m *meter) seriesOf(i instrument, x observe.Measurement) *series {
	id := observe.Measurement{Metric: x.Metric, Values: x.Values}
	if s, known := m.series.Load(id); known {
		return s.(*series) //nolint:forcetypeassert // nothing else is stored
	}
	var attributes []attribute.KeyValue
	for n, label := range i.labels {
		if value := x.Values[n]; value != "" {
			attributes = append(attributes, attribute.String(label.Name, value))
		}
	}
	set := metric.WithAttributeSet(attribute.NewSet(attributes...))
	s, _ := m.series.LoadOrStore(id, &series{i, []metric.AddOption{set}, []metric.RecordOption{set}, []metric.ObserveOption{set}})
	return s.(*series) //nolint:forcetypeassert // nothing else is stored
}
