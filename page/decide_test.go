package page_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/page"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// settleDelay is longer than that of a guard, and than any deadline here.
const settleDelay = 10 * time.Minute

// doubt returns a store with a record in doubt whose owner can no longer act, in a bubble.
func doubt(t *testing.T, key string) *store.Memory {
	t.Helper()
	s := newMemory()
	put(t, s, bid(key), store.InDoubt)
	time.Sleep(settleDelay) //nolint:forbidigo // in a bubble, whose clock it moves
	return s
}

func load(t *testing.T, s store.Store, key string) store.Record {
	t.Helper()
	r, err := s.Load(t.Context(), key)
	require.NoError(t, err)
	return r
}

func TestDecide_WritesWhatIsConfirmed(t *testing.T) {
	t.Parallel()
	for decision, c := range map[string]struct {
		from, to store.State
		add      url.Values
		outcome  string
	}{
		"done":     {store.InDoubt, store.Succeeded, url.Values{"result": {`{"ID": "ch_1"}`}}, `{"ID":"ch_1"}`},
		"failed":   {store.InDoubt, store.Failed, url.Values{"error": {"card declined"}}, "card declined"},
		"not_done": {store.InDoubt, store.Tombstone, nil, ""},
		"forget":   {store.Succeeded, store.Tombstone, nil, ""},
	} {
		t.Run(decision, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newMemory()
				put(t, s, bid("k"), c.from)
				time.Sleep(settleDelay) //nolint:forbidigo // in a bubble, whose clock it moves
				var log bytes.Buffer
				o := deciding(t, s)
				o.Logger = slog.New(slog.NewJSONHandler(&log, nil))
				h := newPage(t, s, o)
				f := form(t, h, "k", decision)
				for name := range c.add {
					f.Set(name, c.add.Get(name))
				}
				a := ask(t, h, posting(t, "k", f))
				require.Equal(t, http.StatusSeeOther, a.StatusCode, a.body)
				r := load(t, s, "k")
				require.Equal(t, c.to, r.State)
				require.Contains(t, string(r.Outcome.Data), c.outcome)
				turn := r.History[len(r.History)-1]
				require.Equal(t, c.from, turn.From)
				if decision != "forget" { // which forgets this, too
					require.Equal(t, "ann", turn.Who)
					require.Equal(t, "found at the provider, INC-812", turn.Why)
				}
				require.Equal(t, keys.Downstream("k")+"?recorded="+fmt.Sprint(r.Revision), a.Header.Get("Location"))
				after := ok(t, h, "/"+a.Header.Get("Location"))
				require.Contains(t, after.body, "Your decision is recorded.")
				require.Contains(t, log.String(), `"by":"ann","why":"found at the provider, INC-812"`)
				require.NotContains(t, log.String(), "nonce")
			})
		})
	}
}

// What asks repeats what is decided about, what happened, and what may go wrong.
func TestConfirmation_RepeatsWhatIsAtStake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := doubt(t, "k")
		h := newPage(t, s, deciding(t, s))
		said := map[string]bool{}
		for _, decision := range []string{"done", "failed", "not_done"} {
			a := ok(t, h, "/"+keys.Downstream("k")+"?decide="+decision)
			main := text(all(a.doc, "main")[0])
			for _, part := range []string{"ChargeCard", "order-k", keys.Downstream("k")[:16], "In doubt", "attempt 1", "10m ago", "as ann"} {
				require.Contains(t, main, part)
			}
			said[text(section(t, a, "means"))] = true
		}
		require.Len(t, said, 3)
		requireGolden(t, "record.html", ok(t, h, "/"+keys.Downstream("k")).body)
		requireGolden(t, "decide.html", ok(t, h, "/"+keys.Downstream("k")+"?decide=not_done").body)
	})
}

