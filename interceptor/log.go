package interceptor

import (
	"context"

	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/log"

	"github.com/atmostonce/atmostonce/observe"
)

// warn logs, in the activity's logger, what somebody should look into. The logger
// must not block; a panic in it is swallowed.
func (g *Guard) warn(ctx context.Context, e observe.Event) {
	if sdkactivity.IsActivity(ctx) {
		quietly(func() { g.log(sdkactivity.GetLogger(ctx), e) })
	}
}

func (g *Guard) log(logger log.Logger, e observe.Event) {
	if e.Repeated {
		return
	}
	what := e.Warning()
	if e.Settling && (e.Kind == observe.KindExecute || e.Kind == observe.KindFail) {
		logger.Info("atmostonce: in doubt for now; nothing is decided before the settle delay is over", "KeyDigest", e.Digest)
	}
	if what == "" {
		return
	}
	fields := []any{"Notice", string(what), "KeyDigest", e.Digest, "Remedy", observe.Remedy(what)}
	if h := e.Record.Info.Holder; h.WorkflowID != "" {
		fields = append(fields, "HolderWorkflowID", h.WorkflowID, "HolderRunID", h.RunID)
	}
	if e.Kind == observe.KindNotice && e.Reason != "" {
		fields = append(fields, "Reason", string(e.Reason))
	}
	if e.Kind == observe.KindNotice && e.Err != nil {
		fields = append(fields, "Error", e.Err)
	}
	logger.Warn("atmostonce: "+string(what), fields...)
}
