package httponce_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/httponce"
	"github.com/atmostonce/atmostonce/store"
)

// newBehind returns a server with what front makes of a guarded handler.
func newBehind(t *testing.T, o httponce.Options, handler http.HandlerFunc, front func(http.Handler) http.Handler) *api {
	t.Helper()
	guard, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), atmostonce.Options{})
	require.NoError(t, err)
	if o.Identity == nil {
		o.Identity = httponce.Anyone
	}
	once, err := httponce.New(guard, o)
	require.NoError(t, err)
	a := &api{guard: guard}
	a.Server = newServer(t, front(once(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.runs.Add(1)
		handler(w, r)
	}))))
	return a
}

// gzipWriter compresses as the shortest of such middleware do: it says so before the
// handler runs.
type gzipWriter struct {
	http.ResponseWriter
	to io.Writer
}

func (g gzipWriter) Write(p []byte) (int, error) { return g.to.Write(p) }

func TestResponse_IsCompressedInFrontForEachClient(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("order 42 ", 1000)
	a := newBehind(t, httponce.Options{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = io.WriteString(w, body)
	}, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Add("Vary", "Accept-Encoding")
			if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				next.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Content-Encoding", "gzip")
			to := gzip.NewWriter(w)
			defer to.Close()
			next.ServeHTTP(gzipWriter{w, to}, r)
		})
	})
	for i, encoding := range []string{"gzip", "identity", "gzip"} {
		for _, sent := range []string{"{}", "[]"} { // the second is a problem
			got := a.post(t, "k-1", sent, set("Accept-Encoding", encoding))
			text := got.body
			if encoding == "gzip" {
				require.Equal(t, "gzip", got.Header.Get("Content-Encoding"))
				r, err := gzip.NewReader(strings.NewReader(text))
				require.NoError(t, err)
				plain, err := io.ReadAll(r)
				require.NoError(t, err)
				text = string(plain)
			} else {
				require.Empty(t, got.Header.Get("Content-Encoding"))
			}
			require.Equal(t, []string{"Accept-Encoding"}, got.Header.Values("Vary"))
			if sent == "[]" {
				require.Contains(t, text, "#key-reused")
				continue
			}
			require.Equal(t, body, text)
			require.Equal(t, i > 0, got.Header.Get("Idempotent-Replayed") == "true")
		}
	}
}

// interrupted does something before it hears what came of an act, if it hears it.
type interrupted struct {
	*store.Memory
	first func() error
}

func (i interrupted) Settle(ctx context.Context, b store.Bid, o store.Outcome) (store.Record, error) {
	if err := i.first(); err != nil {
		return store.Record{}, err
	}
	return i.Memory.Settle(ctx, b, o)
}

func TestResponse_IsOverWhenTheHandlerReturns(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]int{"kept": 100, "passed on": 2} {
		late, wrote := make(chan struct{}), make(chan error, 1)
		s := interrupted{store.NewMemory(store.MemoryOptions{}), func() error {
			close(late)
			require.Error(t, <-wrote, name)
			return nil
		}}
		a := newAPIOver(t, s, atmostonce.Options{}, httponce.Options{MaxResponse: limit}, func(w http.ResponseWriter, r *http.Request) {
			created(w, r)
			go func() {
				<-late
				w.WriteHeader(http.StatusTeapot)
				_, err := io.WriteString(w, strings.Repeat("late", 100))
				wrote <- err
			}()
		})
		first := a.post(t, "k-1", "{}")
		require.Equal(t, http.StatusCreated, first.StatusCode, name)
		require.Equal(t, "order 42", first.body, name)
	}
}

func TestMiddleware_TakesARequestWithoutBody(t *testing.T) {
	t.Parallel()
	guard, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), atmostonce.Options{})
	require.NoError(t, err)
	once, err := httponce.New(guard, httponce.Options{Identity: httponce.Anyone})
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/orders", nil) // as tests make one
	require.NoError(t, err)
	r.Header.Set("Idempotency-Key", `"k-1"`)
	w := httptest.NewRecorder()
	once(http.HandlerFunc(created)).ServeHTTP(w, r)
	require.Equal(t, http.StatusCreated, w.Code)
}

func TestNew_RefusesAHandlerThatIsNone(t *testing.T) {
	t.Parallel()
	guard, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), atmostonce.Options{})
	require.NoError(t, err)
	once, err := httponce.New(guard, httponce.Options{Identity: httponce.Anyone})
	require.NoError(t, err)
	require.Panics(t, func() { once(nil) })
	require.Panics(t, func() { once(http.HandlerFunc(nil)) })
	_, err = httponce.New(&atmostonce.Guard{}, httponce.Options{Identity: httponce.Anyone})
	require.Error(t, err)
	for _, methods := range [][]string{{}, {"post"}, {"POST", "Patch"}, {"POST "}} {
		_, err = httponce.New(guard, httponce.Options{Identity: httponce.Anyone, Methods: methods})
		require.ErrorContains(t, err, "Methods", methods)
	}
	for _, header := range []string{"", "X Order", "X-Order:"} {
		_, err = httponce.New(guard, httponce.Options{Identity: httponce.Anyone, Headers: []string{header}})
		require.ErrorContains(t, err, "Headers", header)
	}
}