func TestDecide_RefusesWhatIsNotSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := doubt(t, "k")
		o := deciding(t, s)
		h := newPage(t, s, o)
		for name, c := range map[string]struct {
			decision string
			set      url.Values
			problem  string
		}{
			"no reason":        {"done", url.Values{"why": {" \n"}}, "Say why"},
			"a long reason":    {"done", url.Values{"why": {strings.Repeat("é", 2049)}}, "too long"},
			"not confirmed":    {"not_done", url.Values{"sure": {""}}, "Confirm"},
			"no error":         {"failed", url.Values{"error": {" "}}, "which error"},
			"no JSON":          {"done", url.Values{"result": {"{"}}, "no JSON"},
			"two JSON values":  {"done", url.Values{"result": {"1 2"}}, "no JSON"},
			"the result stays": {"done", url.Values{"result": {"<b>{"}}, "&lt;b&gt;{"},
		} {
			f := form(t, h, "k", c.decision)
			for field := range c.set {
				f.Set(field, c.set.Get(field))
			}
			a := ask(t, h, posting(t, "k", f))
			require.Equal(t, http.StatusUnprocessableEntity, a.StatusCode, name)
			require.Contains(t, a.body, c.problem, name)
			require.Equal(t, c.decision, attr(all(section(t, a, "say"), "input")[0], "value"), "it can be sent again")
		}
		require.Equal(t, store.InDoubt, load(t, s, "k").State)
	})
}

func TestDecide_SaysWhenItIsTooEarly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		put(t, s, bid("k"), store.InDoubt)
		h := newPage(t, s, deciding(t, s))
		require.Contains(t, ok(t, h, "/"+keys.Downstream("k")).body, "Its worker may act until")
		a := ask(t, h, posting(t, "k", form(t, h, "k", "not_done")))
		require.Equal(t, http.StatusUnprocessableEntity, a.StatusCode)
		require.Contains(t, a.body, "Nothing was recorded.")
		require.Contains(t, a.body, "too early")
		require.Contains(t, a.body, "INC-812", "what was typed stays")
		require.Equal(t, store.InDoubt, load(t, s, "k").State)
	})
}

func TestDecide_LeavesWhatRuns(t *testing.T) {
	t.Parallel()
	s := newMemory()
	r := put(t, s, bid("k"), store.Running)
	h := newPage(t, s, deciding(t, s))
	require.Empty(t, all(section(t, ok(t, h, "/"+keys.Downstream("k")), "decide"), "a"))
	for _, decision := range []string{"done", "failed", "not_done", "forget", "", "force"} {
		if decision != "" {
			require.Equal(t, http.StatusBadRequest, get(t, h, "/"+keys.Downstream("k")+"?decide="+decision).StatusCode)
		}
		f := url.Values{"decide": {decision}, "state": {"running"}, "revision": {fmt.Sprint(r.Revision)}, "fence": {fmt.Sprint(r.Fence)}, "why": {"x"}, "sure": {"yes"}, "error": {"x"}}
		require.Equal(t, http.StatusBadRequest, ask(t, h, posting(t, "k", f)).StatusCode)
	}
	require.Equal(t, r.Revision, load(t, s, "k").Revision)
}

func TestPage_IsReadOnlyByDefault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := doubt(t, "k")
		f := form(t, newPage(t, s, deciding(t, s)), "k", "done")
		h := newPage(t, s, page.Options{})
		a := ok(t, h, "/"+keys.Downstream("k"))
		require.Len(t, all(a.doc, "form"), 1, "the search")
		require.NotContains(t, a.body, "decide=")
		require.Contains(t, a.body, "temporal atmostonce resolve "+keys.Downstream("k")[:16]+" --done")
		require.Equal(t, http.StatusForbidden, get(t, h, "/"+keys.Downstream("k")+"?decide=done").StatusCode)
		require.Equal(t, http.StatusForbidden, ask(t, h, posting(t, "k", f)).StatusCode)
		require.Equal(t, store.InDoubt, load(t, s, "k").State)
	})
}

