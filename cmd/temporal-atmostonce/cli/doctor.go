package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/store"
)

// level says how bad a finding of the doctor is.
type level string

const (
	fine    level = "ok"
	warning level = "warning"
	bad     level = "bad"
	unknown level = "unknown" // nobody was allowed to look
)

// symptom is one thing that the doctor has looked at.
type symptom struct {
	Level level  `json:"level"`
	About string `json:"about"`
	Text  string `json:"text"`
}

// doctor looks at the store, at its records and at the workers.
type doctor struct {
	*tool
	queue   string
	reindex bool
	out     *series
	worst   error
}

func newDoctor(t *tool) *cobra.Command {
	d := &doctor{tool: t}
	cmd := &cobra.Command{
		Use: "doctor", Short: "Look whether the store is safe, and which workers have no guard", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) },
	}
	cmd.Flags().StringVar(&d.queue, "task-queue", "", "only the workers of this task queue")
	cmd.Flags().BoolVar(&d.reindex, "reindex", false, "have a Redis look at every record for those that the index does not know")
	return cmd
}

func (d *doctor) run(ctx context.Context) error {
	c, err := d.open(ctx)
	if err != nil {
		return err
	}
	d.out = d.series()
	if r, can := c.Store.(interface{ Reindex(context.Context) error }); can && d.reindex {
		if err := r.Reindex(ctx); err != nil {
			return err
		}
		d.say(fine, "index", "every record was looked at")
	} else if d.reindex {
		d.say(fine, "index", "this kind of store needs none")
	}
	d.checkStore(ctx, c.Store)
	if err := d.checkRecords(ctx, c); err != nil {
		return err
	}
	d.checkWorkers(ctx)
	return errors.Join(d.out.end(), d.worst)
}

// say writes a finding down.
func (d *doctor) say(l level, about, format string, args ...any) {
	s := symptom{l, about, fmt.Sprintf(format, args...)}
	d.printf("%-9s%-9s%s\n", l, about, ops.Text(s.Text, 2*ops.Long))
	if err := d.out.add(s); err != nil {
		d.worst = err
	}
	if l == bad && d.worst == nil {
		d.worst = errors.New("something is bad: see above")
	}
}

func (d *doctor) checkStore(ctx context.Context, s store.Store) {
	kind := "other"
	if k, says := s.(store.Kinded); says {
		kind = k.Kind()
	}
	checker, can := s.(store.Checker)
	if !can {
		d.say(unknown, "store", "a store of kind %s, which cannot be checked", kind)
		return
	}
	err := checker.Check(ctx)
	if err == nil {
		d.say(fine, "store", "%s: it keeps what it is given, as far as it can be checked", kind)
	} else {
		l := bad
		if errors.Is(err, store.ErrUnverified) {
			l = unknown
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			d.say(l, "store", "%s: %s", kind, line)
		}
	}
	d.checkSetup(ctx, s)
}

// checkRecords looks for doubts, and for owners that are dead or late.
func (d *doctor) checkRecords(ctx context.Context, c ops.Console) error {
	doubts, late, overdue, unread := 0, 0, 0, 0
	for r, err := range c.List(ctx, ops.Filter{Namespace: d.host.namespace}) {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			unread++
			d.say(bad, "records", "one cannot be read: %v", err)
		case r.State == store.InDoubt:
			doubts++
		case r.State == store.Running && r.Now.After(r.LeaseEnd):
			late++
		case r.State == store.Pending && !r.Deadline.IsZero() && r.Now.After(r.Deadline):
			overdue++
		}
	}
	if doubts > 0 {
		d.say(warning, "records", "%d in doubt: %s list", doubts, ops.Command)
	}
	if late > 0 {
		d.say(warning, "records", "%d running with a lease that is over: the worker is dead or cut off, and nobody has called since", late)
	}
	if overdue > 0 {
		d.say(warning, "records", "%d pending with an end that is overdue", overdue)
	}
	if doubts+late+overdue+unread == 0 {
		d.say(fine, "records", "nothing is in doubt, late or overdue")
	}
	return nil
}
