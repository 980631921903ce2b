package telemetry_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/telemetry"
)

func TestLog_WarnsOfASecondEqualCallInARun(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{})
	require.NoError(t, b.call(done, charge{Order: "7"}))
	require.Empty(t, b.lines.containing("WARN"))
	require.NoError(t, b.call(done, charge{Order: "7"}))
	warned := b.lines.containing("WARN atmostonce: same_run")
	require.Len(t, warned, 1)
	require.Contains(t, warned[0], "if both are meant, use a Key, or keys.PerCall")
	require.Contains(t, warned[0], "HolderWorkflowID default-test-workflow-id")
	require.Contains(t, warned[0], "KeyDigest "+attributes(b.span(t, "atmostonce.execute ChargeCard"))["atmostonce.key.digest"].(string))
}

func TestLog_WarnsOfWhatIsInDoubt(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{policy: once.Policy{InDoubt: once.Fail}})
	require.Error(t, b.call(failing(once.MaybeDone(errors.New("no answer"))), charge{Order: "7"}))
	require.Len(t, b.lines.containing("WARN atmostonce: in_doubt"), 1)
	require.Error(t, b.call(done, charge{Order: "7"}))
	require.Len(t, b.lines.containing("WARN atmostonce: in_doubt"), 2)
}

func TestLog_TellsWhatToDoAboutEachNoticeOfWeight(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{})
	o := telemetry.NewOTel(telemetry.Options{TracerProvider: b.tracer})
	notices := []string{interceptor.Conflict, interceptor.StoreLost, interceptor.LeaseLost, interceptor.SettleFailed,
		interceptor.OtherRun, interceptor.SameRun, interceptor.Observed, interceptor.StoreForgot, interceptor.StoreReplaced, interceptor.StoreUnsafe,
		interceptor.OneAttempt, interceptor.NoHeader, // and those of none:
		interceptor.RenewFailed, interceptor.SettleDelayed, interceptor.Reconciled}
	require.NoError(t, b.call(func(ctx context.Context, _ charge) (string, error) {
		background := context.WithoutCancel(ctx)
		for _, notice := range append(notices, notices...) {
			e := interceptor.Event{Kind: interceptor.Notice, Notice: notice, Activity: "ChargeCard", Digest: "0123456789abcdef",
				Err: errors.New("connection refused"), Record: store.Record{Info: store.Info{Holder: store.Holder{WorkflowID: "order-7", RunID: "run-7"}}}}
			_, end := o.Begin(background, e)
			end(e)
		}
		return "receipt", nil
	}, charge{Order: "7"}))
	for i, notice := range notices {
		warned := b.lines.containing("WARN atmostonce: " + notice)
		switch {
		case i > 11:
			require.Empty(t, warned, notice)
			continue
		case notice == interceptor.OneAttempt || notice == interceptor.NoHeader:
			require.Len(t, warned, 1, "it is about the activity type, not about the call")
		default:
			require.Len(t, warned, 2, notice)
		}
		require.Regexp(t, `KeyDigest 0123456789abcdef Remedy .{20,} HolderWorkflowID order-7 HolderRunID run-7 Error connection refused`, warned[0])
	}
}
