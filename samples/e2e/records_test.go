package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/telemetry"
)

// gauge returns the value of the gauge for Charge in doubt; ok is false if there is
// none.
func gauge(t *testing.T, registry *prometheus.Registry, name string) (value float64, ok bool) {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, label := range m.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			if family.GetName() == name && labels["atmostonce_state"] == "in_doubt" {
				require.Equal(t, dto.MetricType_GAUGE, family.GetType())
				require.Equal(t, []string{client.DefaultNamespace, "Charge"}, []string{labels["namespace"], labels["activity_type"]})
				return m.GetGauge().GetValue(), true
			}
		}
	}
	return 0, false
}

// A doubt whose workflow has ended is seen until it is resolved, under the same
// names whichever way the metrics take.
func TestRecords_ADoubtWhoseWorkflowHasEnded(t *testing.T) {
	t.Parallel()
	for name, throughTemporal := range map[string]bool{"native": false, "through Temporal": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, client.Options{})
			scraped := newExposition(t)
			o := guardOptions(once.Mark(once.Policy{}, "Charge"), s.events)
			o.CountRecords = time.Second
			if throughTemporal {
				s.options.MetricsHandler = scraped.handler()
			} else {
				o.Observers = append(o.Observers, telemetry.NewOTel(telemetry.Options{MeterProvider: scraped.provider}))
			}
			guard, err := interceptor.New(s.store, o)
			require.NoError(t, err)
			w := s.workWith(guard, worker.Options{}, func(r worker.Registry) {
				register(r, func(context.Context, charge) (receipt, error) {
					return receipt{}, once.MaybeDone(context.DeadlineExceeded)
				})
			})
			is := func(metric string, condition func(float64) bool) func() bool {
				return func() bool {
					value, ok := gauge(t, scraped.registry, metric)
					return ok && condition(value)
				}
			}
			const records, age = "atmostonce_records", "atmostonce_record_age_seconds"
			s.eventually(is(records, func(v float64) bool { return v == 0 }), "it is 0 before anything happens")

			run := s.start("ends", "one", call{})
			require.Error(t, s.held(run, once.InDoubt))
			require.NoError(t, s.client.TerminateWorkflow(t.Context(), run.GetID(), run.GetRunID(), "nobody waits for it"))
			s.eventually(is(records, func(v float64) bool { return v == 1 }), "the record is in doubt")
			s.eventually(is(age, func(v float64) bool { return v > 2 }), "and gets older, though nobody tries again")

			_, err = guard.Resolve(t.Context(), s.record(store.InDoubt), resolve.AsDone(receipt{ID: "found"}), resolve.Decision{By: "ops", Why: "it is there"})
			require.NoError(t, err)
			s.eventually(is(records, func(v float64) bool { return v == 0 }), "it is resolved")
			s.eventually(is(age, func(v float64) bool { return v == 0 }), "there is none")

			w.Stop()
			s.eventually(func() bool {
				value, ok := gauge(t, scraped.registry, records)
				return !ok || value != value
			}, "nobody knows any more")
		})
	}
}
