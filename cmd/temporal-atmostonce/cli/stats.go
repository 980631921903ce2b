package cli

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/store"
)

// stat is a store.Stat in JSON.
type stat struct {
	Namespace  string      `json:"namespace"`
	Activity   string      `json:"activity"`
	State      store.State `json:"state"`
	Count      int         `json:"count"`
	Oldest     time.Time   `json:"oldest"`
	AgeSeconds float64     `json:"age_seconds"`
}

func newStats(t *tool) *cobra.Command {
	return &cobra.Command{
		Use: "stats", Short: "Count what is in doubt, pending and running, by activity", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := t.open(cmd.Context())
			if err != nil {
				return err
			}
			all, unread := c.Stats(cmd.Context())
			if err := cmd.Context().Err(); err != nil {
				return err
			}
			out := t.series()
			t.printf("%-11s%-8s%-9s%-21s%s\n", "STATE", "COUNT", "OLDEST", "ACTIVITY", "NAMESPACE")
			for _, s := range all {
				t.printf("%s%-8d%-9s%s%s\n", t.colored(s.State, column(ops.StateName(s.State), 11)), s.Count, ops.Age(s.Age),
					column(s.Activity, 21), ops.Text(s.Namespace, ops.Short))
				if err := out.add(stat{s.Namespace, s.Activity, s.State, s.Count, s.Oldest.UTC(), max(0, s.Age.Seconds())}); err != nil {
					return err
				}
			}
			return errors.Join(out.end(), unread)
		},
	}
}
