package page

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

// sheet is what the page shows of one record.
type sheet struct {
	line
	Facts    []fact
	Timeline []event
	Next     []string
	Commands []string
	Choices  []choice
	Advice   string // on whether to decide here
	Notice   string // about what was just done
	Trouble  bool   // the notice is bad news
}

// fact is something that is known.
type fact struct {
	Name, Value string
	Mono        bool // as computers write it
	Link        string
	LinkName    string
	Help        string
	At          moment
}

// event is one in the life of a record.
type event struct {
	At   moment
	Text string
}

func (h *Handler) showRecord(ctx context.Context, w http.ResponseWriter, r *http.Request, digest string) {
	record, ok := h.find(ctx, w, r, digest)
	if !ok {
		return
	}
	if whole := keys.Downstream(record.Key); whole != digest {
		redirect(w, whole)
		return
	}
	if name := r.FormValue("decide"); name != "" {
		h.confirm(w, r, record, name)
		return
	}
	s := h.sheet(record)
	if r.FormValue("recorded") == fmt.Sprint(record.Revision) {
		s.Notice = "Your decision is recorded. Calls that wait for the key act on it at their next attempt."
	}
	h.send(w, r, http.StatusOK, "record", s.Activity, s)
}

// find returns the one record with a digest. Without one it answers the request.
func (h *Handler) find(ctx context.Context, w http.ResponseWriter, r *http.Request, digest string) (store.Record, bool) {
	switch found, err := h.reader.withDigest(ctx, digest, 2); {
	case err != nil:
		h.fail(w, r, err)
	case len(found) == 0:
		h.say(w, r, http.StatusNotFound, "No such record", "No record has the digest "+digest+
			". It was never made, is no longer remembered, or is in another store. Then the next call of its key runs.")
	case len(found) > 1:
		h.say(w, r, http.StatusConflict, "Several records", "The digests of several records begin with "+digest+". Give more of the digits.")
	default:
		return found[0], true
	}
	return store.Record{}, false
}

func (h *Handler) sheet(r store.Record) sheet {
	v := ops.NewView(r, h.options.SettleDelay, ops.PolicyOf(h.options.Resolver, r))
	s := sheet{line: lineOf(r, h.options.ShowKeys), Facts: h.facts(r, v)}
	for _, m := range v.History {
		s.Timeline = append(s.Timeline, event{momentOf(m.At, r.Now), ops.Text(m.Text, maxEvent)})
	}
	for _, text := range v.Next {
		s.Next = append(s.Next, full(text))
	}
	s.Commands = h.commands(v)
	s.Choices = choicesFor(r)
	switch {
	case h.options.Resolver == nil:
		s.Choices, s.Advice = nil, "This page is read-only: decide with the command."
	case r.State == store.Running:
		s.Advice = "Its worker holds the key, and its result decides. To decide all the same, use the command with --force."
	case r.State == store.Tombstone:
		s.Advice = "There is nothing to decide."
	case !r.State.IsOpen():
		s.Advice = "It is settled: decide only to correct that."
	}
	return s
}

// commands are those to copy.
func (h *Handler) commands(v ops.View) []string {
	all := []string{h.options.Command + " show " + v.Digest}
	if v.State == store.InDoubt || v.State == store.Pending {
		for _, finding := range []string{"--done --result '…'", "--failed '…'", "--not-done"} {
			all = append(all, h.options.Command+" resolve "+v.Digest+" "+finding+" --reason '…'")
		}
	}
	return all
}

func (h *Handler) facts(r store.Record, v ops.View) []fact {
	holder, now := r.Info.Holder, r.Now
	facts := []fact{
		{Name: "Key given to the callee", Value: v.Callee, Mono: true, Help: "Search the callee for this."},
		{Name: "Key", Value: full(r.Key), Mono: true},
		{Name: "Namespace", Value: full(holder.Namespace)},
		{Name: "Workflow", Value: full(holder.WorkflowID), Mono: true, LinkName: "Open in Temporal",
			Link: h.workflows.to("workflow_id", holder.WorkflowID, "run_id", holder.RunID, "namespace", holder.Namespace)},
		{Name: "Run", Value: full(holder.RunID), Mono: true},
		{Name: "Activity ID", Value: full(holder.ActivityID), Mono: true},
		{Name: "Attempt", Value: positive(holder.Attempt)},
		{Name: "Worker", Value: full(holder.Worker), Mono: true},
		{Name: "Trace", Value: v.Trace, Mono: true, LinkName: "Open the trace", Link: h.traces.to("trace_id", v.Trace)},
		{Name: "Lease ends", At: when(r.State == store.Running, r.LeaseEnd, now), Help: "Then the next call finds the key in doubt."},
		{Name: "Deadline of the attempt", At: when(r.State.IsOpen(), r.Deadline, now)},
		{Name: "Its worker may act until", At: momentOf(v.MayActUntil, now), Help: "Until then, \"it did not take effect\" is refused."},
		{Name: "Outcome", Value: outcome(r)},
		{Name: "Remembered until", At: momentOf(r.Expires, now)},
	}
	if !h.options.ShowKeys {
		facts[1].Value = ""
	}
	if r.Expires.IsZero() {
		facts = append(facts, fact{Name: "Remembered", Value: "for ever"})
	}
	return slices.DeleteFunc(facts, func(f fact) bool { return f.Value == "" && f.At.ISO == "" })
}

func positive(n int32) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func when(it bool, t, now time.Time) moment {
	if !it {
		return moment{}
	}
	return momentOf(t, now)
}

// outcome says that there is one, and nothing of it.
func outcome(r store.Record) string {
	what := map[store.State]string{store.Succeeded: "a result", store.Failed: "an error", store.InDoubt: "an error"}[r.State]
	switch {
	case what == "" || r.State == store.InDoubt && len(r.Outcome.Data) == 0:
		return ""
	case r.Outcome.Missing != "":
		return what + " that could not be kept: " + full(r.Outcome.Missing)
	}
	return what + " of " + counted(len(r.Outcome.Data), "byte") + ", which is not shown"
}
