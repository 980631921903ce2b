package page_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/page"
	"github.com/atmostonce/atmostonce/store"
)

// Wherever the page is mounted, all that it links to is found, a decision included.
func TestPage_IsMountedAnywhere(t *testing.T) {
	t.Parallel()
	for name, mount := range map[string]func(h http.Handler) (handler http.Handler, base string){
		"root":     func(h http.Handler) (http.Handler, string) { return h, "/" },
		"a prefix": func(h http.Handler) (http.Handler, string) { return at("/ops/doubts/", h), "/ops/doubts/" },
		"a prefix that is stripped": func(h http.Handler) (http.Handler, string) {
			return at("/ops/", http.StripPrefix("/ops", h)), "/ops/"
		},
		"a prefix with an escape": func(h http.Handler) (http.Handler, string) { return at("/ä/", h), "/%C3%A4/" },
		"a proxy that adds a prefix": func(h http.Handler) (http.Handler, string) {
			behind := httptest.NewServer(at("/inner/", h))
			t.Cleanup(behind.Close)
			to, err := url.Parse(behind.URL + "/inner/")
			require.NoError(t, err)
			proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(to)
				r.Out.URL.Path = "/inner/" + strings.TrimPrefix(r.In.URL.Path, "/outer/")
				r.Out.Host = r.In.Host
			}}
			return at("/outer/", proxy), "/outer/"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newMemory()
			for i := range 12 {
				put(t, s, bid(numbered(i)), []store.State{store.InDoubt, store.Succeeded}[i%2])
			}
			handler, base := mount(newPage(t, s, deciding(t, s)))
			server := httptest.NewServer(handler)
			t.Cleanup(server.Close)
			seen := map[string]bool{}
			crawl(t, server.URL+base, server.URL+base, seen)
			require.Greater(t, len(seen), 30)

			digest := keys.Downstream(numbered(0))
			shown := fetch(t, server.URL+base+digest+"?decide=done")
			f := url.Values{"why": {"looked"}, "sure": {"yes"}}
			for _, input := range all(shown, "input") {
				if attr(input, "type") == "hidden" {
					f.Set(attr(input, "name"), attr(input, "value"))
				}
			}
			to := resolveURL(t, server.URL+base+digest, attr(all(shown, "form")[1], "action"))
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to, strings.NewReader(f.Encode()))
			require.NoError(t, err)
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("Origin", server.URL)
			answered, err := server.Client().Do(r)
			require.NoError(t, err)
			defer answered.Body.Close()
			require.Equal(t, http.StatusOK, answered.StatusCode, "where it leads to")
			require.Equal(t, base+digest, answered.Request.URL.EscapedPath())
			require.Equal(t, store.Succeeded, load(t, s, numbered(0)).State)
		})
	}
}

func at(pattern string, h http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(pattern, h)
	return mux
}

func resolveURL(t *testing.T, base, href string) string {
	t.Helper()
	u, err := url.Parse(base)
	require.NoError(t, err)
	u, err = u.Parse(href)
	require.NoError(t, err)
	return u.String()
}

func fetch(t *testing.T, url string) *html.Node {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	answered, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answered.Body.Close()
	require.Equal(t, http.StatusOK, answered.StatusCode, url)
	doc, err := html.Parse(answered.Body)
	require.NoError(t, err)
	return doc
}

// crawl follows every link of a page, and of those that it leads to.
func crawl(t *testing.T, base, url string, seen map[string]bool) {
	t.Helper()
	url, _, _ = strings.Cut(url, "#")
	if seen[url] {
		return
	}
	seen[url] = true
	require.True(t, strings.HasPrefix(url, base), url)
	doc := fetch(t, url)
	for _, name := range []string{"a", "link"} {
		for _, link := range all(doc, name) {
			crawl(t, base, resolveURL(t, url, attr(link, "href")), seen)
		}
	}
}

// Every answer, an error too, is for this page and this moment only.
func TestPage_SendsItsHeaders(t *testing.T) {
	t.Parallel()
	s := newMemory()
	put(t, s, bid("k"), store.InDoubt)
	h := newPage(t, s, deciding(t, s))
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodTrace} {
		for _, path := range []string{"/", "/style.css", "/" + keys.Downstream("k"), "/0123456789", "/?state=x", "/?q=x"} {
			r := httptest.NewRequestWithContext(t.Context(), method, "http://ops.example"+path, nil)
			a := ask(t, h, r)
			require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
			require.Equal(t, "nosniff", a.Header.Get("X-Content-Type-Options"))
			require.Equal(t, "DENY", a.Header.Get("X-Frame-Options"))
			require.Equal(t, "same-origin", a.Header.Get("Referrer-Policy"))
			policy := a.Header.Get("Content-Security-Policy")
			for _, part := range []string{"default-src 'none'", "style-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"} {
				require.Contains(t, policy, part)
			}
			require.NotContains(t, policy, "unsafe")
			require.NotContains(t, policy, "script")
			require.NotRegexp(t, `<style|<script|style=|\son[a-z]+=|http://|https://`, a.body)
			switch method {
			case http.MethodGet, http.MethodHead:
			case http.MethodPost:
				require.GreaterOrEqual(t, a.StatusCode, 400)
			default:
				require.Equal(t, http.StatusMethodNotAllowed, a.StatusCode)
				require.Equal(t, "GET, HEAD, POST", a.Header.Get("Allow"))
			}
		}
	}
	require.Equal(t, "text/css; charset=utf-8", ok(t, h, "/style.css").Header.Get("Content-Type"))
}

func TestPage_NeedsNoOptions(t *testing.T) {
	t.Parallel()
	a := ok(t, newPage(t, newMemory(), page.Options{}), "/")
	require.Equal(t, "Nothing is in doubt", text(all(a.doc, "h1")[0]))
	require.Contains(t, a.body, "read-only")
}