// A form of another page, or of a page that a stranger has put into the browser, is not
// obeyed.
func TestDecide_RefusesFormsFromElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := doubt(t, "k")
		h := newPage(t, s, deciding(t, s))
		f := form(t, h, "k", "done")
		for name, headers := range map[string]map[string]string{
			"another origin":         {"Origin": "https://evil.example"},
			"another port":           {"Origin": "http://ops.example:8080"},
			"a sandbox":              {"Origin": "null"},
			"no origin at all":       {"Origin": ""},
			"another site":           {"Origin": "", "Sec-Fetch-Site": "cross-site"},
			"a neighbour":            {"Origin": "", "Sec-Fetch-Site": "same-site"},
			"the site contradicts":   {"Sec-Fetch-Site": "cross-site"},
			"only a header of a tab": {"Origin": "https://evil.example", "Sec-Fetch-Mode": "navigate"},
		} {
			r := posting(t, "k", f)
			for header, value := range headers {
				r.Header.Set(header, value)
			}
			a := ask(t, h, r)
			require.Equal(t, http.StatusForbidden, a.StatusCode, name)
			require.Equal(t, store.InDoubt, load(t, s, "k").State, name)
		}
		r := posting(t, "k", f)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		require.Equal(t, http.StatusSeeOther, ask(t, h, r).StatusCode)
	})
}

func TestDecide_NeedsAnAuthor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := doubt(t, "k")
		o := deciding(t, s)
		f := form(t, newPage(t, s, o), "k", "done")
		for name, user := range map[string]func(*http.Request) (string, error){
			"nobody":      func(*http.Request) (string, error) { return " ", nil },
			"an error":    func(*http.Request) (string, error) { return "ann", errors.New("postgres://u:secret@db: no session") },
			"a long name": func(*http.Request) (string, error) { return strings.Repeat("a", 513), nil },
		} {
			o.User = user
			h := newPage(t, s, o)
			for _, a := range []answer{get(t, h, "/"+keys.Downstream("k")+"?decide=done"), ask(t, h, posting(t, "k", f))} {
				require.Equal(t, http.StatusForbidden, a.StatusCode, name)
				require.NotContains(t, a.body, "secret")
			}
			ok(t, h, "/"+keys.Downstream("k")) // to look, nobody needs a name
		}
		require.Equal(t, store.InDoubt, load(t, s, "k").State)
	})
}

// A decision is about what was shown.
func TestDecide_RefusesWhatHasChanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := doubt(t, "k")
		h := newPage(t, s, deciding(t, s))
		f := form(t, h, "k", "not_done")
		resolved(t, s, load(t, s, "k"))
		before := load(t, s, "k")
		a := ask(t, h, posting(t, "k", f))
		require.Equal(t, http.StatusConflict, a.StatusCode)
		main := text(all(a.doc, "main")[0])
		require.Contains(t, main, "has changed since you looked")
		require.Contains(t, main, "Failed")
		require.Contains(t, main, "by bob: looked")
		require.Equal(t, before.Revision, load(t, s, "k").Revision)
		for _, field := range []string{"state", "revision", "fence"} {
			f := form(t, h, "k", "not_done")
			f.Set(field, "0")
			require.Equal(t, http.StatusConflict, ask(t, h, posting(t, "k", f)).StatusCode, field)
		}
		s.Clear()
		require.Equal(t, http.StatusNotFound, ask(t, h, posting(t, "k", f)).StatusCode)
	})
}

