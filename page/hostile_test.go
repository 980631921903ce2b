package page_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/page"
	"github.com/atmostonce/atmostonce/store"
)

// hostile are texts that strangers may have written into a record.
var hostile = []string{
	`<script>alert(1)</script>`,
	`"><img src=x onerror=alert(1)>`,
	`'><svg/onload=alert(1)>`,
	`</title></textarea></style><iframe src=//evil.example>`,
	`javascript:alert(1)`,
	`{{.}}<!-- -->]]>`,
	"line\nline\r\nline\u2028line",
	"\x1b[2J\x1b]0;title\x07\x1b]8;;https://evil.example\x07link",
	"\u202egnp.exe\u2066\u200f\u061c",
	"zero\u200bwidth\ufeff\u00ad\u2060",
	"nul\x00 del\x7f c1\u009b31m",
	"broken \xff\xfe\xc3 utf-8",
	"z" + strings.Repeat("\u0336\u0489", 500),
	"../../../etc/passwd?x=y#z&a=b",
	strings.Repeat("long ", 2048),
	strings.Repeat("W", 10<<10),
}

// elements are those that the page is made of.
var elements = strings.Fields("html head meta title link body a header span form label input button main h1 h2 p nav details summary " +
	"table caption thead tbody tr th td section time bdi div ul li ol dl dt dd pre code textarea strong")

// attributes are those that the page uses.
var attributes = strings.Fields("lang charset name content rel href class action method role for id type autocomplete spellcheck autocapitalize " +
	"aria-label aria-current aria-labelledby aria-describedby scope datetime title value open tabindex rows required maxlength checked")

// requireHarmless asserts that a page has only what its templates have, and no text that
// does not show what it is.
func requireHarmless(t *testing.T, a answer) {
	t.Helper()
	for n := range a.doc.Descendants() {
		switch n.Type {
		case html.ElementNode:
			require.Contains(t, elements, n.Data)
			for _, attribute := range n.Attr {
				require.Contains(t, attributes, attribute.Key, "of %s", n.Data)
				if attribute.Key == "href" {
					u, err := url.Parse(attribute.Val)
					require.NoError(t, err)
					require.Contains(t, []string{"", "https"}, u.Scheme)
					if u.Scheme != "" {
						require.Contains(t, []string{"temporal.example", "traces.example"}, u.Host)
						require.NotContains(t, u.EscapedPath(), "/../")
					}
				}
			}
		case html.TextNode:
			if n.Parent.Data == "textarea" { // what an operator has typed, as it is
				continue
			}
			for _, c := range n.Data {
				require.True(t, c == '\n' || unicode.IsPrint(c), "%q in %q", c, n.Data)
			}
			require.LessOrEqual(t, len(n.Data), 32<<10)
		case html.CommentNode:
			require.Fail(t, "a comment", n.Data)
		}
	}
	if a.StatusCode != http.StatusSeeOther {
		require.Equal(t, 1, strings.Count(a.body, "</main>"))
	}
}

func TestPage_TakesTextsForTexts(t *testing.T) {
	t.Parallel()
	for _, text := range hostile {
		t.Run(text[:min(10, len(text))], func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newMemory()
				b := bid(text)
				b.Owner, b.Info.Activity, b.Info.Trace = "one", text, text
				h := store.Holder{Namespace: text, WorkflowID: text, RunID: text, ActivityID: text, ActivityRunID: text, Attempt: 1, Worker: text}
				b.Info.Holder = h
				put(t, s, b, store.InDoubt)
				again := b
				again.Key, again.Owner = "done/"+text[:min(len(text), 9<<10)], "another"
				put(t, s, again, store.Succeeded)
				time.Sleep(settleDelay) //nolint:forbidigo // in a bubble, whose clock it moves
				o := deciding(t, s)
				o.ShowKeys = true
				o.WorkflowURL = "https://temporal.example/namespaces/{namespace}/workflows/{workflow_id}/{run_id}"
				o.TraceURL = "https://traces.example/?trace={trace_id}"
				o.User = func(*http.Request) (string, error) { return text[:min(len(text), 500)], nil }
				p := newPage(t, s, o)
				digest, q := keys.Downstream(text), url.QueryEscape(text)
				for _, path := range []string{
					"/", "/?state=in_doubt", "/?state=settled", "/?workflow=" + q, "/?activity=" + q + "&namespace=" + q,
					"/" + digest, "/" + digest + "?decide=done", "/" + keys.Downstream(again.Key),
				} {
					requireHarmless(t, ok(t, p, path))
				}
				for _, path := range []string{"/?q=" + q, "/?state=" + q, "/?state=running&from=" + q, "/" + digest + "?decide=" + q, "/" + url.PathEscape(text)} {
					requireHarmless(t, get(t, p, path))
				}
				if len(text) < 4<<10 {
					f := form(t, p, text, "failed")
					f.Set("error", text)
					f.Set("sure", "")
					f.Set("why", text)
					requireHarmless(t, ask(t, p, posting(t, text, f)))
					f.Set("sure", "yes")
					require.Equal(t, http.StatusSeeOther, ask(t, p, posting(t, text, f)).StatusCode)
				}
				requireHarmless(t, ok(t, p, "/"+digest))
			})
		})
	}
}

