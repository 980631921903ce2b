package telemetry

import (
	"context"

	sdkactivity "go.temporal.io/sdk/activity"

	"github.com/atmostonce/atmostonce/interceptor"
)

// remedies say what to do about each notice of weight.
var remedies = map[string]string{
	interceptor.Conflict:      "two runs had the effect; compare with the callee",
	interceptor.LeaseLost:     "another call may run beside this one; compare with the callee, and raise Lease if the store was only slow",
	interceptor.NoHeader:      "a reset of this call would be another effect; install the guard, or interceptor.Workflows, on the worker that runs the workflow",
	interceptor.Observed:      "Mode Observe ran the body; Enforce would have replayed the outcome, or refused for the reason given",
	interceptor.OneAttempt:    "no retry can clear what ends in doubt; allow more attempts",
	interceptor.OtherRun:      "equal calls of all runs of a workflow ID are one effect under this scope; if each run means its own, use keys.PerRun",
	interceptor.SameRun:       "two equal calls in one run are one effect under this scope; if both are meant, use a Key, or keys.PerCall",
	interceptor.SettleFailed:  "the outcome is not recorded, so the key goes in doubt; find out at the callee, then resolve it",
	interceptor.StoreForgot:   "effects whose records are gone may happen again; compare those of the time before with their callees",
	interceptor.StoreReplaced: "what the store had not made durable or replicated is lost; compare the last effects with their callees",
	interceptor.StoreUnsafe:   "set the store up as the error says, before records are lost",
	interceptor.StoreLost:     "the store had forgotten the claim; check its durability and eviction",
}

// warn logs what somebody should look into. An event that is no notice is about
// an effect in doubt.
func (o *OTel) warn(ctx context.Context, e interceptor.Event) {
	if !sdkactivity.IsActivity(ctx) {
		return
	}
	what, remedy := "in_doubt", "nobody knows whether the effect took place; find out at the callee, then resolve the key with Guard.Resolve"
	if e.Kind == interceptor.Notice {
		what, remedy = e.Notice, remedies[e.Notice]
	}
	if remedy == "" {
		return
	}
	if what == interceptor.OneAttempt || what == interceptor.NoHeader { // about the activity type, not about the call
		if _, told := o.told.LoadOrStore(what+"/"+e.Activity, true); told {
			return
		}
	}
	fields := []any{"Notice", what, "KeyDigest", e.Digest, "Remedy", remedy}
	if h := e.Record.Info.Holder; h.WorkflowID != "" {
		fields = append(fields, "HolderWorkflowID", h.WorkflowID, "HolderRunID", h.RunID)
	}
	if e.Kind == interceptor.Notice && e.Reason != "" {
		fields = append(fields, "Reason", string(e.Reason))
	}
	if e.Kind == interceptor.Notice && e.Err != nil {
		fields = append(fields, "Error", e.Err)
	}
	sdkactivity.GetLogger(ctx).Warn("atmostonce: "+what, fields...)
}
