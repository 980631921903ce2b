package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// which says which record is meant: by its digest, its key, or a workflow that has just
// one in question.
type which struct {
	what, workflow string
}

func (w *which) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&w.workflow, "workflow-id", "w", "", "the record of this workflow, in place of a digest")
	cmd.Args = func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 1 && w.workflow == "":
			w.what = args[0]
			return nil
		case len(args) == 0 && w.workflow != "":
			return nil
		}
		return errors.New("give a DIGEST (at least 8 digits of it), a KEY, or --workflow-id")
	}
}

// find returns the one record that is meant.
func (t *tool) find(ctx context.Context, w which) (store.Record, error) {
	c, err := t.open(ctx)
	if err != nil {
		return store.Record{}, err
	}
	if w.workflow == "" {
		return c.Find(ctx, w.what)
	}
	all, err := c.OfWorkflow(ctx, w.workflow)
	if err != nil {
		return store.Record{}, err
	}
	if len(all) == 0 {
		return store.Record{}, fmt.Errorf("%w: none is of the workflow %s", resolve.ErrNotFound, ops.Text(w.workflow, ops.Short))
	}
	if len(all) == 1 || all[0].State == store.InDoubt && all[1].State != store.InDoubt {
		return all[0], nil // the only one that is in doubt is meant
	}
	var lines strings.Builder
	for _, r := range all {
		fmt.Fprintf(&lines, "\n%s  %s  %s", keys.Downstream(r.Key)[:16], ops.StateName(r.State), ops.Text(r.Info.Activity, ops.Short))
	}
	return store.Record{}, usage(fmt.Errorf("%d records are of that workflow: give one's digest%s", len(all), lines.String()))
}
