package httponce_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/httponce"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// What the first request and a repeated one get, by what the handler answers and says.
func TestOutcome_IsWhatTheStatusMeans(t *testing.T) {
	t.Parallel()
	const keptAs, freeAgain, doubt = "kept", "free", "in doubt"
	byStatus := once.Classify(func(err error) once.FailurePolicy {
		var e *httponce.StatusError
		if errors.As(err, &e) && (e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable) {
			return once.Unlock
		}
		return once.Lock
	})
	for name, c := range map[string]struct {
		status  int
		failure once.FailurePolicy
		judge   once.FailurePolicy
		begin   bool
		want    string
		first   int // its status, if it is not the handler's
	}{
		"success":                    {status: 200, want: keptAs},
		"redirect":                   {status: 303, want: keptAs},
		"no content":                 {status: 204, want: keptAs},
		"client's error":             {status: 404, want: keptAs},
		"client's error after Begin": {status: 404, begin: true, want: keptAs},
		"server's error":             {status: 500, want: doubt},
		"another one":                {status: 503, want: doubt},
		"no status":                  {status: 42, want: doubt, first: 500},

		"client's error, Unlock":             {status: 404, failure: once.Unlock, want: freeAgain},
		"client's error, Unlock after Begin": {status: 404, failure: once.Unlock, begin: true, want: doubt, first: 503},
		"server's error, Unlock":             {status: 500, failure: once.Unlock, want: doubt},
		"server's error, Lock":               {status: 500, failure: once.Lock, want: doubt},
		"client's error, Doubt":              {status: 404, failure: once.Doubt, want: doubt, first: 503},
		"success, Doubt":                     {status: 200, failure: once.Doubt, want: keptAs},
		"Classify frees":                     {status: 429, failure: byStatus, want: freeAgain},
		"Classify frees a server's":          {status: 503, failure: byStatus, begin: true, want: freeAgain},
		"Classify keeps a server's":          {status: 500, failure: byStatus, want: keptAs},

		"Judge frees":                 {status: 404, judge: once.Unlock, want: freeAgain},
		"Judge frees a server's":      {status: 500, judge: once.Unlock, begin: true, want: freeAgain},
		"Judge frees a success":       {status: 200, judge: once.Unlock, want: freeAgain},
		"Judge keeps a server's":      {status: 500, judge: once.Lock, want: keptAs},
		"Judge doubts a success":      {status: 200, judge: once.Doubt, want: doubt, first: 503},
		"Judge says nothing":          {status: 500, judge: once.Classify(nil), want: doubt},
		"Judge is before the policy":  {status: 429, failure: byStatus, judge: once.Lock, want: keptAs},
		"Judge is before a Doubt too": {status: 404, failure: once.Doubt, judge: once.Lock, want: keptAs},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, httponce.Options{Policy: once.Policy{OnFailure: c.failure}}, func(w http.ResponseWriter, r *http.Request) {
				if c.begin {
					once.Begin(r.Context())
				}
				if c.judge != (once.FailurePolicy{}) {
					httponce.Judge(r.Context(), c.judge)
				}
				w.WriteHeader(c.status)
			})
			a.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			first, again := a.post(t, "k-1", "{}"), a.post(t, "k-1", "{}")
			if c.first == 0 {
				c.first = c.status
			}
			require.Equal(t, c.first, first.StatusCode)
			require.Empty(t, first.Header.Get("Idempotent-Replayed"))
			switch c.want {
			case keptAs:
				require.Equal(t, c.status, again.StatusCode)
				require.Equal(t, "true", again.Header.Get("Idempotent-Replayed"))
			case freeAgain:
				require.Equal(t, c.status, again.StatusCode)
				require.EqualValues(t, 2, a.runs.Load())
				return
			default:
				again.requireProblem(t, http.StatusServiceUnavailable, "in-doubt")
				require.Equal(t, "30", again.Header.Get("Retry-After"))
				require.Regexp(t, `"digest":"[0-9a-f]{16}"`, again.body)
			}
			require.EqualValues(t, 1, a.runs.Load())
		})
	}
}

