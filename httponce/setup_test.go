package httponce_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/httponce"
	"github.com/atmostonce/atmostonce/store"
)

// api is a server whose handler is guarded under the pattern "POST /orders/{shop}", and
// unguarded under none.
type api struct {
	*httptest.Server
	guard *atmostonce.Guard
	runs  atomic.Int32 // of the handler
}

// byAccount takes the caller from a header, as if something had checked it.
func byAccount(r *http.Request) (string, error) {
	if r.Header.Get("Account") == "none" {
		return "", errors.New("no session for the secret token")
	}
	return "account " + r.Header.Get("Account"), nil
}

func newAPI(t *testing.T, o httponce.Options, handler http.HandlerFunc) *api {
	t.Helper()
	return newAPIOver(t, store.NewMemory(store.MemoryOptions{}), atmostonce.Options{}, o, handler)
}

func newAPIOver(t *testing.T, s store.Store, of atmostonce.Options, o httponce.Options, handler http.HandlerFunc) *api {
	t.Helper()
	guard, err := atmostonce.New(s, of)
	require.NoError(t, err)
	a := &api{guard: guard}
	if o.Identity == nil {
		o.Identity = byAccount
	}
	once, err := httponce.New(guard, o)
	require.NoError(t, err)
	h := once(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.runs.Add(1)
		handler(w, r)
	}))
	mux := http.NewServeMux()
	mux.Handle("/orders/{shop}", h)
	mux.Handle("/refunds/{shop}", h)
	a.Server = httptest.NewUnstartedServer(mux)
	a.EnableHTTP2 = true
	a.StartTLS()
	t.Cleanup(func() {
		a.Close()
		require.NoError(t, guard.Close(context.Background()))
	})
	return a
}

// created is a handler whose effect has happened.
func created(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Location", "/orders/42")
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, "order 42")
}

// with is a handler that answers so.
func with(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "the handler says so", status) }
}

// answer is a response that has been read.
type answer struct {
	*http.Response
	body string
}

// request is a POST to one shop with a key in quotes, which edit may change.
func (a *api) request(t *testing.T, key, body string, edit ...func(*http.Request)) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.URL+"/orders/7", strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	if key != "" {
		r.Header.Set("Idempotency-Key", `"`+key+`"`)
	}
	for _, e := range edit {
		e(r)
	}
	return r
}

func (a *api) send(t *testing.T, r *http.Request) answer {
	t.Helper()
	got := <-a.attempt(r)
	require.NoError(t, got.err)
	return got.answer
}

func (a *api) post(t *testing.T, key, body string, edit ...func(*http.Request)) answer {
	t.Helper()
	return a.send(t, a.request(t, key, body, edit...))
}

// attempted is what came of a request.
type attempted struct {
	answer
	err error
}

// attempt sends r, and later what came of it.
func (a *api) attempt(r *http.Request) <-chan attempted {
	ended := make(chan attempted, 1)
	go func() {
		response, err := a.Client().Do(r)
		if err != nil {
			ended <- attempted{err: err}
			return
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		ended <- attempted{answer{response, string(body)}, err}
	}()
	return ended
}

// set changes a header of a request; without a value it removes it.
func set(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = values }
}

// requireProblem asserts that a is the problem of that type, and reveals no input.
func (a answer) requireProblem(t *testing.T, status int, fragment string) {
	t.Helper()
	require.Equal(t, status, a.StatusCode, a.body)
	require.Equal(t, "application/problem+json", a.Header.Get("Content-Type"))
	require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
	var p struct {
		Type, Title, Detail string
		Status              int
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &p))
	require.Equal(t, status, p.Status)
	require.True(t, strings.HasSuffix(p.Type, "/docs/http.md#"+fragment), p.Type)
	require.NotEmpty(t, p.Title)
	require.NotEmpty(t, p.Detail)
	for _, input := range []string{"k-1", "cents", "account", "orders", "secret"} {
		require.NotContains(t, a.body, input)
	}
	require.Empty(t, a.Header.Get("Idempotent-Replayed"))
	require.Contains(t, a.Header.Get("Link"), `rel="describedby"`)
}

// newServer returns a server of h.
func newServer(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}
