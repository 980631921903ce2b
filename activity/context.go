package activity

import (
	"context"

	sdkactivity "go.temporal.io/sdk/activity"

	"github.com/atmostonce/atmostonce/keys"
)

// Key returns the idempotency key to hand to the callee of the side effect: 64
// hexadecimal digits, the same in every attempt and every duplicate. It works
// in every activity; without a guard, the key is the same in the attempts of
// one call. Outside of an activity, and without [NewContext], it panics as
// activity.GetInfo does. The key of a lost claim is the same: ask ctx, which is
// canceled by then, before you use it.
func Key(ctx context.Context) string {
	if c, ok := FromContext(ctx); ok {
		return c.Key
	}
	info := sdkactivity.GetInfo(ctx)
	kind := "remote"
	if info.IsLocalActivity {
		kind = "local" // their IDs may be equal
	}
	return keys.Downstream(keys.Join("call", kind, info.Namespace, info.WorkflowExecution.ID,
		info.WorkflowExecution.RunID, info.ActivityRunID, info.ActivityID, info.ActivityType.Name))
}