func TestJudge_DoesNothingOutside(t *testing.T) {
	t.Parallel()
	httponce.Judge(context.Background(), once.Unlock)
}

func TestOutcome_OfAPanicIsInDoubt(t *testing.T) {
	t.Parallel()
	a := newAPI(t, httponce.Options{Policy: once.Policy{InDoubt: once.Fail}}, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half of it")
		panic(http.ErrAbortHandler)
	})
	require.Error(t, (<-a.attempt(a.request(t, "k-1", "{}"))).err, "net/http breaks the connection")
	again := a.post(t, "k-1", "{}")
	again.requireProblem(t, http.StatusServiceUnavailable, "in-doubt")
	require.EqualValues(t, 1, a.runs.Load())
}

func TestOutcome_IsFoundByReconcile(t *testing.T) {
	t.Parallel()
	find := func(_ context.Context, r httponce.Request) (httponce.Response, error) {
		status := map[string]int{"found": 0, "wrong": 99}
		if _, known := status[r.Key]; !known {
			return httponce.Response{}, once.ErrNotDone
		}
		return httponce.Response{
			Status: status[r.Key], Header: http.Header{"location": {"/orders/42"}, "Set-Cookie": {"a=b"}},
			Body: []byte(r.HTTP.PathValue("shop") + r.Identity + string(r.Body)),
		}, nil
	}
	fail := true
	a := newAPIOver(t, store.NewMemory(store.MemoryOptions{}), atmostonce.Options{Lease: 30 * time.Millisecond, SettleDelay: 11 * time.Millisecond},
		httponce.Options{Policy: once.Policy{InDoubt: once.Reconcile(find)}}, func(w http.ResponseWriter, r *http.Request) {
			if fail {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			created(w, r)
		})
	for _, key := range []string{"found", "lost", "wrong"} {
		require.Equal(t, http.StatusBadGateway, a.post(t, key, "{}").StatusCode)
	}
	fail = false
	final := func(key string) (got answer) {
		require.Eventually(t, func() bool {
			got = a.post(t, key, "{}")
			return !strings.Contains(got.body, "#in-doubt")
		}, 10*time.Second, 5*time.Millisecond)
		return got
	}
	found := final("found")
	require.Equal(t, http.StatusOK, found.StatusCode)
	require.Equal(t, "7account {}", found.body)
	require.Equal(t, "true", found.Header.Get("Idempotent-Replayed"))
	require.Equal(t, "/orders/42", found.Header.Get("Location"))
	require.Empty(t, found.Header.Get("Set-Cookie"))
	require.Equal(t, http.StatusCreated, final("lost").StatusCode, "it did not happen, so it runs")
	final("wrong").requireProblem(t, http.StatusServiceUnavailable, "unavailable")
	require.EqualValues(t, 4, a.runs.Load())
}

func TestResponse_IsReplayedWithChosenHeaders(t *testing.T) {
	t.Parallel()
	a := newAPI(t, httponce.Options{Headers: []string{"x-order"}}, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for _, name := range []string{
			"Content-Type", "Content-Language", "Location", "Etag", "Last-Modified", "Cache-Control", "X-Order",
			"Set-Cookie", "X-Request-Id", "Www-Authenticate", "Idempotent-Replayed",
		} {
			h.Set(name, "of the handler")
		}
		h["Vary"] = []string{"A", "B"}
		h.Set("Date", "Mon, 02 Jan 2006 15:04:05 GMT")
		created(w, r)
		h.Set("Etag", "too late")
	})
	first, again := a.post(t, "k-1", "{}"), a.post(t, "k-1", "{}")
	require.Empty(t, first.Header.Get("Idempotent-Replayed"), "it is the middleware that says so")
	for _, name := range []string{"Content-Type", "Content-Language", "Location", "Etag", "Last-Modified", "Cache-Control", "X-Order", "Vary", "Content-Length"} {
		require.NotEmpty(t, first.Header.Values(name), name)
		require.Equal(t, first.Header.Values(name), again.Header.Values(name), name)
	}
	for _, name := range []string{"Set-Cookie", "X-Request-Id", "Www-Authenticate"} {
		require.NotEmpty(t, first.Header.Get(name), name)
		require.Empty(t, again.Header.Get(name), name)
	}
	require.NotEqual(t, first.Header.Get("Date"), again.Header.Get("Date"))
}

