package e2e

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/keys"
)

type charge struct {
	Order string
	Cents int
}

type receipt struct{ ID string }

// call is an activity call that a workflow is to make.
type call struct {
	Activity     string // defaults to Charge
	Input        charge
	StartToClose time.Duration // defaults to a minute
	Heartbeat    time.Duration // timeout; none by default
	Attempts     int32         // unlimited by default
}

func (c call) context(ctx workflow.Context) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: c.StartToClose,
		HeartbeatTimeout:    c.Heartbeat,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 1, MaximumAttempts: c.Attempts,
		},
	})
}

// verdict is what a workflow learned from one call.
type verdict struct {
	Receipt         receipt
	Failure         string // text of the error; empty for a result
	Why             once.Refusal
	MayHaveHappened bool
	NonRetryable    bool
	Details         receipt // of an application error, if it is one
}

// one is a workflow that makes one call.
func one(ctx workflow.Context, c call) (verdict, error) {
	var v verdict
	err := workflow.ExecuteActivity(c.context(ctx), c.Activity, c.Input).Get(ctx, &v.Receipt)
	return v.of(err), nil
}

func (v verdict) of(err error) verdict {
	if err == nil {
		return v
	}
	v.Failure = err.Error()
	v.Why, _ = once.Why(err)
	v.MayHaveHappened = once.MayHaveHappened(err)
	v.NonRetryable = nonRetryable(err)
	if app := (*temporal.ApplicationError)(nil); errors.As(err, &app) && app.HasDetails() {
		// Details of another type leave it empty.
		_ = app.Details(&v.Details)
	}
	return v
}

// twice is a workflow that makes the same call two times, and does not look at
// what comes of it.
func twice(ctx workflow.Context, c call) error {
	for range 2 {
		_ = workflow.ExecuteActivity(c.context(ctx), c.Activity, c.Input).Get(ctx, nil)
	}
	return nil
}

// perOrder makes the charges of one order one effect, whichever workflow asks.
var perOrder = once.Policy{Key: keys.From(func(c charge) string { return c.Order }), Scope: keys.PerNamespace}
