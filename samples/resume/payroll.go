package main

import (
	"context"
	"fmt"
	"time"

	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/workflow"

	"github.com/atmostonce/atmostonce"
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
	Resumed int // the payments that earlier runs had made
	Found   int // those of which the provider had to be asked
	Paid    int // those that this run made
}

// Payroll is the activity.
type Payroll struct{ Provider provider.Client }

// PayAll pays a month's wages, one after the other, each as a step. A run that goes on
// after another one gets the results of the steps that were finished. Of the one that was
// under way when a worker was killed nobody knows: the guard asks the provider. A worker
// that stops begins no step, so that a deployment cuts none off.
func (p *Payroll) PayAll(ctx context.Context, m Month) (r Report, err error) {
	for n := range m.People {
		find := func(ctx context.Context, m Month) (provider.Charge, error) {
			made, err := p.Provider.Charges(ctx, m.wage(n))
			switch {
			case err != nil:
				return provider.Charge{}, err
			case len(made) == 0:
				return provider.Charge{}, once.ErrNotDone
			}
			r.Found++
			return made[0], nil
		}
		_, err := atmostonce.Step(ctx, m.wage(n), func(ctx context.Context) (provider.Charge, error) {
			r.Paid++
			return p.Provider.Charge(ctx, m.wage(n), 1200)
		}, once.Policy{InDoubt: once.Reconcile(find)})
		if err != nil {
			return r, err
		}
		sdkactivity.RecordHeartbeat(ctx)
	}
	r.Resumed = m.People - r.Found - r.Paid
	return r, nil
}

func guarded(p *Payroll) []once.Marked {
	return once.Mark(once.Policy{
		// The body may run again: its steps do not.
		InDoubt: once.Rerun,
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
