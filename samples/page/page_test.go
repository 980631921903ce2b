package main

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

// aged shows what was planted as if it had happened up to hours ago.
type aged struct{ store.Store }

func (a aged) Load(ctx context.Context, key string) (store.Record, error) {
	r, err := a.Store.Load(ctx, key)
	return age(r), err
}

func (a aged) List(ctx context.Context, q store.Query) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		q.After = store.Record{} // whose times are others; the tests have one page
		for r, err := range a.Store.List(ctx, q) {
			if !yield(age(r), err) {
				return
			}
		}
	}
}

func age(r store.Record) store.Record {
	var n int
	_, _ = fmt.Sscanf(r.Info.Holder.WorkflowID, "order-%d", &n)
	by := time.Duration(1100-n) * 97 * time.Second
	if r.State == store.Running {
		by = time.Duration(1010-n) * 8 * time.Second
	}
	for _, t := range []*time.Time{&r.Claimed, &r.Deadline, &r.Doubted, &r.Settled, &r.LeaseEnd} {
		if !t.IsZero() {
			*t = t.Add(-by)
		}
	}
	r.Claimed = r.Claimed.Add(-3 * time.Second)
	return r
}

// startPage serves the sample's page over what it plants.
func startPage(t *testing.T, s store.Store) string {
	t.Helper()
	require.NoError(t, plant(t.Context(), s))
	handler, err := newPage(aged{s}, "ann@example.com")
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/atmostonce/", handler)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL + "/atmostonce/"
}

// pagesOf are the addresses of the pages that are looked at, by name.
func pagesOf(base string) map[string]string {
	doubt := base + keys.Downstream("v1/shop/w:order-1001/ChargeCard/k:order-1001")
	done := base + keys.Downstream("v1/shop/w:order-1009/ChargeCard/k:order-1009")
	return map[string]string{
		"list": base, "settled": base + "?state=settled", "filtered": base + "?activity=ChargeCard&workflow=order-1001",
		"record": doubt, "confirm-done": doubt + "?decide=done", "confirm-not-done": doubt + "?decide=not_done", "record-done": done,
		"missing": base + strings.Repeat("0", 64),
	}
}

// schemes are what a device prefers; dark or not.
var schemes = map[string]bool{"light": false, "dark": true}

