package telemetry

import (
	"context"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/atmostonce/atmostonce/interceptor"
)

// meter writes the guard's measurements to instruments.
type meter struct {
	instruments map[string]instrument
	series      sync.Map // Measurement without its value → series
}

type instrument struct {
	labels    []interceptor.Label
	counter   metric.Int64Counter     // nil: it is a histogram
	histogram metric.Float64Histogram // nil: it is a counter
}

// series holds the options that say which one it is, ready to be passed.
type series struct {
	instrument
	add    []metric.AddOption
	record []metric.RecordOption
}

func newMeter(m metric.Meter) *meter {
	all := map[string]instrument{}
	for _, described := range interceptor.Metrics() {
		i, err := newInstrument(m, described)
		if err != nil {
			otel.Handle(err)
		}
		all[described.Name] = i
	}
	return &meter{instruments: all}
}

func newInstrument(m metric.Meter, d interceptor.Metric) (i instrument, err error) {
	i.labels = d.Labels
	if d.Buckets == nil {
		i.counter, err = m.Int64Counter(d.Name, metric.WithUnit(d.Unit), metric.WithDescription(d.Description))
		return i, err
	}
	i.histogram, err = m.Float64Histogram(d.Name, metric.WithUnit(d.Unit), metric.WithDescription(d.Description),
		metric.WithExplicitBucketBoundaries(d.Buckets...))
	return i, err
}

func (m *meter) record(ctx context.Context, x interceptor.Measurement) {
	i, known := m.instruments[x.Metric]
	switch {
	case !known:
		return
	case i.counter != nil && i.counter.Enabled(ctx):
		i.counter.Add(ctx, x.Count, m.seriesOf(i, x).add...)
	case i.histogram != nil && i.histogram.Enabled(ctx):
		i.histogram.Record(ctx, x.Duration.Seconds(), m.seriesOf(i, x).record...)
	}
}

func (m *meter) seriesOf(i instrument, x interceptor.Measurement) *series {
	id := interceptor.Measurement{Metric: x.Metric, Values: x.Values}
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
	s, _ := m.series.LoadOrStore(id, &series{i, []metric.AddOption{set}, []metric.RecordOption{set}})
	return s.(*series) //nolint:forcetypeassert // nothing else is stored
}