// What is stored must be found by later builds: another key or fingerprint is a forgotten
// record, and another response cannot be replayed.
func TestRecord_StaysAsItIs(t *testing.T) {
	t.Parallel()
	key := make(chan string, 1)
	a := newAPI(t, httponce.Options{}, func(w http.ResponseWriter, r *http.Request) {
		key <- once.Key(r.Context())
		created(w, r)
	})
	a.post(t, "k/1", `{"cents":1}`, set("Account", "ada"), func(r *http.Request) { r.URL.RawQuery = "fast=1" })
	record, err := a.guard.Find(t.Context(), <-key)
	require.NoError(t, err)
	require.Equal(t, "v1/functions/n/http/k:POST%2F%252Forders%252F%257Bshop%257D%2Faccount%2520ada%2Fk%252F1%2F", record.Key)
	require.Equal(t, "d271f32ae00f671447ef1e2e5e2ae1f7af0f1add6dd0ca8ed598df473625ea0f", record.Info.Match)
	require.JSONEq(t, `{"status":201,"header":{"Location":["/orders/42"]},"body":"b3JkZXIgNDI="}`, string(record.Outcome.Data))
}

// A cookie must not lie in a store, and must not go out with a problem.
func TestResponse_KeepsNoOtherHeaderAnywhere(t *testing.T) {
	t.Parallel()
	key := make(chan string, 1)
	handler := func(w http.ResponseWriter, r *http.Request) {
		key <- once.Key(r.Context())
		w.Header().Set("Set-Cookie", "session=secret")
		with(http.StatusForbidden)(w, r)
	}
	keeps := newAPI(t, httponce.Options{}, handler)
	require.Equal(t, "session=secret", keeps.post(t, "k-1", "{}").Header.Get("Set-Cookie"))
	record, err := keeps.guard.Find(t.Context(), <-key)
	require.NoError(t, err)
	require.Contains(t, string(record.Outcome.Data), "Content-Type")
	require.NotContains(t, string(record.Outcome.Data), "session")

	doubts := newAPI(t, httponce.Options{Policy: once.Policy{OnFailure: once.Doubt}}, handler)
	got := doubts.post(t, "k-1", "{}")
	got.requireProblem(t, http.StatusServiceUnavailable, "in-doubt")
	require.Empty(t, got.Header.Get("Set-Cookie"))
}

