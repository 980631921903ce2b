package interceptor_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"

	"github.com/atmostonce/atmostonce/observe"
)

// measuring is an observer that takes the guard's metrics.
type measuring struct {
	mu  sync.Mutex
	all []observe.Measurement
}

func (m *measuring) Begin(ctx context.Context, e observe.Event) (context.Context, func(observe.Event)) {
	return ctx, func(observe.Event) {}
}

func (m *measuring) Recorder() func(context.Context, observe.Measurement) {
	return func(_ context.Context, x observe.Measurement) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.all = append(m.all, x)
	}
}

// counted returns what was added to that metric, 0 excepted.
func (m *measuring) counted(metric string) (all []observe.Measurement) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, x := range m.all {
		if x.Metric == metric && x.Count > 0 {
			all = append(all, x)
		}
	}
	return all
}

func TestMetrics_GoToTheFirstObserverThatWantsThem(t *testing.T) {
	t.Parallel()
	first, second := &measuring{}, &measuring{}
	g := observedBy(t, newWatch(observe.KindClaim), &rogue{nilRecorder: true}, first, second)
	_, err := execute(t, g, (&payments{}).ChargeCard, order(7))
	require.NoError(t, err)
	require.Len(t, first.counted("atmostonce.calls"), 1)
	require.Empty(t, second.all)
}

func TestMetrics_SeriesAreMadeKnownOnce(t *testing.T) {
	t.Parallel()
	m := &measuring{}
	g, known := observedBy(t, m), [2]int{}
	for n := range known {
		_, err := execute(t, g, (&payments{}).ChargeCard, order(n))
		require.NoError(t, err)
		for _, x := range m.all {
			if x.Metric == "atmostonce.calls" && x.Count == 0 {
				known[n]++
			}
		}
	}
	require.Positive(t, known[0])
	require.Equal(t, known[0], known[1])
}

func TestMetrics_AreMeasuredUnderTheirLabels(t *testing.T) {
	t.Parallel()
	m := &measuring{}
	_, err := execute(t, observedBy(t, m), (&payments{}).ChargeCard, order(7))
	require.NoError(t, err)
	labels := map[string]int{}
	for _, d := range observe.Metrics() {
		labels[d.Name] = len(d.Labels)
		require.NotEmpty(t, d.Unit)
		require.True(t, slices.IsSorted(d.Buckets))
		require.LessOrEqual(t, len(d.Labels), len(observe.Measurement{}.Values))
	}
	for _, x := range m.all {
		require.Contains(t, labels, x.Metric)
		for _, beyond := range x.Values[labels[x.Metric]:] {
			require.Empty(t, beyond)
		}
		require.GreaterOrEqual(t, x.Duration, time.Duration(0))
	}
}

func TestMetrics_EachNoticeIsListed(t *testing.T) {
	t.Parallel()
	all := observe.Notices()
	require.Len(t, all, 19)
	slices.Sort(all)
	require.Len(t, slices.Compact(all), 19)
}

// broken is a metrics handler of a client at its worst.
type broken struct{ client.MetricsHandler }

func (broken) WithTags(map[string]string) client.MetricsHandler { panic("metrics") }

func TestMetrics_AHandlerThatPanicsChangesNothing(t *testing.T) {
	t.Parallel()
	g := observedBy(t)
	o := client.Options{MetricsHandler: broken{}}
	require.NoError(t, g.ConfigureClient(t.Context(), client.PluginConfigureClientOptions{ClientOptions: &o}))
	require.NoError(t, g.NewClient(t.Context(), client.PluginNewClientOptions{ClientOptions: o},
		func(context.Context, client.PluginNewClientOptions) error { return nil }))
	env, p := environment(t, g), &payments{}
	env.SetContextPropagators(o.ContextPropagators)
	env.RegisterActivityWithOptions(p.ChargeCard, sdkactivity.RegisterOptions{Name: "ChargeCard"})
	for range 2 {
		_, err := env.ExecuteActivity("ChargeCard", order(7))
		require.NoError(t, err)
	}
	require.Equal(t, []string{"7"}, p.charges)
}
