package cli

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atmostonce/atmostonce/internal/ops"
)

func newShow(t *tool) *cobra.Command {
	w, decode := which{}, false
	cmd := &cobra.Command{
		Use: "show DIGEST|KEY", Short: "Show a record, its history, and what comes next",
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := t.find(cmd.Context(), w)
			if err != nil {
				return err
			}
			shown := row{View: t.view(r), Waiting: t.waitingFor(cmd.Context(), r)}
			if decode {
				shown.Result = t.decode(r)
			}
			t.show(shown)
			return t.value(shown)
		},
	}
	w.add(cmd)
	cmd.Flags().BoolVar(&decode, "decode", false, "show the result, too, through the codec endpoint if there is one")
	return cmd
}

// show writes a record as text.
func (t *tool) show(v row) {
	line := func(name, text string) {
		if text != "" {
			t.printf("  %-12s %s\n", name, text)
		}
	}
	h := v.Holder
	t.printf("%s  %s, for %s\n", v.Digest, t.colored(v.State, ops.StateName(v.State)), v.Age())
	line("Activity", ops.Text(v.Activity, ops.Long))
	line("Key", ops.Text(v.Key, ops.Long))
	line("Callee's key", v.Callee)
	line("Namespace", ops.Text(h.Namespace, ops.Long))
	line("Workflow", ops.Text(h.WorkflowID, ops.Long))
	line("Run", ops.Text(h.RunID, ops.Long))
	if h.ActivityID != "" {
		line("Attempt", fmt.Sprintf("%d of activity %s", h.Attempt, ops.Text(h.ActivityID, ops.Short)))
	}
	line("Worker", ops.Text(h.Worker, ops.Long))
	if v.Waiting != nil {
		line("Waiting", v.Waiting.String())
	}
	line("Lease end", t.when(v.View, v.LeaseEnd))
	line("Deadline", t.when(v.View, v.Deadline))
	line("Expires", t.when(v.View, v.Expires))
	line("Result", t.resultText(v))
	line("Trace", t.traceLink(v.Trace))
	line("Temporal", t.temporalLink(v.View))
	t.printf("  History\n")
	t.moments(v.View)
	t.printf("  Next\n")
	for _, sentence := range v.Next {
		t.printf("    %s\n", ops.Text(sentence, 10*ops.Long))
	}
	if v.Command != "" {
		t.printf("\n    %s --revision %d\n", v.Command, v.Revision)
	}
}

func (t *tool) moments(v ops.View) {
	for _, m := range v.History {
		t.printf("    %s  %s\n", t.when(v, m.At), ops.Text(m.Text, ops.Long))
	}
}

func (t *tool) resultText(v row) string {
	switch {
	case v.Result != nil && v.Result.Error != "":
		return "cannot be shown: " + ops.Text(v.Result.Error, ops.Long)
	case v.Result != nil:
		return ops.Text(v.Result.Text, 20*ops.Long)
	case v.Missing != "":
		return "not kept: " + ops.Text(v.Missing, ops.Long)
	case v.ResultBytes > 0:
		return fmt.Sprintf("%d bytes, hidden: --decode shows them", v.ResultBytes)
	}
	return ""
}

// traceLink is where the trace viewer has the trace; its ID where no viewer is known.
func (t *tool) traceLink(id string) string {
	if t.profile.Trace == "" || id == "" {
		return id
	}
	return ops.Text(strings.ReplaceAll(t.profile.Trace, "{trace}", id), ops.Long)
}

// temporalLink is where Temporal's web UI has the holder's workflow.
func (t *tool) temporalLink(v ops.View) string {
	if t.profile.UI == "" || v.Holder.WorkflowID == "" {
		return ""
	}
	return fmt.Sprintf("%s/namespaces/%s/workflows/%s/%s/history", ops.Text(strings.TrimRight(t.profile.UI, "/"), ops.Long),
		url.PathEscape(v.Holder.Namespace), url.PathEscape(v.Holder.WorkflowID), url.PathEscape(v.Holder.RunID))
}
