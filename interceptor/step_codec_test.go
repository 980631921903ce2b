package interceptor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/store"
)

// A step that another workflow's call has finished is decoded as that one encoded it.
func TestDecodeInto_ReadsWhatAnotherWorkflowEncoded(t *testing.T) {
	t.Parallel()
	dc := converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), sealing{})
	of := func(workflow string) codec {
		return codec{converters: newConverters(dc, nil), where: target{ActivitySerializationContext: converter.ActivitySerializationContext{WorkflowID: workflow}}}
	}
	o, _, err := of("a").encode(t.Context(), map[string]int{"cents": 5}, engine.MaxOutcome)
	require.NoError(t, err)
	var got map[string]int
	require.NoError(t, decodeInto(t.Context(), of("b"), o, &got))
	require.Equal(t, map[string]int{"cents": 5}, got)

	var other []string
	require.ErrorContains(t, decodeInto(t.Context(), of("b"), o, &other), "result: ")
	require.Error(t, decodeInto(t.Context(), of("b"), store.Outcome{State: store.Succeeded, Data: []byte("forged"), Context: o.Context}, &other))
	require.ErrorIs(t, decodeInto(t.Context(), of("b"), store.Outcome{State: store.Succeeded, Missing: "too large"}, &other), engine.ErrNotKept)
}

func TestPolicyOf_AStepIsThatOfItsCall(t *testing.T) {
	t.Parallel()
	m, err := newMarks(once.Mark(once.Policy{TTL: 90 * 24 * time.Hour}, "ChargeCard"), once.Policy{}, false, nil)
	require.NoError(t, err)
	r := newRegistry(m)
	require.Equal(t, 90*24*time.Hour, r.policyOf("ChargeCard"+engine.ActivityOfSteps).TTL)
	require.Equal(t, 30*24*time.Hour, r.policyOf("Refund"+engine.ActivityOfSteps).TTL)
}
