package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// own are the flags that all commands have besides the host's.
type own struct {
	store, operator, audit string
	settleDelay            string
}

const longHelp = `Shows what the guard has recorded about effects, and decides what is in doubt.

An effect is in doubt when its worker died, or lost its answer, in the middle of it.
Find out at the callee what came of it, then say so:

  temporal atmostonce list
  temporal atmostonce show DIGEST
  temporal atmostonce resolve DIGEST --done|--not-done|--failed MESSAGE --reason WHY

Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 changed meanwhile.`

func newRoot(t *tool) *cobra.Command {
	root := &cobra.Command{
		Use: "temporal-atmostonce", Short: "Show what is in doubt, and settle it", Long: longHelp,
		SilenceErrors: true, SilenceUsage: true, TraverseChildren: true,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(fmt.Errorf("there is no command %q: see temporal-atmostonce help", args[0]))
			}
			return cmd.Help()
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Name() == "completion" || cmd.HasParent() && cmd.Parent().Name() == "completion" {
				return nil
			}
			return t.begin(cmd)
		},
	}
	f := root.PersistentFlags()
	t.host.add(f)
	f.StringVar(&t.own.store, "store", "", "URL of the store, without a password; $ATMOSTONCE_STORE, or the profile's ("+strings.Join(schemes(), ", ")+")")
	f.StringVar(&t.own.operator, "operator", "", "who decides; the user of the operating system")
	f.StringVar(&t.own.audit, "audit", "", "file that gets a line of JSON for each decision; $ATMOSTONCE_AUDIT, or standard error")
	f.StringVar(&t.own.settleDelay, "settle-delay", "", "the guards' Options.SettleDelay, if it is not 30s")
	root.AddCommand(newList(t), newShow(t), newResolve(t), newHistory(t), newStats(t), newReopen(t), newCorrect(t), newForget(t),
		newDoctor(t), newPurge(t), newExport(t), newMetrics(t), newUI(t))
	return root
}

// oneOf refuses a value that is none of those.
func oneOf(flag, value string, values ...string) error {
	if slices.Contains(values, value) {
		return nil
	}
	return usage(fmt.Errorf("--%s is %q: it is one of %s", flag, value, strings.Join(values, ", ")))
}
