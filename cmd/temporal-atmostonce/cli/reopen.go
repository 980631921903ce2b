package cli

import (
	"github.com/spf13/cobra"

	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

func newReopen(t *tool) *cobra.Command {
	d := decision{action: "reopen", to: store.Tombstone, finding: resolve.AsNotDone(), fits: settled("reopen")}
	cmd := &cobra.Command{
		Use: "reopen DIGEST|KEY", Short: "Let the effect of a settled record happen again",
		Long: "Lets the effect of a settled record happen again, by the next call of its key.\nThe call that has its answer already does not ask again.",
		RunE: func(cmd *cobra.Command, _ []string) error { return t.decide(cmd.Context(), d) },
	}
	d.add(cmd)
	return cmd
}