func TestResponse_OverTheLimitIsPassedOnAndNotKept(t *testing.T) {
	t.Parallel()
	whole := strings.Repeat("0123456789", 10_000)
	a := newAPI(t, httponce.Options{MaxResponse: 10}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"1"`)
		w.WriteHeader(http.StatusAccepted)
		size, _ := strconv.Atoi(r.Header.Get("Size"))
		for _, piece := range []string{whole[:size/2], whole[size/2 : size]} {
			_, _ = io.WriteString(w, piece)
		}
	})
	for size, keptIt := range map[string]bool{"10": true, "11": false, "100000": false} {
		n, _ := strconv.Atoi(size)
		first, again := a.post(t, "k-"+size, "{}", set("Size", size)), a.post(t, "k-"+size, "{}", set("Size", size))
		require.Equal(t, http.StatusAccepted, first.StatusCode)
		require.Equal(t, whole[:n], first.body)
		require.Equal(t, `"1"`, first.Header.Get("Etag"))
		if keptIt {
			require.Equal(t, first.body, again.body)
			continue
		}
		again.requireProblem(t, http.StatusInternalServerError, "response-not-kept")
	}
	require.EqualValues(t, 3, a.runs.Load())
}

func TestResponse_OverTheLimitIsLeftAloneInDoubt(t *testing.T) {
	t.Parallel()
	a := newAPI(t, httponce.Options{MaxResponse: 1}, func(w http.ResponseWriter, r *http.Request) {
		httponce.Judge(r.Context(), once.Doubt)
		created(w, r)
	})
	first := a.post(t, "k-1", "{}")
	require.Equal(t, http.StatusCreated, first.StatusCode)
	require.Equal(t, "order 42", first.body, "and nothing after it")
	a.post(t, "k-1", "{}").requireProblem(t, http.StatusServiceUnavailable, "in-doubt")
}

func TestResponse_OverTheGuardsLimitIsNotKept(t *testing.T) {
	t.Parallel()
	a := newAPIOver(t, store.NewMemory(store.MemoryOptions{}), atmostonce.Options{MaxOutcome: 10}, httponce.Options{}, created)
	require.Equal(t, "order 42", a.post(t, "k-1", "{}").body)
	a.post(t, "k-1", "{}").requireProblem(t, http.StatusInternalServerError, "response-not-kept")
	require.EqualValues(t, 1, a.runs.Load())
}

func TestResponse_CannotBeStreamed(t *testing.T) {
	t.Parallel()
	refusals := make(chan error, 4)
	a := newAPI(t, httponce.Options{}, func(w http.ResponseWriter, r *http.Request) {
		_, flushes := w.(http.Flusher)
		_, hijacks := w.(http.Hijacker)
		if flushes || hijacks {
			refusals <- nil
		}
		c := http.NewResponseController(w)
		refusals <- c.Flush()
		_, _, err := c.Hijack()
		refusals <- err
		w.Header().Set("Trailer", "Sum")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusNoContent)
		w.WriteHeader(http.StatusOK)
		_, err = io.WriteString(w, "no content")
		refusals <- err
		w.Header().Set("Sum", "1")
		w.Header().Set(http.TrailerPrefix+"Other", "2")
	})
	for range 2 {
		got := a.post(t, "k-1", "{}")
		require.Equal(t, http.StatusNoContent, got.StatusCode)
		require.Empty(t, got.Trailer)
	}
	require.ErrorIs(t, <-refusals, http.ErrNotSupported)
	require.ErrorIs(t, <-refusals, http.ErrNotSupported)
	require.ErrorIs(t, <-refusals, http.ErrBodyNotAllowed)
	require.Empty(t, refusals)
}

// What stands in front of the middleware keeps its headers, in a replay and in a problem
// too, and what the handler changes of them is in its own response alone.
func TestResponse_KeepsTheHeadersOfOtherMiddleware(t *testing.T) {
	t.Parallel()
	guard, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), atmostonce.Options{})
	require.NoError(t, err)
	once, err := httponce.New(guard, httponce.Options{Identity: httponce.Anyone})
	require.NoError(t, err)
	h := once(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Del("X-Powered-By")
		created(w, r)
	}))
	a := &api{Server: newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", r.Header.Get("X-Request-Id"))
		w.Header().Set("X-Powered-By", "us")
		h.ServeHTTP(w, r)
	}))}
	first, again := a.post(t, "k-1", "{}", set("X-Request-Id", "1")), a.post(t, "k-1", "{}", set("X-Request-Id", "2"))
	other := a.post(t, "k-1", "[]", set("X-Request-Id", "3"))
	other.requireProblem(t, http.StatusUnprocessableEntity, "key-reused")
	for i, got := range []answer{first, again, other} {
		require.Equal(t, strconv.Itoa(i+1), got.Header.Get("X-Request-Id"))
	}
	require.Empty(t, first.Header.Get("X-Powered-By"))
	require.Equal(t, "us", again.Header.Get("X-Powered-By"))
}
