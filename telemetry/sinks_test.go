package telemetry_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.temporal.io/sdk/client"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/telemetry"
)

// series is one of a metric, wherever it went.
type series struct {
	labels map[string]string // without empty ones
	count  int64             // of a histogram, of its values
	sum    float64           // of a histogram; of a gauge, its value
}

func (s series) value(labels ...string) string {
	values := make([]string, len(labels))
	for i, label := range labels {
		values[i] = s.labels[label]
	}
	return strings.Join(values, "/")
}

// metric returns all series of a metric, from the sink that the bench has.
func (b *bench) metric(t *testing.T, name string) []series {
	t.Helper()
	if b.reader == nil {
		return b.temporal.metric(name)
	}
	var all []series
	switch data := b.collected(t, name).Data.(type) {
	case metricdata.Sum[int64]:
		require.True(t, data.IsMonotonic)
		for _, p := range data.DataPoints {
			all = append(all, series{labelsOf(p.Attributes), p.Value, 0})
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			all = append(all, series{labelsOf(p.Attributes), int64(p.Count), p.Sum})
		}
	case metricdata.Gauge[float64]:
		for _, p := range data.DataPoints {
			all = append(all, series{labelsOf(p.Attributes), 0, p.Value})
		}
	case nil: // nothing was measured
	default:
		require.Fail(t, "a strange instrument", "%T", data)
	}
	return all
}

// counts returns a metric's series as "value of label/value of label" → count,
// without those of 0.
func (b *bench) counts(t *testing.T, name string, labels ...string) map[string]int64 {
	t.Helper()
	got := map[string]int64{}
	for _, s := range b.metric(t, name) {
		if s.count != 0 {
			got[s.value(labels...)] += s.count
		}
	}
	return got
}

// collected returns what the meter provider has under that name; zero for an
// instrument that has measured nothing.
func (b *bench) collected(t *testing.T, name string) metricdata.Metrics {
	t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(t, b.reader.Collect(context.Background(), &all))
	for _, scope := range all.ScopeMetrics {
		requireScope(t, scope.Scope)
		for _, m := range scope.Metrics {
			if m.Name == name {
				return m
			}
		}
	}
	return metricdata.Metrics{}
}

// requireScope requires that a span, a metric or a log event says what made it.
func requireScope(t *testing.T, s instrumentation.Scope) {
	t.Helper()
	require.Equal(t, telemetry.ScopeName, s.Name)
	require.Equal(t, observe.Version, s.Version)
}

func labelsOf(set attribute.Set) map[string]string {
	labels := map[string]string{}
	for _, a := range set.ToSlice() {
		labels[string(a.Key)] = a.Value.AsString()
	}
	return labels
}

// handler is a metrics handler for Temporal's client.
type handler struct {
	*seen
	tags map[string]string
}

type seen struct {
	mu     sync.Mutex
	opened int // calls of WithTags
	values map[string]*value
}

// value is what one series has, under its name and tags.
type value struct {
	name  string
	tags  map[string]string
	count int64
	sum   time.Duration
	gauge float64
}

func newHandler() *handler { return &handler{seen: &seen{values: map[string]*value{}}} }

func (h *handler) WithTags(tags map[string]string) client.MetricsHandler {
	h.mu.Lock()
	h.opened++
	h.mu.Unlock()
	all := maps.Clone(tags)
	if all == nil {
		all = map[string]string{}
	}
	for k, v := range h.tags {
		if _, overridden := all[k]; !overridden {
			all[k] = v
		}
	}
	return &handler{h.seen, all}
}

func (h *handler) add(name string, count int64, took time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := fmt.Sprint(name, h.tags) // maps are printed in the order of their keys
	if h.values[id] == nil {
		h.values[id] = &value{name: name, tags: h.tags}
	}
	h.values[id].count += count
	h.values[id].sum += took
}

func (h *handler) Counter(name string) client.MetricsCounter {
	return counter(func(n int64) { h.add(name, n, 0) })
}

func (h *handler) Gauge(name string) client.MetricsGauge {
	return gauge(func(v float64) {
		h.add(name, 0, 0)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.values[fmt.Sprint(name, h.tags)].gauge = v
	})
}

func (h *handler) Timer(name string) client.MetricsTimer {
	return timer(func(d time.Duration) { h.add(name, 1, d) })
}

type (
	counter func(int64)
	gauge   func(float64)
	timer   func(time.Duration)
)

func (c counter) Inc(n int64)          { c(n) }
func (g gauge) Update(v float64)       { g(v) }
func (t timer) Record(d time.Duration) { t(d) }

// named returns a copy of the values under names that begin so.
func (h *handler) named(prefix string) (found []value) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, v := range h.values {
		if strings.HasPrefix(v.name, prefix) {
			found = append(found, *v)
		}
	}
	return found
}

// metric returns what the handler has of a metric, under the labels that a
// native instrument has.
func (h *handler) metric(name string) (all []series) {
	for _, v := range h.named(underscored(name)) {
		if v.name != underscored(name) {
			continue
		}
		labels := map[string]string{}
		for k, x := range v.tags {
			if x != "none" && k != "client_name" && k != "worker_type" && k != "workflow_type" {
				labels[dotted(k)] = x
			}
		}
		all = append(all, series{labels, v.count, v.sum.Seconds() + v.gauge})
	}
	return all
}

func underscored(name string) string { return strings.ReplaceAll(name, ".", "_") }

// dotted returns the native name of a label of Temporal's handler.
func dotted(label string) string {
	for _, name := range []string{"error.type", "atmostonce.outcome", "atmostonce.notice", "atmostonce.wait.result", "atmostonce.store.type", "atmostonce.store.operation", "atmostonce.state"} {
		if underscored(name) == label {
			return name
		}
	}
	return label
}

// events keeps the log events of OpenTelemetry.
type events struct {
	mu  sync.Mutex
	all []sdklog.Record
}

func (e *events) Enabled(context.Context, sdklog.EnabledParameters) bool { return true }

func (e *events) OnEmit(_ context.Context, r *sdklog.Record) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, r.Clone())
	return nil
}

func (e *events) Shutdown(context.Context) error   { return nil }
func (e *events) ForceFlush(context.Context) error { return nil }

func (e *events) emitted() []sdklog.Record {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.all)
}

// names returns those of the events, in the order in which they came.
func (e *events) names() (names []string) {
	for _, r := range e.emitted() {
		names = append(names, r.EventName())
	}
	return names
}

// lines keeps what is logged in the activity's logger.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) keep(level, msg string, fields []any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, fmt.Sprintln(append([]any{level, msg}, fields...)...))
}

func (l *lines) Debug(msg string, fields ...any) { l.keep("DEBUG", msg, fields) }
func (l *lines) Info(msg string, fields ...any)  { l.keep("INFO", msg, fields) }
func (l *lines) Warn(msg string, fields ...any)  { l.keep("WARN", msg, fields) }
func (l *lines) Error(msg string, fields ...any) { l.keep("ERROR", msg, fields) }

// containing returns the lines that contain what.
func (l *lines) containing(what string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		if strings.Contains(line, what) {
			found = append(found, line)
		}
	}
	return found
}
