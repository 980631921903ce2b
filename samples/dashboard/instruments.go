package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"

	"github.com/atmostonce/atmostonce/observe"
)

var quiet = log.NewStructuredLogger(slog.New(slog.DiscardHandler))

// instruments are where a process's spans and metrics go.
type instruments struct {
	Tracers *sdktrace.TracerProvider
	Meters  *sdkmetric.MeterProvider
	Address string // where the metrics are to be scraped

	stop func()
}

// newInstruments sends spans to the viewer at otlp, and serves metrics on a port
// of its own.
func newInstruments(ctx context.Context, service, otlp string) (*instruments, error) {
	spans, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpoint(otlp), otlptracehttp.WithInsecure())
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	metrics, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
	if err != nil {
		return nil, err
	}
	name := resource.NewSchemaless(attribute.String("service.name", service))
	i := &instruments{
		// Soon, so that little is lost when the worker is killed.
		Tracers: sdktrace.NewTracerProvider(sdktrace.WithResource(name), sdktrace.WithBatcher(spans, sdktrace.WithBatchTimeout(200*time.Millisecond))),
		Meters:  sdkmetric.NewMeterProvider(sdkmetric.WithResource(name), sdkmetric.WithReader(metrics), sdkmetric.WithView(views()...)),
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	i.Address, i.stop, err = listen(ctx, mux)
	return i, err
}

// Close sends what is left. The caller is not held up by a viewer that has gone.
func (i *instruments) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = errors.Join(i.Tracers.Shutdown(ctx), i.Meters.Shutdown(ctx))
	i.stop()
}

// dial connects to Temporal with a tracing interceptor and a metrics handler.
func (i *instruments) dial(ctx context.Context, o client.Options) (client.Client, error) {
	tracing, err := opentelemetry.NewTracingInterceptor(opentelemetry.TracerOptions{Tracer: i.Tracers.Tracer("temporal-sdk-go")})
	if err != nil {
		return nil, err
	}
	o.Interceptors = []sdkinterceptor.ClientInterceptor{tracing}
	o.MetricsHandler = opentelemetry.NewMetricsHandler(opentelemetry.MetricsHandlerOptions{
		Meter: i.Meters.Meter("temporal-sdk-go"), UseMonotonicCounters: true, OnError: func(error) {},
	})
	return client.DialContext(ctx, o)
}

// views give the durations that go through Temporal's handler their buckets, of
// which the handler knows nothing.
func views() []sdkmetric.View {
	buckets := func(name string, bounds []float64) sdkmetric.View {
		return sdkmetric.NewView(sdkmetric.Instrument{Name: name},
			sdkmetric.Stream{Aggregation: sdkmetric.AggregationExplicitBucketHistogram{Boundaries: bounds}})
	}
	all := []sdkmetric.View{buckets("temporal_*_latency", []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60})}
	for _, m := range observe.Metrics() {
		if m.Buckets != nil {
			all = append(all, buckets(strings.ReplaceAll(m.Name, ".", "_"), m.Buckets))
		}
	}
	return all
}
