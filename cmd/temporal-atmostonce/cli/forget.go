package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/store"
)

func newForget(t *tool) *cobra.Command {
	d := decision{action: "forget", to: store.Absent}
	cmd := &cobra.Command{
		Use: "forget DIGEST|KEY", Short: "Erase a settled record, for instance because its customer asks for it",
		Long: "Erases a settled record: its next call runs. The audit log is what remains as evidence.\nRecords of the call's steps stay: forget them too.",
		RunE: func(cmd *cobra.Command, _ []string) error { return t.decide(cmd.Context(), d) },
	}
	d.fits = func(r store.Record) error {
		if r.State.IsOpen() {
			return errors.New("it is " + ops.StateName(r.State) + ", and its record is the only evidence: find out what happened, resolve it, then forget")
		}
		return nil
	}
	d.add(cmd)
	return cmd
}
