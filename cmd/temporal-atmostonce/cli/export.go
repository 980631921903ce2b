package cli

import (
	"github.com/spf13/cobra"

	"github.com/atmostonce/atmostonce/internal/ops"
)

func newExport(t *tool) *cobra.Command {
	f, decode := ops.Filter{States: ops.Every}, false
	cmd := &cobra.Command{
		Use: "export", Short: "Write every record as a line of JSON", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.Namespace = t.host.namespace
			c, err := t.open(cmd.Context())
			if err != nil {
				return err
			}
			out := &series{out: t.out, lines: true}
			for r, err := range c.List(cmd.Context(), f) {
				if err != nil {
					return err
				}
				v := row{View: t.view(r)}
				if decode {
					v.Result = t.decode(r)
				}
				if err := out.add(v); err != nil {
					return err
				}
			}
			return cmd.Context().Err()
		},
	}
	cmd.Flags().StringVar(&f.Activity, "activity", "", "only of this activity type, or function")
	cmd.Flags().BoolVar(&decode, "decode", false, "with the results, through the codec endpoint if there is one")
	return cmd
}
