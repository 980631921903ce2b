package telemetry_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/telemetry"
)

func TestMetrics_CountEachCallOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{policy: once.Policy{OnDuplicate: once.Reject}})
	require.NoError(t, b.call(done, charge{Order: "7"}))
	require.Error(t, b.call(done, charge{Order: "7"}))
	require.Error(t, b.call(failing(errors.New("no funds")), charge{Order: "8"}))
	require.Error(t, b.call(failing(once.MaybeDone(errors.New("no answer"))), charge{Order: "9"}))
	require.Equal(t, map[string]int64{"executed/": 2, "executed/in_doubt": 1, "failed/duplicate": 1},
		b.counts(t, "atmostonce.calls", "atmostonce.outcome", "error.type"))
	require.Equal(t, map[string]int64{"ChargeCard/default-test-namespace/default-test-taskqueue": 4},
		b.counts(t, "atmostonce.calls", "activity_type", "namespace", "task_queue"))
	require.Empty(t, ours(b.temporal.counts), "the calls are counted once, not in two places")
}

func TestMetrics_CountNotices(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{})
	for range 3 {
		require.NoError(t, b.call(done, charge{Order: "7"}))
	}
	require.Equal(t, map[string]int64{"same_run/ChargeCard": 2}, b.counts(t, "atmostonce.notices", "atmostonce.notice", "activity_type"))
}

func TestMetrics_TimeWaits(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{policy: once.Policy{OnDuplicate: once.Wait}})
	wait(t, b, charge{Order: "7"})
	m := b.collected(t, "atmostonce.wait.duration")
	require.Equal(t, "s", m.Unit)
	h, ok := m.Data.(metricdata.Histogram[float64])
	require.True(t, ok)
	require.Len(t, h.DataPoints, 1)
	p := h.DataPoints[0]
	require.Equal(t, uint64(1), p.Count)
	require.Positive(t, p.Sum)
	require.Less(t, p.Sum, soon.Seconds())
	require.Equal(t, []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}, p.Bounds)
	result, _ := p.Attributes.Value("atmostonce.wait.result")
	require.Equal(t, "completed", result.AsString())
}

func TestMetrics_GoThroughTemporalByDefault(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{policy: once.Policy{OnDuplicate: once.Wait}, temporal: true})
	wait(t, b, charge{Order: "7"})
	require.Error(t, b.call(failing(once.MaybeDone(errors.New("no answer"))), charge{Order: "8"}))
	b.temporal.mu.Lock()
	defer b.temporal.mu.Unlock()
	require.Equal(t, map[string]int64{"atmostonce_calls": 3, "atmostonce_notices": 1, "atmostonce_wait_duration": 1}, ours(b.temporal.counts))

	labels := b.temporal.labels["atmostonce_calls"]
	require.Equal(t, "executed", labels["atmostonce_outcome"])
	require.Equal(t, "in_doubt", labels["error_type"])
	require.Equal(t, "ChargeCard", labels["activity_type"], "the SDK's own labels join it to the SDK's metrics")
	require.Equal(t, "same_run", b.temporal.labels["atmostonce_notices"]["atmostonce_notice"])
	require.Equal(t, "completed", b.temporal.labels["atmostonce_wait_duration"]["atmostonce_wait_result"])
}

func TestMetrics_HaveTheSameLabelsEveryTimeInTemporal(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{temporal: true})
	require.NoError(t, b.call(done, charge{Order: "7"}))
	require.Equal(t, "none", b.temporal.labels["atmostonce_calls"]["error_type"])
}

func ours(counts map[string]int64) map[string]int64 {
	found := map[string]int64{}
	for name, n := range counts {
		if strings.HasPrefix(name, "atmostonce") {
			found[name] = n
		}
	}
	return found
}

func TestMetrics_OutsideAnActivityDoNotPanic(t *testing.T) {
	t.Parallel()
	o := telemetry.NewOTel(telemetry.Options{})
	for _, k := range []interceptor.Kind{interceptor.Claim, interceptor.Wait, interceptor.Notice} {
		e := interceptor.Event{Kind: k, Notice: interceptor.Conflict, Reason: once.InDoubt}
		_, end := o.Begin(context.Background(), e)
		require.NotPanics(t, func() { end(e) })
	}
}
