package interceptor

import (
	"context"

	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/log"
)

// Remedy says what to do about a notice, or about an effect in_doubt; "" if
// nothing needs to be done.
func Remedy(notice string) string { return remedies[notice] }

const inDoubt = "in_doubt"

var remedies = map[string]string{
	inDoubt:        "nobody knows whether the effect took place; find out at the callee, then resolve the key with Guard.Resolve",
	Conflict:       "two runs had the effect; compare with the callee",
	LeaseLost:      "another call may run beside this one; compare with the callee, and raise Lease if the store was only slow",
	NoHeader:       "a reset of this call would be another effect; install the guard, or interceptor.Workflows, on the worker that runs the workflow",
	Observed:       "Mode Observe ran the body; Enforce would have replayed the outcome, or refused for the reason given",
	OneAttempt:     "no retry can clear what ends in doubt; allow more attempts",
	PolicyDefeated: "in some case the policy is not carried out; change what the error names",
	OtherRun:       "equal calls of all runs of a workflow ID are one effect under this scope; if each run means its own, use keys.PerRun",
	SameRun:        "two equal calls in one run are one effect under this scope; if both are meant, use a Key, or keys.PerCall",
	SettleFailed:   "the outcome is not recorded, so the key goes in doubt; find out at the callee, then resolve it",
	StoreForgot:    "effects whose records are gone may happen again; compare those of the time before with their callees",
	StoreReplaced:  "what the store had not made durable or replicated is lost; compare the last effects with their callees",
	StoreUnsafe:    "set the store up as the error says, before records are lost",
	StoreLost:      "the store had forgotten the claim; check its durability and eviction",
}

// warn logs, in the activity's logger, what somebody should look into. The logger
// must not block; a panic in it is swallowed.
func (g *Guard) warn(ctx context.Context, e Event) {
	if sdkactivity.IsActivity(ctx) {
		quietly(func() { g.log(sdkactivity.GetLogger(ctx), e) })
	}
}

func (g *Guard) log(logger log.Logger, e Event) {
	if e.Repeated {
		return
	}
	what := e.Warning()
	if e.Settling && (e.Kind == Execute || e.Kind == Fail) {
		logger.Info("atmostonce: in doubt for now; nothing is decided before the settle delay is over", "KeyDigest", e.Digest)
	}
	if what == "" {
		return
	}
	fields := []any{"Notice", what, "KeyDigest", e.Digest, "Remedy", Remedy(what)}
	if h := e.Record.Info.Holder; h.WorkflowID != "" {
		fields = append(fields, "HolderWorkflowID", h.WorkflowID, "HolderRunID", h.RunID)
	}
	if e.Kind == Notice && e.Reason != "" {
		fields = append(fields, "Reason", string(e.Reason))
	}
	if e.Kind == Notice && e.Err != nil {
		fields = append(fields, "Error", e.Err)
	}
	logger.Warn("atmostonce: "+what, fields...)
}