func TestMiddleware_HoldsTheKeyLongerThanALease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		guard, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), atmostonce.Options{Lease: time.Minute})
		require.NoError(t, err)
		once, err := httponce.New(guard, httponce.Options{Identity: httponce.Anyone})
		require.NoError(t, err)
		h := once(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Hour) //nolint:forbidigo // a bubble's clock
			created(w, r)
		}))
		post := func() int {
			r := httptest.NewRequest(http.MethodPost, "/orders", nil)
			r.Header.Set("Idempotency-Key", `"k-1"`)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Code
		}
		first := make(chan int, 1)
		go func() { first <- post() }()
		for range 50 {
			time.Sleep(time.Minute) //nolint:forbidigo // a bubble's clock
			require.Equal(t, http.StatusConflict, post())
		}
		require.Equal(t, http.StatusCreated, <-first)
		require.NoError(t, guard.Close(t.Context()))
	})
}

// The effect has happened, and the client may know it, however often the store is asked.
func TestMiddleware_AnswersWhenTheStoreIsDownMeanwhile(t *testing.T) {
	t.Parallel()
	var tries atomic.Int32
	s := interrupted{store.NewMemory(store.MemoryOptions{}), func() error {
		if tries.Add(1) < 3 {
			return errors.New("secret: no route to the store")
		}
		return nil
	}}
	a := newAPIOver(t, s, atmostonce.Options{}, httponce.Options{}, created)
	requireReplay(t, a, http.StatusCreated)
	require.EqualValues(t, 3, tries.Load())
}

func TestMiddleware_TakesLongCallersAndPaths(t *testing.T) {
	t.Parallel()
	a := newBehind(t, httponce.Options{Identity: func(r *http.Request) (string, error) {
		return strings.Repeat("\x00é\xff/", 500) + r.Header.Get("Account"), nil
	}}, created, func(next http.Handler) http.Handler { return next })
	long := func(r *http.Request) { r.URL.Path = "/" + strings.Repeat("x/", 4000) }
	key := strings.Repeat("~", 255)
	for _, account := range []string{"a", "b"} {
		require.Equal(t, http.StatusCreated, a.post(t, key, "{}", long, set("Account", account)).StatusCode)
		require.Equal(t, "true", a.post(t, key, "{}", long, set("Account", account)).Header.Get("Idempotent-Replayed"))
	}
	require.EqualValues(t, 2, a.runs.Load())
}

// raw sends what is written by hand, and returns all that comes back.
func raw(t *testing.T, a *api, text string) string {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", a.Listener.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = io.WriteString(c, text)
	require.NoError(t, err)
	all, err := io.ReadAll(bufio.NewReader(c))
	require.NoError(t, err)
	return string(all)
}

func TestMiddleware_AsksForABodyOnlyWithAKey(t *testing.T) {
	t.Parallel()
	a := newBehind(t, httponce.Options{}, created, func(next http.Handler) http.Handler { return next })
	head := "POST /orders HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n"
	got := raw(t, a, head+"\r\n")
	require.True(t, strings.HasPrefix(got, "HTTP/1.1 400 "), got)
	got = raw(t, a, head+"Idempotency-Key: \"k-1\"\r\n\r\n{}")
	require.True(t, strings.HasPrefix(got, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 "), got)
	for _, malformed := range []string{"\"k\xe9\"", "\"k\u00e9\"", "\"k\tl\"", `"k"; `, `"k`, `""`} {
		got = raw(t, a, head+"Idempotency-Key: "+malformed+"\r\n\r\n{}")
		require.True(t, strings.HasPrefix(got, "HTTP/1.1 400 "), got)
	}
	require.EqualValues(t, 1, a.runs.Load())
}

func TestResponse_HasTheLengthOfItsBody(t *testing.T) {
	t.Parallel()
	for name, length := range map[string]string{"right": "8", "short": "3", "long": "100", "none": ""} {
		a := newBehind(t, httponce.Options{}, func(w http.ResponseWriter, r *http.Request) {
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			created(w, r)
		}, func(next http.Handler) http.Handler { return next })
		for range 2 {
			got := a.post(t, "k-1", "{}")
			require.Equal(t, "order 42", got.body, name)
			require.Equal(t, "8", got.Header.Get("Content-Length"))
		}
	}
}

// http.Error forbids browsers to guess what the text is; so does its replay.
func TestResponse_OfHTTPErrorIsReplayedAsTextOnly(t *testing.T) {
	t.Parallel()
	a := newBehind(t, httponce.Options{}, with(http.StatusConflict), func(next http.Handler) http.Handler { return next })
	for range 2 {
		require.Equal(t, "nosniff", a.post(t, "k-1", "{}").Header.Get("X-Content-Type-Options"))
	}
}

func TestResponse_ReplaysHeadersByteForByte(t *testing.T) {
	t.Parallel()
	const latin1 = "attachment; filename=\"caf\xe9.pdf\""
	a := newBehind(t, httponce.Options{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Disposition"] = []string{latin1, "<&>"}
		created(w, r)
	}, func(next http.Handler) http.Handler { return next })
	for range 2 {
		got := a.post(t, "k-1", "{}")
		require.Equal(t, []string{latin1, "<&>"}, got.Header.Values("Content-Disposition"))
		require.Equal(t, "/orders/42", got.Header.Get("Location"))
	}
}
