package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/store"
)

// purger erases what was settled long ago.
type purger struct {
	*tool
	older    time.Duration
	activity string
	execute  bool
	reason   string
}

func newPurge(t *tool) *cobra.Command {
	p := purger{tool: t}
	cmd := &cobra.Command{
		Use: "purge", Short: "Erase records that were settled long ago; without --execute it only counts them", Args: cobra.NoArgs,
		Long: "Erases records that were settled long ago, before they expire. A late duplicate of such a\ncall has its effect again: choose --older longer than any call can be retried or reset.",
		RunE: func(cmd *cobra.Command, _ []string) error { return p.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.DurationVar(&p.older, "older", 0, "settled for longer than this; required")
	f.StringVar(&p.activity, "activity", "", "only of this activity type, or function")
	f.BoolVar(&p.execute, "execute", false, "erase them")
	f.StringVar(&p.reason, "reason", "", "why: it is kept for an hour, and in the audit log")
	return cmd
}

// purged is what a purge came to.
type purged struct {
	Matching int  `json:"matching"`
	Erased   int  `json:"erased"`
	Kept     int  `json:"kept"` // that changed meanwhile, or may not be erased yet
	DryRun   bool `json:"dry_run"`
}

func (p *purger) run(ctx context.Context) error {
	if p.older <= 0 {
		return usage(errors.New("give --older, such as --older 720h"))
	}
	if p.execute && p.reason == "" {
		return usage(errors.New("--execute needs --reason"))
	}
	by, err := p.operatorName()
	if err != nil {
		return err
	}
	c, err := p.open(ctx)
	if err != nil {
		return err
	}
	sum := purged{DryRun: !p.execute}
	var first, stopped error
	f := ops.Filter{States: []store.State{store.Succeeded, store.Failed}, Namespace: p.host.namespace, Activity: p.activity, Older: p.older}
	for r, err := range c.List(ctx, f) {
		if err != nil {
			return err
		}
		sum.Matching++
		if !p.execute {
			continue
		}
		_, unlogged, err := p.write(ctx, r, decision{action: "purge", reason: p.reason, to: store.Absent}, by)
		if err == nil {
			sum.Erased++
		} else if sum.Kept++; first == nil {
			first = err
		}
		if stopped = unlogged; stopped != nil { // nothing more is erased of which the log would have no line
			break
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if sum.DryRun {
		p.printf("%s settled more than %s ago. Nothing is erased; --execute --reason WHY does that.\n", count(sum.Matching, "record was", "records were"), ops.Age(p.older))
	} else {
		p.printf("%s erased, of %d.\n", count(sum.Erased, "record is", "records are"), sum.Matching)
	}
	if first != nil {
		first = fmt.Errorf("%s kept, the first because: %w", count(sum.Kept, "record is", "records are"), first)
	}
	return errors.Join(p.value(sum), first, stopped)
}
