package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/store"
)

func newCorrect(t *tool) *cobra.Command {
	d, f := decision{action: "correct"}, finding{}
	cmd := &cobra.Command{
		Use: "correct DIGEST|KEY", Short: "Correct what is settled: it was done after all, or with another result, or failed",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if d.finding, d.to, err = f.said(t.in); err != nil {
				return err
			}
			return t.decide(cmd.Context(), d)
		},
	}
	d.fits = settled("correct")
	d.add(cmd)
	f.add(cmd)
	return cmd
}

// settled refuses what is not settled.
func settled(action string) func(store.Record) error {
	return func(r store.Record) error {
		switch r.State {
		case store.Succeeded, store.Failed:
			return nil
		case store.InDoubt, store.Pending:
			return fmt.Errorf("it is %s: there is nothing to %s; resolve decides it", ops.StateName(r.State), action)
		}
		return fmt.Errorf("it is %s: there is nothing to %s", ops.StateName(r.State), action)
	}
}
