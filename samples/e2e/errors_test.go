package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"google.golang.org/protobuf/encoding/protojson"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/samples/internal/tool"
)

// inDoubt starts a workflow whose activity ends in doubt under these options.
func (s *scene) inDoubt(o interceptor.Options) client.WorkflowRun {
	s.t.Helper()
	g, err := interceptor.New(s.store, o)
	require.NoError(s.t, err)
	s.workWith(g, worker.Options{}, func(r worker.Registry) {
		r.RegisterActivityWithOptions(func(context.Context, charge) (receipt, error) {
			return receipt{}, io.ErrUnexpectedEOF
		}, sdkactivity.RegisterOptions{Name: "ChargeCard"})
	})
	return s.start("order-7", "one", call{Activity: "ChargeCard"})
}

func TestErrors_AreShownAsTheDocsSay(t *testing.T) {
	t.Parallel()
	held := newScene(t, client.Options{})
	run := held.inDoubt(interceptor.Options{Activities: once.Mark(once.Policy{}, "ChargeCard")})
	require.Error(t, held.held(run, once.InDoubt))
	texts := map[string]string{
		"web UI":                     anonymous(run, held.lastFailure(run)),
		"temporal workflow describe": folded(anonymous(run, held.temporal(run, "describe", "Type", "State", "Attempt", "LastFailure"))),
	}
	failed := newScene(t, client.Options{})
	run = failed.inDoubt(guardOptions(once.Mark(once.Policy{InDoubt: once.Fail}, "ChargeCard")))
	require.True(t, failed.verdict(run).MayHaveHappened)
	texts["temporal workflow show"] = folded(anonymous(run, failed.temporal(run, "show", "failure.message", "failure.applicationFailureInfo", "retryState")))
	requireQuoted(t, "errors.md", texts)
}

// A policy that waits for a decision cannot wait longer than there are attempts.
func TestErrors_LastAttemptIsCalledSo(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	s.work(once.Policy{}, func(context.Context, charge) (receipt, error) { return receipt{}, io.ErrUnexpectedEOF })
	v := s.verdict(s.start("limited", "one", call{Attempts: 2}))
	require.Contains(t, v.Failure, "this was the last attempt, policy Hold. The workflow goes on without an answer: the last owner may act until ")
	require.True(t, v.MayHaveHappened)
}

var detailsInJSON = regexp.MustCompile(`(?s)"details":\s*\{\s*"payloads":\s*\[.*?\]\s*\}`)

// lastFailure returns the last failure of the run's pending activity as JSON,
// with its details decoded.
func (s *scene) lastFailure(run client.WorkflowRun) string {
	s.t.Helper()
	d, err := s.client.DescribeWorkflowExecution(s.t.Context(), run.GetID(), run.GetRunID())
	require.NoError(s.t, err)
	failure := d.GetPendingActivities()[0].GetLastFailure()
	details := failure.GetApplicationFailureInfo().GetDetails().GetPayloads()
	require.Len(s.t, details, 1)
	text := detailsInJSON.ReplaceAllLiteralString(protojson.Format(failure), `"details": [`+string(details[0].GetData())+"]")
	var indented bytes.Buffer
	require.NoError(s.t, json.Indent(&indented, []byte(text), "", "  "))
	return indented.String()
}

// temporal returns the lines with these words of what Temporal's CLI says about
// the workflow.
func (s *scene) temporal(run client.WorkflowRun, command string, words ...string) string {
	s.t.Helper()
	binary, err := tool.TemporalCLI.Binary(s.t.Context(), io.Discard)
	require.NoError(s.t, err)
	args := []string{"workflow", command, "--address", server.Address, "--workflow-id", run.GetID(), "--color", "never"}
	if command == "show" {
		args = append(args, "--detailed")
	}
	out, err := exec.CommandContext(s.t.Context(), binary, args...).Output()
	require.NoError(s.t, err)
	text := string(out)
	for _, section := range []string{"Pending Activities:", "] ActivityTaskFailed -"} {
		if _, after, found := strings.Cut(text, section); found {
			text = after
		}
	}
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if slices.ContainsFunc(words, func(word string) bool { return strings.HasPrefix(line, word) }) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

var (
	anyTime   = regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+Z`)
	anyDigest = regexp.MustCompile(`\b[0-9a-f]{16}\b`)
)

// anonymous replaces what differs from run to run.
func anonymous(run client.WorkflowRun, text string) string {
	text = strings.NewReplacer(run.GetID(), "order-7", run.GetRunID(), "019ab0c2-7d5e-7b43-9f0e-3f6f6d1c2a55").Replace(text)
	text = anyTime.ReplaceAllString(text, "2026-01-02T03:04:05Z")
	text = strings.ReplaceAll(text, "may act until 2026-01-02T03:04:05Z", "may act until 2026-01-02T03:04:35Z")
	return anyDigest.ReplaceAllString(text, "b4b653605d0cd823")
}

var (
	longLine  = regexp.MustCompile(`(.{80,100}) `)
	afterJSON = regexp.MustCompile(`(?m)","source":"GoSDK".*$`)
)

// folded is text as a reader likes it: JSON on one line ends after its message.
func folded(text string) string {
	return longLine.ReplaceAllString(afterJSON.ReplaceAllString(text, `", …`), "$1\n  ")
}

var quotation = regexp.MustCompile("(?m)^<!-- quote: ([^>]+) -->\n```(\\w+)\n(?s:(.*?))```$")

// requireQuoted asserts that the page quotes all of these texts as they are.
func requireQuoted(t *testing.T, name string, texts map[string]string) {
	t.Helper()
	path := filepath.Join("..", "..", "docs", name)
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	quoted := map[string]bool{}
	now := quotation.ReplaceAllStringFunc(string(page), func(block string) string {
		m := quotation.FindStringSubmatch(block)
		text, ours := texts[m[1]]
		if !ours {
			return block
		}
		quoted[m[1]] = true
		return "<!-- quote: " + m[1] + " -->\n```" + m[2] + "\n" + text + "\n```"
	})
	for title := range texts {
		require.True(t, quoted[title], "docs/%s does not quote %q", name, title)
	}
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(now), 0o644))
		return
	}
	require.Equal(t, string(page), now, "docs/%s is not up to date; to write it anew: cd samples && go test ./e2e -run TestErrors -update", name)
}
