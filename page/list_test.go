package page_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/page"
	"github.com/atmostonce/atmostonce/store"
)

func TestList_ShowsWhatIsInDoubtFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		for _, p := range []struct {
			key string
			to  store.State
		}{{"r", store.Running}, {"d1", store.InDoubt}, {"s", store.Succeeded}, {"p", store.Pending}, {"d2", store.InDoubt}} {
			put(t, s, bid(p.key), p.to)
			time.Sleep(20 * time.Second) //nolint:forbidigo // in a bubble, whose clock it moves
		}
		b := bid("d3")
		b.Info.Activity = "SendReceipt"
		put(t, s, b, store.InDoubt)
		time.Sleep(3 * time.Second) //nolint:forbidigo // the same
		a := ok(t, newPage(t, s, page.Options{Title: "Shop, production"}), "/")
		require.Contains(t, a.body, "<title>3 effects are in doubt · Shop, production</title>")
		require.Equal(t, []string{
			keys.Downstream("d1"), keys.Downstream("d2"), keys.Downstream("d3"), keys.Downstream("r"), keys.Downstream("p"),
		}, digests(a.doc), "oldest first, and nothing that is settled")
		require.Equal(t, []string{"In doubt 3", "Running 1", "Pending 1"}, headings(a))
		require.Contains(t, text(section(t, a, "in_doubt")), "1m order-d1 1 its worker does not know")
		require.Contains(t, text(section(t, a, "running")), "silent for 43s")
		table := text(all(a.doc, "table")[0])
		require.Contains(t, table, "ChargeCard 2 1m 1 1")
		require.Contains(t, table, "SendReceipt 1 3s 0 0")
		requireGolden(t, "list.html", a.body)
	})
}

func headings(a answer) (found []string) {
	for _, h := range all(a.doc, "h2") {
		found = append(found, text(h))
	}
	return found
}

// Keys may be confidential, and results are.
func TestPage_ShowsNoKeysAndResults(t *testing.T) {
	t.Parallel()
	s := newMemory()
	b := bid("v1/shop/n/ChargeCard/k:jane%40example.com")
	b.Info.Holder.WorkflowID = "order-7"
	put(t, s, b, store.InDoubt)
	paths := []string{"/", "/?state=in_doubt", "/?workflow=order-7", "/" + keys.Downstream(b.Key), "/" + keys.Downstream(b.Key) + "?decide=done"}
	o := deciding(t, s)
	for _, path := range paths {
		a := ok(t, newPage(t, s, o), path)
		require.NotContains(t, a.body, "jane", path)
		require.NotContains(t, a.body, "the result of", path)
	}
	o.ShowKeys = true
	require.Contains(t, ok(t, newPage(t, s, o), paths[0]).body, b.Key)
	require.Contains(t, ok(t, newPage(t, s, o), paths[3]).body, b.Key)
	require.NotContains(t, ok(t, newPage(t, s, o), paths[3]).body, "the result of")
}

func TestList_CountsUpToABound(t *testing.T) {
	t.Parallel()
	s := newMemory()
	for i := range 1001 {
		put(t, s, bid(numbered(i)), store.InDoubt)
	}
	for i := range 20 {
		b := bid("a" + numbered(i))
		b.Info.Activity = "SendReceipt"
		put(t, s, b, store.Pending)
	}
	a := ok(t, newPage(t, s, page.Options{}), "/")
	require.Equal(t, "1,000+ effects are in doubt", text(all(a.doc, "h1")[0]))
	require.Equal(t, []string{"In doubt 1,000+", "Running 0", "Pending 20"}, headings(a))
	require.Contains(t, text(all(a.doc, "table")[0]), "ChargeCard 1,000+")
	require.Len(t, digests(section(t, a, "in_doubt")), 50)
	require.Len(t, digests(section(t, a, "pending")), 10)
	require.Equal(t, "/?state=pending", more(section(t, a, "pending")))
}

// Each record is on one page, whatever becomes of those on the pages before.
func TestList_GoesOnAfterThePageBefore(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t *testing.T, s store.Store, r store.Record){
		"unchanged": func(*testing.T, store.Store, store.Record) {},
		"decided":   resolved,
	} {
		for _, apart := range []time.Duration{0, time.Second} {
			t.Run(name+" "+apart.String(), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s := newMemory()
					var want []string
					for i := range 120 {
						put(t, s, bid(numbered(i)), store.InDoubt)
						want = append(want, keys.Downstream(numbered(i)))
						time.Sleep(apart) //nolint:forbidigo // in a bubble, whose clock it moves
					}
					h := newPage(t, s, page.Options{})
					var got []string
					for path := "/"; path != ""; {
						part := section(t, ok(t, h, path), "in_doubt")
						found := digests(part)
						got = append(got, found...)
						last := slices.Index(want, found[len(found)-1])
						r, err := s.Load(t.Context(), numbered(last))
						require.NoError(t, err)
						change(t, s, r)
						path = more(part)
					}
					require.Equal(t, want, got)
				})
			})
		}
	}
}

func resolved(t *testing.T, s store.Store, r store.Record) {
	t.Helper()
	_, err := s.Resolve(t.Context(), r.Key, r, store.Resolution{ID: "x" + r.Key, To: store.Failed, By: store.ByOperator, Who: "bob", Why: "looked", TTL: time.Hour, Outcome: store.Outcome{State: store.Failed}})
	require.NoError(t, err)
}

