package telemetry_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/atmostonce/atmostonce"
)

func TestSpan_OfAStepIsAChildOfItsCalls(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{})
	var inStep trace.SpanContext
	body := func(ctx context.Context, _ charge) (string, error) {
		_, err := atmostonce.Step(ctx, "one", func(ctx context.Context) (string, error) {
			inStep = trace.SpanContextFromContext(ctx)
			return "a", nil
		})
		require.NoError(t, err)
		return atmostonce.Step(ctx, "two", func(context.Context) (string, error) { return "b", nil })
	}
	require.NoError(t, b.call(body, charge{Order: "7"}))
	call, steps := b.span(t, "atmostonce.execute ChargeCard"), b.ended("atmostonce.execute ChargeCard/step")
	require.Len(t, steps, 2, "one name for all steps")
	require.Equal(t, inStep, steps[0].SpanContext())
	for _, step := range steps {
		require.Equal(t, call.SpanContext().SpanID(), step.Parent().SpanID())
		require.Equal(t, trace.SpanKindInternal, step.SpanKind())
	}
	require.NotEqual(t, attributes(steps[0])["atmostonce.key.digest"], attributes(call)["atmostonce.key.digest"])
}