// Of two who decide at once, one is heard, and the other sees what the first has said.
func TestDecide_HearsOneOfTwo(t *testing.T) {
	t.Parallel()
	const rounds = 1000
	s := newMemory()
	h := newPage(t, s, deciding(t, s))
	for i := range rounds {
		key := numbered(i)
		put(t, s, bid(key), store.InDoubt)
		forms := [2]url.Values{form(t, h, key, "done"), form(t, h, key, "failed")}
		forms[1].Set("error", "declined")
		var answers [2]answer
		var both sync.WaitGroup
		for n, f := range forms {
			r := posting(t, key, f)
			r.Header.Set("X-User", []string{"ann", "bob"}[n])
			both.Go(func() { answers[n] = ask(t, h, r) })
		}
		both.Wait()
		r := load(t, s, key)
		winner := map[store.State]int{store.Succeeded: 0, store.Failed: 1}[r.State]
		require.Equal(t, http.StatusSeeOther, answers[winner].StatusCode)
		require.Equal(t, http.StatusConflict, answers[1-winner].StatusCode)
		require.Contains(t, text(all(answers[1-winner].doc, "main")[0]), "by "+[]string{"ann", "bob"}[winner])
		require.Len(t, r.History, 1)
		require.Equal(t, []string{"ann", "bob"}[winner], r.History[0].Who)
	}
}

// answering is a Resolver that answers as a test says.
type answering struct {
	err  error
	wait bool
}

func (a answering) Resolve(ctx context.Context, r store.Record, _ resolve.Finding, _ resolve.Decision) (store.Record, error) {
	if a.wait {
		<-ctx.Done()
		return r, fmt.Errorf("asking redis://u:secret@db: %w", ctx.Err())
	}
	return r, a.err
}

func (a answering) Forget(ctx context.Context, r store.Record, d resolve.Decision) (store.Record, error) {
	return a.Resolve(ctx, r, resolve.Finding{}, d)
}

func TestDecide_ReportsWhyNothingWasWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := doubt(t, "k")
		o := deciding(t, s)
		f := form(t, newPage(t, s, o), "k", "done")
		o.Resolver = answering{err: errors.New("atmostonce: resolve: at redis://u:secret@db/0: \x1b[31mno\nrights")}
		a := ask(t, newPage(t, s, o), posting(t, "k", f))
		require.Equal(t, http.StatusUnprocessableEntity, a.StatusCode)
		require.Contains(t, a.body, `at redis://…@db/0: \x1b[31mno\nrights`)
		o.Resolver = answering{wait: true}
		begun := time.Now()
		a = ask(t, newPage(t, s, o), posting(t, "k", f))
		require.Equal(t, http.StatusServiceUnavailable, a.StatusCode)
		require.Contains(t, a.body, "Nobody knows whether it was recorded")
		require.NotContains(t, a.body, "secret")
		require.Equal(t, 9*time.Second, time.Since(begun))
	})
}

// A browser that goes away does not leave a decision half made.
func TestDecide_GoesOnWithoutTheBrowser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := doubt(t, "k")
		h := newPage(t, s, deciding(t, s))
		r := posting(t, "k", form(t, h, "k", "done"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		h.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
		require.Equal(t, store.Succeeded, load(t, s, "k").State)
	})
}

func TestDecide_BoundsTheForm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := doubt(t, "k")
		h := newPage(t, s, deciding(t, s))
		f := form(t, h, "k", "done")
		f.Set("result", strings.Repeat("1", 5<<20))
		require.Equal(t, http.StatusBadRequest, ask(t, h, posting(t, "k", f)).StatusCode)
		r := posting(t, "k", f)
		r.URL.Path = "/"
		require.Equal(t, http.StatusNotFound, ask(t, h, r).StatusCode)
		require.Equal(t, store.InDoubt, load(t, s, "k").State)
	})
}

// What comes next is said under the policy that the guard carries out.
func TestPage_SaysWhatThePolicyDoesNext(t *testing.T) {
	t.Parallel()
	s := newMemory()
	put(t, s, bid("k"), store.InDoubt)
	at := "/" + keys.Downstream("k")
	require.Contains(t, ok(t, newPage(t, s, deciding(t, s)), at).body, "Every attempt waits until somebody decides here (policy Hold).")
	require.Contains(t, ok(t, newPage(t, s, page.Options{}), at).body, "The policy of its worker decides")
}