func TestNew_RefusesLinksThatLeadElsewhere(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{
		"javascript:alert('{workflow_id}')", "data:text/html,{workflow_id}", "//temporal.example/{workflow_id}", "/{workflow_id}", "ftp://h/{workflow_id}",
		"https:///{workflow_id}", "https://{workflow_id}/", "https://{namespace}.example/{workflow_id}", "https://u:p@h/{workflow_id}", "http{namespace}://h/{workflow_id}",
		"https://h/{workflow_id}/{input}", "https://h/{run_id}", "https://h/{workflow_id", "https://h/%zz{workflow_id}", "https://h\n/{workflow_id}", "https://h?{workflow_id}@evil",
		"https://h:{run_id}/{workflow_id}", "https://h#{workflow_id}",
	} {
		_, err := page.New(newMemory(), page.Options{WorkflowURL: wrong})
		if strings.HasPrefix(wrong, "https://h?") || strings.HasPrefix(wrong, "https://h#") {
			continue // a value may stand there
		}
		require.ErrorContains(t, err, "WorkflowURL", wrong)
		require.NotContains(t, err.Error(), "u:p@")
	}
	for name, o := range map[string]page.Options{
		"TraceURL": {TraceURL: "https://h/{span_id}"}, "Timeout": {Timeout: -1}, "SettleDelay": {SettleDelay: -1}, "Command": {Command: "a\nb"},
		"Resolver": {Resolver: answering{}}, "User": {User: func(*http.Request) (string, error) { return "", nil }},
	} {
		_, err := page.New(newMemory(), o)
		require.ErrorContains(t, err, name)
	}
	_, err := page.New(nil, page.Options{})
	require.ErrorContains(t, err, "store")
}

func TestRecord_LinksToItsWorkflowAndTrace(t *testing.T) {
	t.Parallel()
	for workflow, want := range map[string]string{
		"order-7":       "https://temporal.example/ns/shop/order-7?run=run-1",
		"a/../b?c#d%2f": "https://temporal.example/ns/shop/a%2F..%2Fb%3Fc%23d%252f?run=run-1",
		"{run_id}":      "https://temporal.example/ns/shop/%7Brun_id%7D?run=run-1",
		"..":            "", // would lead to another page
		".":             "",
		"":              "",
	} {
		s := newMemory()
		b := bid("k")
		b.Info.Holder.WorkflowID = workflow
		put(t, s, b, store.InDoubt)
		h := newPage(t, s, page.Options{
			WorkflowURL: "https://temporal.example/ns/{namespace}/{workflow_id}?run={run_id}", TraceURL: "http://traces.example/{trace_id}",
		})
		var links []string
		for _, a := range all(section(t, ok(t, h, "/"+keys.Downstream("k")), "known"), "a") {
			links = append(links, attr(a, "href"))
			require.Equal(t, "noopener noreferrer", attr(a, "rel"))
		}
		trace := "http://traces.example/0123456789abcdef0123456789abcdef"
		if want == "" {
			require.Equal(t, []string{trace}, links)
		} else {
			require.Equal(t, []string{want, trace}, links)
		}
	}
}
