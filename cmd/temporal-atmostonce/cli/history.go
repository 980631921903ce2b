package cli

import (
	"github.com/spf13/cobra"

	"github.com/atmostonce/atmostonce/internal/ops"
)

func newHistory(t *tool) *cobra.Command {
	w := which{}
	cmd := &cobra.Command{
		Use: "history DIGEST|KEY", Short: "Show what happened to a record: claims, doubts, and who decided what, and why",
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := t.find(cmd.Context(), w)
			if err != nil {
				return err
			}
			v := t.view(r)
			t.printf("%s  %s\n", v.Digest, ops.Text(v.Activity, ops.Short))
			t.moments(v)
			out := t.series()
			for _, m := range v.History {
				if err := out.add(m); err != nil {
					return err
				}
			}
			return out.end()
		},
	}
	w.add(cmd)
	return cmd
}
