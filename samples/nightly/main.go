// Command nightly mails a report once for each date, although two schedules
// fire for it (one was renamed, and nobody deleted the old one) and an operator
// runs it again by hand.
//
// The guard's key is the report's date and not the run, so the scope is the
// namespace. Only the mail is guarded: to build the report again does no harm.
// A later build may come to another total; Match says that this does not make
// it another report, and whoever asks again gets the receipt of the one that
// went out.
package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/samples/internal/provider"
	"github.com/atmostonce/atmostonce/samples/internal/stage"
)

// Report is what is mailed.
type Report struct {
	Date  string
	Cents int64 // the day's total
}

// Reports are the activities.
type Reports struct {
	Mail  provider.Client // stands for a mail service: a line on its ledger is a mail
	total atomic.Int64
}

// BuildReport adds up a day. Each time it finds one more late booking.
func (r *Reports) BuildReport(_ context.Context, date string) (Report, error) {
	return Report{date, 1200 + r.total.Add(1)}, nil
}

// MailReport mails each time it runs, and returns the mail as it went out.
func (r *Reports) MailReport(ctx context.Context, report Report) (string, error) {
	mail, err := r.Mail.Charge(ctx, report.Date, report.Cents)
	return fmt.Sprintf("mail %s for %s, with a total of %d", mail.ID, mail.Order, mail.Cents), err
}

func guarded(r *Reports) []once.Marked {
	return once.Mark(once.Policy{
		Key:     keys.From(func(r Report) string { return r.Date }),
		Scope:   keys.PerNamespace,
		Match:   keys.Any(),
		TTL:     once.Forever,            // a report of last year is not mailed again either
		InDoubt: once.HoldFor(time.Hour), // to look into the outbox; then the workflow fails
	}, r.MailReport)
}

var scheduledFor = temporal.NewSearchAttributeKeyTime("TemporalScheduledStartTime")

// Nightly mails the report of a date; without one, of the day before the time
// that a schedule meant.
func Nightly(ctx workflow.Context, date string) (mail string, err error) {
	if date == "" {
		at, ok := workflow.GetTypedSearchAttributes(ctx).GetTime(scheduledFor)
		if !ok {
			return "", temporal.NewNonRetryableApplicationError("neither a date nor a schedule", "NoDate", nil)
		}
		date = at.UTC().AddDate(0, 0, -1).Format(time.DateOnly)
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	var reports *Reports
	var report Report
	if err := workflow.ExecuteActivity(ctx, reports.BuildReport, date).Get(ctx, &report); err != nil {
		return "", err
	}
	err = workflow.ExecuteActivity(ctx, reports.MailReport, report).Get(ctx, &mail)
	return mail, err
}

func main() { stage.Main(play) }

func play(ctx context.Context, s *stage.Stage) (err error) {
	reports := &Reports{Mail: s.Provider}
	// A guard is made of a store and the marks. As a plugin of the client it is in
	// each of its workers; Work starts one, as it would without a guard.
	guard, err := interceptor.New(s.Records, interceptor.Options{Activities: guarded(reports)})
	if err != nil {
		return err
	}
	c, err := s.Work(ctx, client.Options{Plugins: []client.Plugin{guard}}, Nightly, reports)
	if err != nil {
		return err
	}

	var schedules []client.ScheduleHandle
	defer func() {
		for _, h := range schedules {
			err = errors.Join(err, h.Delete(ctx))
		}
	}()
	for _, name := range []string{"report", "nightly-report"} {
		h, err := c.ScheduleClient().Create(ctx, client.ScheduleOptions{
			ID:     s.Queue + "-" + name,
			Spec:   client.ScheduleSpec{Calendars: []client.ScheduleCalendarSpec{{Hour: []client.ScheduleRange{{Start: 2}}}}},
			Action: &client.ScheduleWorkflowAction{ID: s.Queue + "-" + name, Workflow: Nightly, Args: []any{""}, TaskQueue: s.Queue},
			Paused: true, // nobody waits for the night here: it is made up for
		})
		if err != nil {
			return err
		}
		schedules = append(schedules, h)
		if err := fire(ctx, s, c, h, time.Date(2026, 2, 1, 2, 0, 0, 0, time.UTC)); err != nil {
			return err
		}
	}
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: s.Queue}, Nightly, "2026-01-31")
	if err != nil {
		return err
	}
	if err := show(ctx, s, "by hand", run); err != nil {
		return err
	}
	if err := fire(ctx, s, c, schedules[0], time.Date(2026, 2, 2, 2, 0, 0, 0, time.UTC)); err != nil {
		return err
	}
	mailed, err := s.Charged()
	fmt.Fprintf(s.Out, "mails in the outbox: %v\n", mailed)
	return err
}

// fire has a schedule fire for a night, and waits for its workflow.
func fire(ctx context.Context, s *stage.Stage, c client.Client, h client.ScheduleHandle, night time.Time) error {
	err := h.Backfill(ctx, client.ScheduleBackfillOptions{Backfill: []client.ScheduleBackfill{{
		Start: night.Add(-time.Minute), End: night.Add(time.Minute), Overlap: enums.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL,
	}}})
	if err != nil {
		return err
	}
	for {
		d, err := h.Describe(ctx)
		if err != nil {
			return err
		}
		for _, a := range d.Info.RecentActions {
			if a.ScheduleTime.Equal(night) && a.StartWorkflowResult != nil {
				run := c.GetWorkflow(ctx, a.StartWorkflowResult.WorkflowID, a.StartWorkflowResult.FirstExecutionRunID)
				return show(ctx, s, "schedule "+strings.TrimPrefix(h.GetID(), s.Queue+"-"), run)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the schedule did not fire: %w", context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// show waits for a workflow, and prints the receipt that it ended with.
func show(ctx context.Context, s *stage.Stage, cause string, run client.WorkflowRun) error {
	var mail string
	err := run.Get(ctx, &mail)
	fmt.Fprintf(s.Out, "%s: %s\n", cause, mail)
	return err
}
