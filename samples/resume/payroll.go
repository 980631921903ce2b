package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/samples/internal/provider"
)

// Month is the workflow's input.
type Month struct {
	Name   string
	People int
}

// wage names a payment on the ledger.
func (m Month) wage(n int) string { return fmt.Sprintf("wage %s %03d", m.Name, n) }

// Report is what PayAll did, in its last run.
type Report struct {
	Resumed int // the payments that the last checkpoint knew of
	Found   int // those that were made after it
	Paid    int // those that this run made
}

// Payroll is the activity.
type Payroll struct{ Provider provider.Client }

// errStopped ends a run at a step's end, so that a deployment cuts none off.
var errStopped = errors.New("the worker stops")

// PayAll pays a month's wages, one after the other, and checkpoints by its
// heartbeats. The SDK does not send each of them: after one it keeps the next
// ones back for up to 80 % of the heartbeat timeout. So a run that takes over
// from one that was killed asks the provider about the payments after the
// checkpoint, until it finds one that was not made. Without that question all
// of them would be made twice; with worker.Options.MaxHeartbeatThrottleInterval
// at its least, still the one that was under way.
func (p *Payroll) PayAll(ctx context.Context, m Month) (r Report, err error) {
	if sdkactivity.HasHeartbeatDetails(ctx) {
		if err := sdkactivity.GetHeartbeatDetails(ctx, &r.Resumed); err != nil {
			return r, err
		}
	}
	claim, _ := once.FromContext(ctx)
	asking := claim.Takeover
	for n := r.Resumed; n < m.People; n++ {
		select {
		case <-ctx.Done():
			return r, context.Cause(ctx)
		case <-sdkactivity.GetWorkerStopChannel(ctx):
			return r, errStopped
		default:
		}
		if asking {
			made, err := p.Provider.Charges(ctx, m.wage(n))
			if err != nil {
				return r, err
			}
			asking = len(made) > 0
		}
		if asking {
			r.Found++
		} else {
			if _, err := p.Provider.Charge(ctx, m.wage(n), 1200); err != nil {
				return r, err
			}
			r.Paid++
		}
		sdkactivity.RecordHeartbeat(ctx, n+1)
	}
	return r, nil
}

func guarded(p *Payroll) []once.Marked {
	return once.Mark(once.Policy{
		// An error in the middle does not say that nothing happened.
		OnFailure: once.Doubt,
		// Only a retry of the same call goes on: it alone has the checkpoint.
		InDoubt: once.Resume,
	}, p.PayAll)
}

// Pay is the workflow.
func Pay(ctx workflow.Context, m Month) (r Report, err error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Hour,       // the whole run, if nothing interrupts it
		HeartbeatTimeout:    3 * time.Second, // how soon a killed worker is noticed
	})
	var payroll *Payroll
	err = workflow.ExecuteActivity(ctx, payroll.PayAll, m).Get(ctx, &r)
	return r, err
}
