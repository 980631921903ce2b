package telemetry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// exported returns all that leaves the process through OpenTelemetry and
// Temporal's metrics handler, as text.
func (b *bench) exported(t *testing.T) string {
	t.Helper()
	spans, err := json.Marshal(tracetest.SpanStubsFromReadOnlySpans(b.spans.Ended()))
	require.NoError(t, err)
	var all metricdata.ResourceMetrics
	if b.reader != nil {
		require.NoError(t, b.reader.Collect(context.Background(), &all))
	}
	metrics, err := json.Marshal(all)
	require.NoError(t, err)
	text := string(spans) + string(metrics)
	for _, v := range b.temporal.named("") {
		text += fmt.Sprintln(v.name, v.tags)
	}
	for _, e := range b.events.emitted() {
		text += eventText(e)
	}
	return text
}

func eventText(e sdklog.Record) string {
	text := fmt.Sprintln(e.EventName(), e.SeverityText(), e.Body().AsString())
	e.WalkAttributes(func(a attribute.KeyValue) bool {
		text += fmt.Sprintln(a.Key, a.Value.AsString())
		return true
	})
	return text
}

// warnings returns what the guard wrote to the activity's logger; the SDK's own
// lines show errors.
func (b *bench) warnings() string {
	b.lines.mu.Lock()
	defer b.lines.mu.Unlock()
	logged := ""
	for _, line := range b.lines.all {
		if strings.Contains(line, " atmostonce: ") {
			logged += line
		}
	}
	return logged
}

// requireNoSecret requires that nothing which leaves the process reveals a key, an
// input, a result or an error's text. Every path is held to it.
func (w *world) requireNoSecret() {
	w.t.Helper()
	text := w.exported(w.t)
	require.Contains(w.t, text, "ChargeCard", "or the search proves nothing")
	for _, hidden := range []string{secret, quotable} {
		require.False(w.t, strings.Contains(text, hidden), "somewhere in %s", text) //nolint:testifylint // it says where
	}
	logged := w.warnings()
	require.False(w.t, strings.Contains(logged, secret), "somewhere in %s", logged) //nolint:testifylint // it says where
}
