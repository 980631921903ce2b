package main

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

var pictures = flag.Bool("pictures", false, "write the pictures of the documentation")

// browser is a real one, without a window.
type browser struct{ ctx context.Context }

func newBrowser(t *testing.T) *browser {
	t.Helper()
	binary, err := exec.LookPath("chromium")
	require.NoError(t, err, "install Chromium (Debian: apt-get install chromium)")
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(binary), chromedp.WindowSize(1400, 1000),
		chromedp.NoSandbox) // which root, as in a container, cannot have
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(ctx))
	return &browser{ctx}
}

func (b *browser) do(t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, soon)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		require.NoError(t, err, "the page shows: %s", b.text(t))
	}
}

func (b *browser) text(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, soon)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText`))
	require.NoError(t, err)
	return text
}

// await returns the page's text once it matches.
func (b *browser) await(t *testing.T, pattern string) string {
	t.Helper()
	return b.awaitText(t, pattern, regexp.MustCompile(pattern).MatchString)
}

func (b *browser) awaitText(t *testing.T, what string, there func(text string) bool) (text string) {
	t.Helper()
	deadline := time.After(soon)
	for {
		if text = b.text(t); there(text) {
			return text
		}
		select {
		case <-deadline:
			require.Fail(t, "not on the page: "+what, text)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// picture writes what the browser shows for the documentation, if that is wanted.
func (b *browser) picture(t *testing.T, name string, width, height int64) {
	t.Helper()
	if !*pictures {
		return
	}
	b.do(t, chromedp.EmulateViewport(width, height), chromedp.Sleep(2*time.Second))
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Dir(pictureFile(name)), 0o755))
	require.NoError(t, os.WriteFile(pictureFile(name), png, 0o644))
}

// requireDashboard opens the dashboard, and compares numbers on it with what
// happened.
func (b *browser) requireDashboard(t *testing.T, s *stack, p *promServer) {
	t.Helper()
	_, all, err := panels()
	require.NoError(t, err)
	var parts []string
	for _, panel := range all {
		switch {
		case panel.Type == "stat":
			parts = append(parts, `\n`+regexp.QuoteMeta(panel.Title)+`\s+[0-9]`)
		case len(panel.Targets) > 0:
			parts = append(parts, `\n`+regexp.QuoteMeta(panel.Title)+`\s+.*?, max [0-9.]+`)
		}
	}
	b.do(t, chromedp.EmulateViewport(1400, 1000), chromedp.Navigate(s.DashboardURL))
	text := b.await(t, `(?s)`+strings.Join(parts, `.*`))

	require.Equal(t, "0", b.number(t, text, "In doubt"), "the operator has resolved them")
	require.Equal(t, "0 s", b.number(t, text, "Oldest doubt"))
	require.Equal(t, "0", b.number(t, text, "Evidence of two executions"))
	require.NotEqual(t, "0", b.number(t, text, "Calls held in doubt, last 15 minutes"))
	require.NotEqual(t, "0", b.number(t, text, "Duplicates not run again"))
	for _, outcome := range []string{"executed", "duplicate", "failed"} {
		require.Regexp(t, `(?s)\nCalls by outcome\s.*?\n`+outcome+`: .*?, max [0-9.]*[1-9]`, text)
	}
	b.picture(t, "dashboard.png", 1400, 1900)
}

// number returns what a panel of one number shows.
func (b *browser) number(t *testing.T, text, title string) string {
	t.Helper()
	m := regexp.MustCompile(`\n` + regexp.QuoteMeta(title) + `\s+(.+)`).FindStringSubmatch(text)
	require.NotNil(t, m, "%s: %s", title, text)
	return m[1]
}

// requireLink follows the link from a duplicate to the execution it was served
// from, which is in another trace.
func (b *browser) requireLink(t *testing.T, s *stack) {
	t.Helper()
	link, found, err := s.linkedTrace(b.ctx)
	require.NoError(t, err)
	require.True(t, found)
	require.NotEqual(t, link.duplicate.TraceID, link.original.TraceID)
	b.do(t, chromedp.Navigate(s.spanURL(link.duplicate)))
	b.await(t, `name \(string\):\s+atmostonce\.duplicate ChargeCard`)
	b.do(t, chromedp.Click(`//button[contains(., "Links")]`))
	b.await(t, `atmostonce\.original\.workflow_id`)
	b.picture(t, "trace.png", 1800, 560)
	b.do(t, chromedp.Click(`//*[text()="`+link.original.SpanID+`"]`), chromedp.Click(`//button[contains(., "Fields")]`))
	b.await(t, `name \(string\):\s+atmostonce\.execute ChargeCard`)
	b.await(t, `trace id \(string\):\s+`+link.original.TraceID)
	b.await(t, `span id \(string\):\s+`+link.original.SpanID)
}

// requireDoubt looks at receipts that are in flight and in doubt, as somebody who
// has only Temporal's web UI does.
func (b *browser) requireDoubt(t *testing.T, traffic *traffic) {
	t.Helper()
	traffic.operatorAfter, traffic.mailDelay = time.Hour, time.Hour
	for _, c := range []struct {
		id   string
		tell func(context.Context, string) error
		says string
	}{
		{"lost", traffic.spoilReceipt(traffic.lost), `in doubt: nobody knows whether SendReceipt \[key [0-9a-f]{16}\] took effect, last run by workflow receipt-lost`},
		{"slow", traffic.spoilReceipt(traffic.slow), `in flight: SendReceipt \[key [0-9a-f]{16}\] is being run by workflow receipt-slow`},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = c.tell(ctx, c.id) }()
		workflow := "receipt-" + c.id
		run := ""
		require.Eventually(t, func() bool {
			d, err := traffic.client.DescribeWorkflowExecution(t.Context(), workflow, "")
			run = d.GetWorkflowExecutionInfo().GetExecution().GetRunId()
			return err == nil && len(d.GetPendingActivities()) > 0 && d.GetPendingActivities()[0].GetLastFailure() != nil
		}, soon, 100*time.Millisecond)
		page := traffic.Temporal.UI + "/namespaces/default/workflows/" + workflow + "/" + run
		b.do(t, chromedp.EmulateViewport(1400, 1000), chromedp.Navigate(page+"/pending-activities"))
		text := b.await(t, c.says)
		require.Regexp(t, `"Key": "[0-9a-f]{16}"`, text)
		require.Contains(t, text, `"WorkflowID": "`+workflow+`"`)
		require.Regexp(t, `"Trace": "00-[0-9a-f]{32}-[0-9a-f]{16}-01"`, text)
		b.do(t, chromedp.Navigate(page+"/history"))
		b.await(t, `at most once: PerWorkflow, OnDuplicate Return, InDoubt Hold`)
	}
}
