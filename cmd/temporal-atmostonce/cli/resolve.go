package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/temporal"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// finding is what the flags of resolve and correct say.
type finding struct {
	done, notDone  bool
	noResult       bool
	failed, result string
	failureType    string
}

func (f *finding) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.done, "done", false, "the effect took place: calls get the --result")
	flags.StringVar(&f.result, "result", "", "with --done: what the call would have returned, as JSON, @FILE, or @- for standard input")
	flags.BoolVar(&f.noResult, "no-result", false, "with --done: the call returns an error only")
	flags.StringVar(&f.failed, "failed", "", "it did not take place, and is not to be tried again: calls fail with this message")
	flags.StringVar(&f.failureType, "type", "", "with --failed: the type of the ApplicationError")
}

// said returns the finding, and what the record becomes.
func (f *finding) said(in io.Reader) (resolve.Finding, store.State, error) {
	n := 0
	for _, given := range []bool{f.done, f.notDone, f.failed != ""} {
		if given {
			n++
		}
	}
	switch {
	case n != 1:
		return resolve.Finding{}, "", usage(errors.New("say what you found out, by one of --done, --not-done and --failed MESSAGE"))
	case f.done == (f.result == "" && !f.noResult), f.result != "" && f.noResult:
		return resolve.Finding{}, "", usage(errors.New("--done goes with one of --result JSON, what the call would have returned, and --no-result, if it returns an error only"))
	case f.failed == "" && f.failureType != "":
		return resolve.Finding{}, "", usage(errors.New("--type goes with --failed"))
	case f.notDone:
		return resolve.AsNotDone(), store.Tombstone, nil
	case f.failed != "":
		return resolve.AsFailed(temporal.NewNonRetryableApplicationError(f.failed, f.failureType, nil)), store.Failed, nil
	case f.result == "":
		return resolve.AsDone(nil), store.Succeeded, nil
	}
	text := []byte(f.result)
	if path, isFile := strings.CutPrefix(f.result, "@"); isFile {
		var err error
		if path == "-" {
			text, err = io.ReadAll(in)
		} else {
			text, err = os.ReadFile(path)
		}
		if err != nil {
			return resolve.Finding{}, "", fmt.Errorf("--result: %w", err)
		}
	}
	return resolve.AsDone(resolve.JSON(text)), store.Succeeded, nil
}

func newResolve(t *tool) *cobra.Command {
	d, f := decision{action: "resolve"}, finding{}
	cmd := &cobra.Command{
		Use: "resolve DIGEST|KEY", Short: "Decide what is in doubt or pending",
		Long: "Decides what is in doubt or pending: say what you have found out at the callee.\nIt decides about the record as it was shown, or not at all: exit code 4.",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if d.finding, d.to, err = f.said(t.in); err != nil {
				return err
			}
			return t.decide(cmd.Context(), d)
		},
	}
	d.fits = func(r store.Record) error {
		switch {
		case r.State == store.Running && !d.force:
			return errors.New("it is running, and may have its effect yet: wait until it has ended, or give --force")
		case r.State != store.Running && d.force:
			return usage(fmt.Errorf("--force is for what is running; this is %s", ops.StateName(r.State)))
		case !r.State.IsOpen():
			return coded{fmt.Errorf("it is no longer in doubt, but %s: look at it with show; correct and reopen change what is settled", ops.StateName(r.State)), codeMoved}
		}
		return nil
	}
	d.add(cmd)
	f.add(cmd)
	cmd.Flags().BoolVar(&f.notDone, "not-done", false, "it did not take place: the next call has the effect")
	cmd.Flags().BoolVar(&d.force, "force", false, "decide although it is running: whoever runs it may have its effect in spite of that")
	cmd.Flags().BoolVar(&d.retryNow, "retry-now", false, "have Temporal try the waiting call again at once")
	return cmd
}
