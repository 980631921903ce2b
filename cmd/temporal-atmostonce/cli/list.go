package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/store"
)

// lister lists records.
type lister struct {
	*tool
	states           []string
	all, watch       bool
	activity         string
	workflow, digest string
	older, interval  time.Duration
	limit            int
}

func newList(t *tool) *cobra.Command {
	l := &lister{tool: t}
	cmd := &cobra.Command{
		Use: "list", Short: "List records, those in doubt first", Args: cobra.NoArgs,
		Long: "Lists what is in doubt, pending or running, in this order and the oldest first.\nWhat is settled is listed with --state or --all, after a look at every record.",
		RunE: func(cmd *cobra.Command, _ []string) error { return l.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&l.states, "state", nil, "in_doubt, pending, running, failed, succeeded, or tombstone; may be repeated")
	f.BoolVar(&l.all, "all", false, "list what is settled, too")
	f.StringVar(&l.activity, "activity", "", "only of this activity type, or function")
	f.StringVarP(&l.workflow, "workflow-id", "w", "", "only of this workflow")
	f.StringVar(&l.digest, "digest", "", "only digests that begin so")
	f.DurationVar(&l.older, "older", 0, "only those that have been in their state for longer")
	f.IntVar(&l.limit, "limit", 50, "list so many at most; 0: all")
	f.BoolVar(&l.watch, "watch", false, "list again and again")
	f.DurationVar(&l.interval, "interval", 5*time.Second, "of --watch")
	return cmd
}

func (l *lister) run(ctx context.Context) error {
	filter, err := l.filter()
	if err != nil {
		return err
	}
	c, err := l.open(ctx)
	if err != nil {
		return err
	}
	for {
		if l.watch && l.isText() && l.colors {
			fmt.Fprint(l.out, "\x1b[H\x1b[2J")
		}
		if err := l.once(ctx, c, filter); err != nil || !l.watch {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(l.interval, time.Second)):
		}
	}
}

func (l *lister) filter() (ops.Filter, error) {
	f := ops.Filter{Namespace: l.host.namespace, Activity: l.activity, WorkflowID: l.workflow, Digest: l.digest, Older: l.older}
	if l.all {
		f.States = ops.Every
	}
	for _, text := range l.states {
		if text == "in-doubt" || text == "in doubt" {
			text = string(store.InDoubt)
		}
		var names []string
		for _, s := range ops.Every {
			names = append(names, string(s))
		}
		if err := oneOf("state", text, names...); err != nil {
			return f, err
		}
		f.States = append(f.States, store.State(text))
	}
	return f, nil
}

// once lists once. It keeps nothing of what it has listed.
func (l *lister) once(ctx context.Context, c ops.Console, f ops.Filter) error {
	out, sum := l.series(), summary{}
	for r, err := range c.List(ctx, f) {
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			sum.unread++
			l.note("A record cannot be read: %s", ops.Text(err.Error(), ops.Long))
			continue
		}
		if l.limit > 0 && sum.n == l.limit {
			sum.more = true
			break
		}
		w := row{View: l.view(r)}
		if l.limit > 0 {
			w.Waiting = l.waitingFor(ctx, r)
		}
		if sum.n == 0 {
			l.header()
		}
		sum.add(w)
		l.line(w)
		if !l.isText() {
			if err := out.add(w); err != nil {
				return err
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := out.end(); err != nil {
		return err
	}
	l.printf("%s\n", sum.text(l.limit))
	if sum.unread > 0 {
		return fmt.Errorf("%s cannot be read", count(sum.unread, "record", "records"))
	}
	return nil
}

func (l *lister) header() {
	age := column("FOR", 9)
	if l.host.timeFormat != "relative" {
		age = column("SINCE", 22)
	}
	l.printf("%-18s%-11s%s%-21s%-25s%-9s%s\n", "DIGEST", "STATE", age, "ACTIVITY", "WORKFLOW", "ATTEMPT", "WAITING")
}

func (l *lister) line(w row) {
	age := column(w.Age(), 9)
	if l.host.timeFormat != "relative" {
		age = column(w.Since.UTC().Format(time.RFC3339), 22)
	}
	waits := "not asked"
	switch {
	case !w.State.IsOpen():
		waits = "-"
	case w.Waiting != nil:
		waits = w.Waiting.String()
	}
	l.printf("%s  %s%s%s%s%-9d%s\n", w.Digest, l.colored(w.State, column(ops.StateName(w.State), 11)), age,
		column(w.Activity, 21), column(w.Subject(), 25), w.Holder.Attempt, waits)
}

// summary is what the last line of a list says.
type summary struct {
	n, doubts, nobody, unread int
	oldest                    time.Duration
	more                      bool
}

func (s *summary) add(w row) {
	s.n++
	if w.State == store.InDoubt {
		s.doubts++
		s.oldest = max(s.oldest, time.Duration(w.AgeSeconds*float64(time.Second)))
		if w.Waiting != nil && !w.Waiting.Waits {
			s.nobody++
		}
	}
}

func (s *summary) text(limit int) string {
	text := "Nothing is in doubt."
	switch {
	case s.doubts > 0:
		text = fmt.Sprintf("%d in doubt, the oldest for %s. Next: %s show DIGEST", s.doubts, ops.Age(s.oldest), ops.Command)
	case s.n == 0 && s.unread == 0:
		text = "There is no such record."
	case s.unread > 0:
		text = "Of the records that can be read, none is in doubt."
	}
	if s.nobody > 0 {
		text += fmt.Sprintf("\nNobody waits for %s: no alert counts that again.", count(s.nobody, "of them", "of them"))
	}
	if s.more {
		text += fmt.Sprintf("\nThere are more than %d: --limit 0 lists all.", limit)
	}
	return text
}