// checks are what is asked of every page; each returns its faults.
var checks = map[string]string{
	"contrast": `(() => {
		const parse = c => { const m = c.match(/[\d.]+/g).map(Number); return m.length > 3 ? m : [...m, 1] }
		const part = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
		const light = c => 0.2126 * part(c[0]) + 0.7152 * part(c[1]) + 0.0722 * part(c[2])
		const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c } return [255, 255, 255, 1] }
		const ratio = (a, b) => { const [x, y] = [light(a), light(b)]; return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05) }
		const faults = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
		while (texts.nextNode()) {
			const e = texts.currentNode.parentElement
			if (!texts.currentNode.textContent.trim() || !e.checkVisibility()) continue
			const r = ratio(parse(getComputedStyle(e).color), ground(e))
			if (r < 4.5) faults.push(texts.currentNode.textContent + ': ' + r)
		}
		for (const e of document.querySelectorAll('input:not([type=hidden]), textarea, button')) {
			if (!e.checkVisibility()) continue
			const r = Math.max(ratio(parse(getComputedStyle(e).borderColor), ground(e.parentElement)), ratio(ground(e), ground(e.parentElement)))
			if (r < 3) faults.push('the edge of ' + e.outerHTML + ': ' + r)
		}
		return faults
	})()`,
	"headings": `(() => {
		const levels = [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(h => Number(h.tagName[1]))
		const faults = levels.filter((level, i) => level > (levels[i - 1] || 0) + 1).map(String)
		if (levels.filter(level => level === 1).length !== 1) faults.push('not one h1')
		return faults
	})()`,
	"structure": `(() => {
		const faults = []
		if (!document.documentElement.lang) faults.push('no language')
		if (!document.title) faults.push('no title')
		if (document.querySelectorAll('main').length !== 1) faults.push('not one main')
		const ids = [...document.querySelectorAll('[id]')].map(e => e.id)
		for (const id of ids.filter((id, i) => ids.indexOf(id) !== i)) faults.push('twice: ' + id)
		for (const e of document.querySelectorAll('[aria-labelledby], [aria-describedby], label[for]')) {
			for (const id of [e.getAttribute('aria-labelledby'), e.getAttribute('aria-describedby'), e.getAttribute('for')]) {
				if (id && !document.getElementById(id)) faults.push('nothing is called ' + id)
			}
		}
		for (const t of document.querySelectorAll('table')) {
			if (!t.caption || !t.caption.textContent.trim()) faults.push('a table without a caption')
			for (const th of t.querySelectorAll('th')) if (!th.scope) faults.push('no scope: ' + th.textContent)
		}
		for (const t of document.querySelectorAll('time')) if (isNaN(Date.parse(t.dateTime))) faults.push('no time: ' + t.outerHTML)
		return faults
	})()`,
	"width": `document.documentElement.scrollWidth > innerWidth ? [document.documentElement.scrollWidth + ' pixels in ' + innerWidth] : []`,
	"size": `[...document.querySelectorAll('input:not([type=hidden]):not([type=checkbox]), textarea, button, summary')]
		.filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 24).map(e => e.outerHTML)`,
	"style":  `document.styleSheets.length === 1 && document.styleSheets[0].cssRules.length > 10 ? [] : ['no style sheet']`,
	"script": `[...document.querySelectorAll('script, [style]')].map(e => e.outerHTML)`,
}

// Each page is checked at two widths, in the light and in the dark.
func TestPage_IsAccessible(t *testing.T) {
	b := newBrowser(t)
	s := store.NewMemory(store.MemoryOptions{})
	base := startPage(t, s)
	pages := pagesOf(base)
	b.open(t, pages["list"], desktop, false)
	keep(t, "page.png", b.picture(t))
	b.open(t, pages["confirm-done"], phone, true)
	keep(t, "page-phone.png", b.picture(t))
	pages["long"] = base + plantLong(t, s)
	for name, url := range pages {
		for _, width := range []int64{desktop, phone} {
			for scheme, dark := range schemes {
				b.open(t, url, width, dark)
				for check, script := range checks {
					require.Empty(t, evaluate[[]string](t, b, script), "%s of %s, %d pixels wide, %s", check, name, width, scheme)
				}
				for _, c := range b.controls(t) {
					require.NotEmpty(t, strings.TrimSpace(c[1]), "%s without a name on %s", c[0], name)
				}
				look(t, b, fmt.Sprintf("%s-%d-%s", name, width, scheme))
			}
		}
	}
}

// plantLong leaves a record with long texts, and returns its digest.
func plantLong(t *testing.T, s store.Store) string {
	t.Helper()
	long := strings.Repeat("W", 10<<10)
	bid := store.Bid{
		Key: long, Owner: "long", Lease: time.Minute, TTL: time.Hour, Began: true,
		Info: store.Info{Activity: long, Holder: store.Holder{Namespace: long, WorkflowID: long, RunID: long, ActivityID: long, Attempt: 1, Worker: long}},
	}
	_, err := s.Acquire(t.Context(), bid)
	require.NoError(t, err)
	return keys.Downstream(long)
}

// look writes a picture for whoever changes the page, into the directory $LOOK.
func look(t *testing.T, b *browser, name string) {
	t.Helper()
	if dir := os.Getenv("LOOK"); dir != "" {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".png"), b.picture(t), 0o644))
	}
}

// focused is the element that has the focus.
type focused struct {
	Index   int // among all elements
	Text    string
	Outline string
	Width   string
	InView  bool
}

