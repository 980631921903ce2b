package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// decision is what somebody decides about one record, on the command line.
type decision struct {
	which
	action string // for the audit log
	reason string
	yes    bool
	// force is for what runs.
	force bool
	// revision is that of the record as it was shown; 0: as this command shows it.
	revision uint64
	retryNow bool

	to      store.State // Absent: erase
	finding resolve.Finding
	// fits says why the command is not for such a record; the record is as it was
	// read.
	fits func(r store.Record) error
}

func (d *decision) add(cmd *cobra.Command) {
	d.which.add(cmd)
	f := cmd.Flags()
	f.StringVar(&d.reason, "reason", "", "why: it is kept in the record's history")
	f.BoolVarP(&d.yes, "yes", "y", false, "do not ask")
	f.Uint64Var(&d.revision, "revision", 0, "decide only if the record is as show has shown it")
}

// decided is what a decision came to.
type decided struct {
	row
	From    store.State `json:"from"`
	By      string      `json:"decided_by"`
	Why     string      `json:"why"`
	Retried bool        `json:"retried,omitempty"`
}

// decide carries out a decision about the record that it has shown.
func (t *tool) decide(ctx context.Context, d decision) error {
	if !t.asks && (!d.yes || d.reason == "") {
		return usage(errors.New("nobody can be asked here: give --reason WHY and --yes"))
	}
	by, err := t.operatorName()
	if err != nil {
		return err
	}
	r, err := t.find(ctx, d.which)
	if err != nil {
		return err
	}
	if d.revision != 0 && d.revision != r.Revision {
		return coded{fmt.Errorf("%w: it is %s now, revision %d: show it again", store.ErrMoved, ops.StateName(r.State), r.Revision), codeMoved}
	}
	if err := d.fits(r); err != nil {
		return err
	}
	if err := t.confirm(r, &d); err != nil {
		return err
	}
	now, unlogged, err := t.write(ctx, r, d, by)
	if err != nil {
		return errors.Join(err, unlogged)
	}
	return errors.Join(t.report(ctx, r, now, d, by), unlogged)
}

// write has the guard decide, and the audit log say so. unlogged is why that has not: what
// was decided is decided.
func (t *tool) write(ctx context.Context, r store.Record, d decision, by string) (now store.Record, unlogged, err error) {
	log, err := t.openAudit()
	if err != nil {
		return r, nil, err
	}
	defer log.close()
	g, err := t.guard()
	if err != nil {
		return r, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, decideTime)
	defer cancel()
	said := resolve.Decision{By: by, Why: d.reason, Force: d.force && r.State == store.Running}
	if d.to == store.Absent {
		now, err = g.Forget(ctx, r, said)
	} else {
		now, err = g.Resolve(ctx, r, d.finding, said)
	}
	entry := ops.NewEntry(d.action, r, now, by, d.reason)
	entry.Force = said.Force
	if err != nil {
		err = inWordsOfFlags(err)
		entry.To, entry.Error = "", err.Error()
	}
	return now, log.write(entry), err
}

// report says what was decided.
func (t *tool) report(ctx context.Context, before, now store.Record, d decision, by string) error {
	e := ops.NewEntry(d.action, before, now, by, d.reason)
	t.printf("%s\n", e.Said())
	out := decided{row: row{View: t.view(now)}, From: before.State, By: by, Why: d.reason}
	var failed error
	if d.action == "resolve" {
		out.Retried, failed = t.retry(ctx, before, d.retryNow)
	}
	return errors.Join(t.value(out), failed)
}

// confirm shows the record, says what the decision risks, and asks; with --yes it says
// and asks nothing.
func (t *tool) confirm(r store.Record, d *decision) error {
	if d.yes && d.reason != "" {
		return nil
	}
	ask := bufio.NewReader(t.in)
	read := func(question string) string {
		fmt.Fprint(t.err, question)
		answer, _ := ask.ReadString('\n') // the end of the input is no answer
		return strings.TrimSpace(answer)
	}
	v := t.view(r)
	t.note("%s  %s, for %s: %s, %s", v.Digest, ops.StateName(r.State), v.Age(), ops.Text(v.Activity, ops.Short), ops.Text(v.Subject(), ops.Short))
	for _, m := range v.History {
		t.note("  %s  %s", t.when(v, m.At), ops.Text(m.Text, ops.Long))
	}
	t.note("%s", ops.Risk(r, d.to))
	if d.reason == "" {
		if d.reason = read("Why? It is kept in the record's history: "); d.reason == "" {
			return errors.New("nothing is decided: no reason was given")
		}
	}
	if !d.yes && read("Type yes to decide so: ") != "yes" {
		return errors.New("nothing is decided")
	}
	return nil
}

// inWordsOfFlags has an error of the guard speak of the command line.
func inWordsOfFlags(err error) error {
	text := strings.NewReplacer(
		"or decide in spite of that with Decision.Force", "or give --force",
		"; or decide in spite of that with Decision.Force", "",
		"AsDone", "--done", "AsFailed", "--failed", "AsNotDone", "--not-done", "Guard.Resolve", "resolve",
		"atmostonce: resolve: ", "", "atmostonce: forget: ", "", "store: ", "",
	).Replace(err.Error())
	if errors.Is(err, resolve.ErrTooEarly) {
		text, _, _ = strings.Cut(text, ": wait, then find out again")
		text += ": wait, then find out again"
	}
	return coded{errors.New(text), codeOf(err)}
}
