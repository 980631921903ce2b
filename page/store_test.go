package page_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/page"
	"github.com/atmostonce/atmostonce/store"
)

// broken is a store whose listings end with an error, or not at all, after so many records.
type broken struct {
	store.Store
	after int
	in    store.State // the listings that are broken; all if it is empty
	end   func(ctx context.Context) error
	calls atomic.Int64
	reads atomic.Int64
}

func (b *broken) List(ctx context.Context, q store.Query) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		n := 0
		b.calls.Add(1)
		for r, err := range b.Store.List(ctx, q) {
			if b.end != nil && n == b.after && (b.in == "" || b.in == q.State) {
				break
			}
			b.reads.Add(1)
			if n++; !yield(r, err) {
				return
			}
		}
		if b.end != nil && (b.in == "" || b.in == q.State) {
			if err := b.end(ctx); err != nil {
				yield(store.Record{}, err)
			}
		}
	}
}

func (b *broken) Load(ctx context.Context, key string) (store.Record, error) {
	if b.end != nil {
		if err := b.end(ctx); err != nil {
			return store.Record{}, err
		}
	}
	return b.Store.Load(ctx, key)
}

func waits(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

var errSecret = errors.New("dial tcp: redis://ops:secret@db.internal:6379: goroutine 1 [running]")

func refuses(context.Context) error { return errSecret }

func panics(context.Context) error { panic(errSecret) }

func TestPage_SaysThatTheStoreIsAway(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end    func(context.Context) error
		status int
	}{
		"slow": {waits, http.StatusServiceUnavailable}, "an error": {refuses, http.StatusBadGateway}, "a panic": {panics, http.StatusBadGateway},
		"a newer program": {func(context.Context) error { return store.ErrVersion }, http.StatusBadGateway},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newMemory()
				put(t, s, bid("k"), store.InDoubt)
				f := form(t, newPage(t, s, deciding(t, s)), "k", "done")
				var log bytes.Buffer
				o := deciding(t, s)
				o.Logger = slog.New(slog.NewTextHandler(&log, nil))
				h := newPage(t, &broken{Store: s, end: c.end}, o)
				for _, path := range []string{"/?state=in_doubt", "/?state=settled", "/" + keys.Downstream("k"), "/?q=v1/a", "/?q=" + keys.Downstream("k")} {
					begun := time.Now()
					a := get(t, h, path)
					if name == "a newer program" && path[:3] == "/?s" { // a list leaves it out
						require.Equal(t, http.StatusOK, a.StatusCode)
						continue
					}
					require.Equal(t, c.status, a.StatusCode, path)
					require.NotContains(t, a.body, "secret")
					require.NotContains(t, a.body, "goroutine")
					require.LessOrEqual(t, time.Since(begun), 3*time.Second, path)
				}
				a := ask(t, h, posting(t, "k", f))
				require.Equal(t, c.status, a.StatusCode)
				require.NotContains(t, a.body, "secret")
				require.NotEmpty(t, log.String())
				require.Equal(t, store.InDoubt, load(t, s, "k").State)
			})
		})
	}
}

// What was read before the store went away is shown, and what may be missing is said.
func TestPage_ShowsWhatItHas(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(context.Context) error{"slow": waits, "an error": refuses} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newMemory()
				for i := range 5 {
					put(t, s, bid(numbered(i)), store.InDoubt)
					put(t, s, bid("r"+numbered(i)), store.Running)
				}
				a := ok(t, newPage(t, &broken{Store: s, after: 3, in: store.InDoubt, end: end}, page.Options{}), "/")
				require.Len(t, digests(section(t, a, "in_doubt")), 3)
				require.Contains(t, text(all(a.doc, "h1")[0]), "3+ effects")
				require.Contains(t, a.body, "The store has not answered in full")
				a = ok(t, newPage(t, &broken{Store: s, in: store.Running, end: end}, page.Options{}), "/")
				require.Len(t, digests(section(t, a, "in_doubt")), 5)
				require.Contains(t, text(section(t, a, "running")), "Not known.")
				require.Contains(t, a.body, "5 effects are in doubt")
				put(t, s, bid("s"), store.Succeeded)
				a = ok(t, newPage(t, &broken{Store: s, after: 11, end: end}, page.Options{}), "/?state=settled")
				require.Contains(t, a.body, map[string]string{"slow": "the newest of 11 records", "an error": "has not answered in full"}[name])
			})
		})
	}
	t.Run("nothing of what is in doubt", func(t *testing.T) {
		t.Parallel()
		s := newMemory()
		put(t, s, bid("r"), store.Running)
		a := ok(t, newPage(t, &broken{Store: s, in: store.InDoubt, end: refuses}, page.Options{}), "/")
		require.Contains(t, text(all(a.doc, "h1")[0]), "Nobody knows what is in doubt")
	})
}

// A store that takes no notice of a context does not hold the page, and is not asked by
// ever more goroutines.
func TestPage_LeavesAStoreThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		put(t, s, bid("k"), store.InDoubt)
		release := make(chan struct{})
		b := &broken{Store: s, end: func(context.Context) error { <-release; return nil }}
		h := newPage(t, b, page.Options{Timeout: time.Second})
		for range 100 {
			begun := time.Now()
			require.Equal(t, http.StatusServiceUnavailable, get(t, h, "/").StatusCode)
			require.LessOrEqual(t, time.Since(begun), time.Second)
		}
		require.LessOrEqual(t, b.calls.Load(), int64(32))
		close(release)
		synctest.Wait()
		b.end = nil
		ok(t, h, "/")
	})
}

// bad is a store with a record that cannot be read.
type bad struct{ store.Store }

func (b bad) List(ctx context.Context, q store.Query) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if !yield(store.Record{}, store.ErrCorrupt) || !yield(store.Record{}, store.ErrVersion) {
			return
		}
		b.Store.List(ctx, q)(yield)
	}
}

func TestList_LeavesOutWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := newMemory()
	put(t, s, bid("k"), store.InDoubt)
	a := ok(t, newPage(t, bad{s}, page.Options{}), "/?state=in_doubt")
	require.Len(t, digests(a.doc), 1)
	require.Contains(t, a.body, "Left out, since they cannot be read: 2.")
	require.Equal(t, http.StatusBadGateway, get(t, newPage(t, bad{s}, page.Options{}), "/"+keys.Downstream("k")).StatusCode)
}

// Among 100,000 records a page reads those that it shows and counts, and keeps few.
func TestPage_ReadsAndKeepsFew(t *testing.T) {
	s := newMemory()
	for i := range 100_000 {
		b := bid(numbered(i))
		to := store.Succeeded
		if i%20 == 0 {
			to = store.InDoubt
		}
		put(t, s, b, to)
	}
	b := &broken{Store: s}
	h := newPage(t, b, page.Options{})
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://ops.example/", nil)
	h.ServeHTTP(httptest.NewRecorder(), request)
	require.LessOrEqual(t, b.reads.Load(), int64(1200), "1,000 in doubt are counted, and a few are on their way")

	settled := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://ops.example/?state=settled", nil)
	require.Less(t, kept(func() { h.ServeHTTP(httptest.NewRecorder(), settled) }), uint64(1<<20))
}

// kept is by how much the heap is larger after f than before, garbage left aside.
func kept(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return max(after.HeapAlloc, before.HeapAlloc) - before.HeapAlloc
}