const whatIsFocused = `(() => {
	const e = document.activeElement, style = getComputedStyle(e), at = e.getBoundingClientRect()
	return {Index: [...document.querySelectorAll('*')].indexOf(e), Text: (e.textContent || e.id).trim().replace(/\s+/g, ' '), Outline: style.outlineStyle, Width: style.outlineWidth,
		InView: at.left >= 0 && at.top >= 0 && at.bottom <= innerHeight}
})()`

// tab moves the focus on until it is on that text, and asserts that it goes through the
// page in its order and can be seen all the way.
func (b *browser) tab(t *testing.T, to string) {
	t.Helper()
	last := -1
	for range 60 {
		b.do(t, chromedp.KeyEvent("\t"))
		f := evaluate[focused](t, b, whatIsFocused)
		require.Greater(t, f.Index, last, "%q comes too late", f.Text)
		last = f.Index
		require.Equal(t, "solid", f.Outline, f.Text)
		require.Equal(t, "3px", f.Width, f.Text)
		require.True(t, f.InView, f.Text)
		if strings.HasPrefix(f.Text, to) {
			return
		}
	}
	require.Fail(t, "not reached", to)
}

// An operator without a mouse decides about what is in doubt.
func TestPage_IsUsedByKeyboard(t *testing.T) {
	b := newBrowser(t)
	s := store.NewMemory(store.MemoryOptions{})
	b.open(t, startPage(t, s), desktop, false)
	b.tab(t, "ChargeCard ededa3d888c7f9b3")
	b.press(t, "\r", "What comes next")
	b.tab(t, "It took effect")
	b.press(t, "\r", "Your decision")
	b.tab(t, "result")
	b.do(t, chromedp.KeyEvent(`{"ID": "ch_9"}`), chromedp.KeyEvent("\t"), chromedp.KeyEvent("found at the provider, INC-812"),
		chromedp.KeyEvent("\t"), chromedp.KeyEvent(" "), chromedp.KeyEvent("\t"))
	b.press(t, "\r", "Your decision is recorded.")

	r, err := s.Load(t.Context(), "v1/shop/w:order-1001/ChargeCard/k:order-1001")
	require.NoError(t, err)
	require.Equal(t, store.Succeeded, r.State)
	require.Equal(t, "ann@example.com", r.History[0].Who)
	require.Equal(t, "found at the provider, INC-812", r.History[0].Why)
	require.Contains(t, string(r.Outcome.Data), `"ID":`, "the result is JSON of Temporal's converter")
}

// press presses a key, and waits for the page that comes then.
func (b *browser) press(t *testing.T, key, then string) {
	t.Helper()
	b.do(t, chromedp.KeyEvent(key))
	require.Eventually(t, func() bool {
		return strings.Contains(evaluate[string](t, b, "document.body ? document.body.innerText : ''"), then)
	}, soon, 50*time.Millisecond, then)
}

// A form that another page has the browser send is refused.
func TestPage_IsNotUsedByOthers(t *testing.T) {
	b := newBrowser(t)
	s := store.NewMemory(store.MemoryOptions{})
	page := pagesOf(startPage(t, s))["record"]
	r, err := s.Load(t.Context(), "v1/shop/w:order-1001/ChargeCard/k:order-1001")
	require.NoError(t, err)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `<!doctype html><title>x</title><form method=post action=%q>
			<input name=decide value=done><input name=why value=x><input name=sure value=yes><input name=state value=in_doubt>
			<input name=revision value=%d><input name=fence value=%d><button>go</button></form>`, page, r.Revision, r.Fence)
	}))
	t.Cleanup(other.Close)
	b.open(t, other.URL, desktop, false)
	b.do(t, chromedp.Click("button"))
	b.press(t, "", "this form was sent from another one")
	now, err := s.Load(t.Context(), r.Key)
	require.NoError(t, err)
	require.Equal(t, r.Revision, now.Revision)
}
