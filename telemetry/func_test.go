package telemetry_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/telemetry"
)

// A guarded function has the spans of an activity.
func TestFunc_HasSpansAsAnActivity(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	g, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), atmostonce.Options{
		Observers: []observe.Observer{telemetry.NewOTel(telemetry.Options{TracerProvider: provider})},
	})
	require.NoError(t, err)
	pay := atmostonce.Func(g, "pay", once.Policy{}, func(ctx context.Context, _ string) (string, error) {
		_, body := provider.Tracer("body").Start(ctx, "body")
		body.End()
		return "receipt", nil
	})
	for range 2 {
		_, err := pay(t.Context(), "7")
		require.NoError(t, err)
	}
	require.NoError(t, g.Close(t.Context()))
	byName := map[string]sdktrace.ReadOnlySpan{}
	for _, s := range spans.Ended() {
		byName[s.Name()] = s
	}
	execute, duplicate := byName["atmostonce.execute pay"], byName["atmostonce.duplicate pay"]
	require.NotNil(t, execute, "%v", byName)
	require.NotNil(t, duplicate, "%v", byName)
	require.Equal(t, execute.SpanContext().SpanID(), byName["body"].Parent().SpanID())
	requireLink(t, duplicate, execute)
}