// A store has no order of what is settled: the page has, the newest first.
func TestList_ShowsWhatIsSettledNewestFirst(t *testing.T) {
	t.Parallel()
	for _, apart := range []time.Duration{0, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := newMemory()
			want := map[string]bool{}
			for i := range 130 {
				put(t, s, bid(numbered(i)), []store.State{store.Succeeded, store.Failed, store.Tombstone}[i%3])
				want[keys.Downstream(numbered(i))] = true
				time.Sleep(apart) //nolint:forbidigo // in a bubble, whose clock it moves
			}
			put(t, s, bid("open"), store.InDoubt)
			h := newPage(t, s, page.Options{})
			var got []string
			for path := "/?state=settled"; path != ""; {
				part := section(t, ok(t, h, path), "settled")
				got = append(got, digests(part)...)
				path = more(part)
			}
			require.Len(t, got, 130)
			if apart > 0 {
				require.Equal(t, keys.Downstream(numbered(129)), got[0])
				require.Equal(t, keys.Downstream(numbered(0)), got[129])
			}
			for _, digest := range got {
				require.True(t, want[digest])
				delete(want, digest)
			}
			require.Len(t, digests(section(t, ok(t, h, "/?state=failed"), "failed")), 43)
		})
	}
}

func TestList_IsFiltered(t *testing.T) {
	t.Parallel()
	s := newMemory()
	for i := range 4 {
		b := bid(numbered(i))
		if i > 1 {
			b.Info.Activity = "Send receipt & thanks"
		}
		if i == 3 {
			b.Info.Holder.Namespace = "other"
		}
		put(t, s, b, store.InDoubt)
	}
	put(t, s, bid("done"), store.Succeeded)
	h := newPage(t, s, page.Options{})
	a := ok(t, h, "/")
	var links []string
	for _, l := range all(all(a.doc, "table")[0], "a") {
		links = append(links, strings.TrimPrefix(attr(l, "href"), "."))
	}
	require.Len(t, links, 3, "an activity of two namespaces is two")
	for i, want := range []int{2, 1, 1} {
		require.Len(t, digests(ok(t, h, links[i]).doc), want, links[i])
	}
	require.Len(t, digests(ok(t, h, "/?namespace=shop").doc), 3)
	require.Equal(t, []string{keys.Downstream("done")}, digests(section(t, ok(t, h, "/?workflow=order-done"), "settled")), "a workflow's settled records, too")
	require.Equal(t, []string{keys.Downstream("done")}, digests(ok(t, h, "/?state=succeeded&activity=ChargeCard").doc))
	for _, wrong := range []string{"?state=lost", "?from=1-" + strings.Repeat("0", 64), "?state=running&from=x", "?state=running&from=1-00", "?state=running&from=-"} {
		require.Equal(t, http.StatusBadRequest, get(t, h, "/"+wrong).StatusCode, wrong)
	}
}

func TestSearch_GoesToTheRecord(t *testing.T) {
	t.Parallel()
	s := newMemory()
	put(t, s, bid("v1/a b"), store.Succeeded)
	b := bid("v1/c")
	b.Info.Holder.WorkflowID = "0123456789abcdef" // which looks like a digest
	put(t, s, b, store.Succeeded)
	h := newPage(t, s, page.Options{})
	digest := keys.Downstream("v1/a b")
	for q, want := range map[string]string{
		"v1/a b":                      digest,
		" v1/a b ":                    digest,
		digest:                        digest,
		digest[:16]:                   digest,
		strings.ToUpper(digest[:9]):   digest,
		"0123456789abcdef":            "./?workflow=0123456789abcdef",
		"order-9":                     "./?workflow=order-9",
		"//evil.example/x":            "./?workflow=%2F%2Fevil.example%2Fx",
		"https://evil.example/":       "./?workflow=https%3A%2F%2Fevil.example%2F",
		"x\r\nSet-Cookie: a=b":        "./?workflow=x%0D%0ASet-Cookie%3A+a%3Db",
		strings.Repeat("0", 64):       "./?workflow=" + strings.Repeat("0", 64),
		strings.Repeat("long ", 1000): "./?workflow=" + strings.Repeat("long+", 999) + "long",
	} {
		a := get(t, h, "/?q="+url.QueryEscape(q))
		require.Equal(t, http.StatusSeeOther, a.StatusCode, q)
		if q == digest[:16] || len(q) == 9 {
			want = strings.ToLower(strings.TrimSpace(q))
		}
		require.Equal(t, want, a.Header.Get("Location"), q)
	}
	require.Equal(t, digest, get(t, h, "/"+digest[:16]).Header.Get("Location"))
	require.Equal(t, http.StatusNotFound, get(t, h, "/0123456789").StatusCode)
	require.Equal(t, http.StatusNotFound, get(t, h, "/elsewhere").StatusCode)
	require.Equal(t, http.StatusBadRequest, get(t, h, "/?q="+strings.Repeat("x", 1<<17)).StatusCode)
	require.Len(t, digests(ok(t, h, "/?workflow=0123456789abcdef").doc), 1)
}
