package page_test

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/page"
	"github.com/atmostonce/atmostonce/store"
	"go.temporal.io/sdk/converter"
)

var update = flag.Bool("update", false, "write the pages in testdata, instead of comparing them")

// bid is a claim of ChargeCard for that key.
func bid(key string) store.Bid {
	return store.Bid{
		Key: key, Owner: "nonce of " + key, Lease: time.Minute, TTL: 24 * time.Hour, Deadline: 5 * time.Minute, Began: true,
		Info: store.Info{
			Activity: "ChargeCard", Trace: "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
			Holder: store.Holder{Namespace: "shop", WorkflowID: "order-" + key, RunID: "run-1", ActivityID: "5", Attempt: 1, Worker: "19@vm"},
		},
	}
}

// put leaves the record of a claim in that state.
func put(tb testing.TB, s store.Store, b store.Bid, to store.State) store.Record {
	tb.Helper()
	r, err := s.Acquire(tb.Context(), b)
	require.NoError(tb, err)
	b.Fence = r.Fence
	switch to {
	case store.Running:
	case store.Tombstone:
		r, err = s.Release(tb.Context(), b)
	default:
		r, err = s.Settle(tb.Context(), b, store.Outcome{State: to, Data: []byte("the result of " + b.Key)})
	}
	require.NoError(tb, err)
	return r
}

func newMemory() *store.Memory { return store.NewMemory(store.MemoryOptions{MaxRecords: 1 << 20}) }

// quiet are options whose errors of the store go nowhere.
func quiet(o page.Options) page.Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func newPage(tb testing.TB, s store.Store, o page.Options) http.Handler {
	tb.Helper()
	h, err := page.New(s, quiet(o))
	require.NoError(tb, err)
	return h
}

// deciding are the options of a page on which ann decides, by a guard on s.
func deciding(tb testing.TB, s store.Store) page.Options {
	tb.Helper()
	guard, err := interceptor.New(s, interceptor.Options{
		Activities:    once.Mark(once.Policy{}, "ChargeCard"),
		DataConverter: converter.GetDefaultDataConverter(),
	})
	require.NoError(tb, err)
	return page.Options{Resolver: guard, User: func(r *http.Request) (string, error) {
		if user := r.Header.Get("X-User"); user != "" {
			return user, nil
		}
		return "ann", nil
	}}
}

// answer is what a page answered.
type answer struct {
	*http.Response
	body string
	doc  *html.Node
}

func ask(tb testing.TB, h http.Handler, r *http.Request) answer {
	tb.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	require.NoError(tb, err)
	doc, err := html.Parse(strings.NewReader(string(body)))
	require.NoError(tb, err)
	return answer{w.Result(), string(body), doc}
}

func get(tb testing.TB, h http.Handler, path string) answer {
	tb.Helper()
	return ask(tb, h, httptest.NewRequestWithContext(tb.Context(), http.MethodGet, "http://ops.example"+path, nil))
}

// ok is what a page shows.
func ok(tb testing.TB, h http.Handler, path string) answer {
	tb.Helper()
	a := get(tb, h, path)
	require.Equal(tb, http.StatusOK, a.StatusCode, a.body)
	return a
}

// posting is the request of a browser that sends a form to a record's page.
func posting(tb testing.TB, key string, form url.Values) *http.Request {
	tb.Helper()
	r := httptest.NewRequestWithContext(tb.Context(), http.MethodPost, "http://ops.example/"+keys.Downstream(key), strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "http://ops.example")
	return r
}

// form is what the page asks about a decision, with the answers.
func form(tb testing.TB, h http.Handler, key, decision string) url.Values {
	tb.Helper()
	a := ok(tb, h, "/"+keys.Downstream(key)+"?decide="+decision)
	values := url.Values{"why": {"found at the provider, INC-812"}, "sure": {"yes"}}
	for _, input := range all(a.doc, "input") {
		if attr(input, "type") == "hidden" {
			values.Set(attr(input, "name"), attr(input, "value"))
		}
	}
	require.Equal(tb, decision, values.Get("decide"))
	return values
}

// all returns the elements of that name.
func all(n *html.Node, name string) (found []*html.Node) {
	for e := range n.Descendants() {
		if e.Type == html.ElementNode && e.Data == name {
			found = append(found, e)
		}
	}
	return found
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// text is what an element shows, with single spaces.
func text(n *html.Node) string {
	var b strings.Builder
	for e := range n.Descendants() {
		if e.Type == html.TextNode {
			b.WriteString(e.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// section is the part of a page under that heading.
func section(tb testing.TB, a answer, id string) *html.Node {
	tb.Helper()
	for _, s := range all(a.doc, "section") {
		if attr(s, "aria-labelledby") == id {
			return s
		}
	}
	require.Fail(tb, "no section "+id, a.body)
	return nil
}

// digests are those of the records that a list shows, in its order.
func digests(n *html.Node) (found []string) {
	for _, a := range all(n, "a") {
		if href := attr(a, "href"); len(href) == 64 && href[0] != '.' {
			found = append(found, href)
		}
	}
	return found
}

// more is where a list goes on; "" if it does not.
func more(n *html.Node) string {
	for _, a := range all(n, "a") {
		if strings.HasPrefix(text(a), "Next") || strings.HasPrefix(text(a), "All that") {
			return strings.TrimPrefix(attr(a, "href"), ".")
		}
	}
	return ""
}

// requireGolden compares a page with the one in testdata, which -update writes.
func requireGolden(tb testing.TB, name, body string) {
	tb.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(tb, os.MkdirAll("testdata", 0o755))
		require.NoError(tb, os.WriteFile(path, []byte(body), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	require.NoError(tb, err)
	require.Equal(tb, string(want), body, "%s is not up to date; to write it anew: go test ./page -update", path)
}

func numbered(n int) string { return fmt.Sprintf("%05d", n) }
