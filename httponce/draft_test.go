package httponce_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/httponce"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// The requirements on a resource of draft-ietf-httpapi-idempotency-key-header-07 of 15
// October 2025, by section. Those on clients, and those on what an owner publishes, are
// not the middleware's.
func TestDraft_IsFollowed(t *testing.T) {
	t.Parallel()
	for name, check := range map[string]func(*testing.T){
		"2.1 the value is a String of an Item": func(t *testing.T) {
			a := newAPI(t, httponce.Options{}, created)
			for _, malformed := range []string{"k-1", "", `"k-1`, `"k-1", "k-2"`, "1", ":aGk=:", `""`} {
				a.post(t, "", "{}", set("Idempotency-Key", malformed)).requireProblem(t, http.StatusBadRequest, "key-malformed")
			}
			a.post(t, "", "{}", set("Idempotency-Key", `"k-1"`, `"k-1"`)).requireProblem(t, http.StatusBadRequest, "key-malformed")
			require.Zero(t, a.runs.Load())
		},
		"2.1 parameters of the Item mean nothing": func(t *testing.T) {
			a := newAPI(t, httponce.Options{}, created)
			a.post(t, "k-1", "{}")
			require.Equal(t, "true", a.post(t, "", "{}", set("Idempotency-Key", `"k-1";p=1`)).Header.Get("Idempotent-Replayed"))
		},
		"2.2 a key is not reused with another payload": func(t *testing.T) {
			a := newAPI(t, httponce.Options{}, created)
			a.post(t, "k-1", `{"cents":1}`)
			a.post(t, "k-1", `{"cents":2}`).requireProblem(t, http.StatusUnprocessableEntity, "key-reused")
			require.EqualValues(t, 1, a.runs.Load())
		},
		"2.3 a key may expire": func(t *testing.T) {
			a := newAPIOver(t, store.NewMemory(store.MemoryOptions{}), atmostonce.Options{Lease: 30 * time.Millisecond},
				httponce.Options{Policy: once.Policy{TTL: 40 * time.Millisecond}}, created)
			a.post(t, "k-1", "{}")
			expired := time.After(50 * time.Millisecond)
			<-expired
			require.Empty(t, a.post(t, "k-1", "{}").Header.Get("Idempotent-Replayed"))
			require.EqualValues(t, 2, a.runs.Load())
		},
		"2.4 the fingerprint is of the whole payload": func(t *testing.T) {
			a := newAPI(t, httponce.Options{}, created)
			a.post(t, "k-1", `{"cents":1}`)
			for _, other := range []func(*http.Request){
				func(r *http.Request) { r.URL.RawQuery = "fast=1" },
				func(r *http.Request) { r.URL.Path = "/orders/8" },
				set("Content-Type", "text/plain"),
			} {
				a.post(t, "k-1", `{"cents":1}`, other).requireProblem(t, http.StatusUnprocessableEntity, "key-reused")
			}
			require.Equal(t, "true", a.post(t, "k-1", `{"cents":1}`, set("User-Agent", "another")).Header.Get("Idempotent-Replayed"))
		},
		"2.5.2 a policy is published": func(t *testing.T) {
			a := newAPI(t, httponce.Options{Documentation: "https://shop.example/docs/http.md"}, created)
			missing := a.post(t, "", "{}")
			missing.requireProblem(t, http.StatusBadRequest, "key-missing")
			require.Contains(t, missing.body, "https://shop.example/docs/http.md#key-missing")
			require.Equal(t, `<https://shop.example/docs/http.md>; rel="describedby"`, missing.Header.Get("Link"))
		},
		"2.6 the first request is processed normally": func(t *testing.T) {
			a := newAPI(t, httponce.Options{}, created)
			first := a.post(t, "k-1", "{}")
			require.Equal(t, http.StatusCreated, first.StatusCode)
			require.Equal(t, "order 42", first.body)
			require.Empty(t, first.Header.Get("Idempotent-Replayed"))
		},
		"2.6 a retry gets the result, of a success": func(t *testing.T) {
			requireReplay(t, newAPI(t, httponce.Options{}, created), http.StatusCreated)
		},
		"2.6 a retry gets the result, of an error": func(t *testing.T) {
			requireReplay(t, newAPI(t, httponce.Options{}, with(http.StatusPaymentRequired)), http.StatusPaymentRequired)
		},
		"2.6 and 2.7 a concurrent request is a conflict": func(t *testing.T) {
			began, release := make(chan struct{}), make(chan struct{})
			a := newAPI(t, httponce.Options{}, func(w http.ResponseWriter, r *http.Request) {
				close(began)
				<-release
				created(w, r)
			})
			first := a.attempt(a.request(t, "k-1", "{}"))
			<-began
			second := a.post(t, "k-1", "{}")
			close(release)
			require.Equal(t, http.StatusCreated, (<-first).StatusCode)
			second.requireProblem(t, http.StatusConflict, "in-flight")
			require.Equal(t, "1", second.Header.Get("Retry-After"))
			require.Equal(t, "true", a.post(t, "k-1", "{}").Header.Get("Idempotent-Replayed"), "no correction is required")
		},
		"2.7 a missing key is a bad request": func(t *testing.T) {
			a := newAPI(t, httponce.Options{}, created)
			a.post(t, "", "{}").requireProblem(t, http.StatusBadRequest, "key-missing")
			require.Zero(t, a.runs.Load())
		},
		"2.7 the answer to another payload links to the documentation": func(t *testing.T) {
			a := newAPI(t, httponce.Options{Documentation: "https://shop.example/docs/http.md"}, created)
			a.post(t, "k-1", "{}")
			other := a.post(t, "k-1", "[]")
			other.requireProblem(t, http.StatusUnprocessableEntity, "key-reused")
			require.Contains(t, other.body, "https://shop.example/docs/http.md#key-reused")
			require.Equal(t, "en", other.Header.Get("Content-Language"))
		},
		"2.7 a request that is not corrected fails again": func(t *testing.T) {
			a := newAPI(t, httponce.Options{}, created)
			a.post(t, "k-1", "{}")
			for range 2 {
				a.post(t, "", "{}").requireProblem(t, http.StatusBadRequest, "key-missing")
				a.post(t, "k-1", "[]").requireProblem(t, http.StatusUnprocessableEntity, "key-reused")
			}
			require.EqualValues(t, 1, a.runs.Load())
		},
		"5 keys are validated before anything is looked up": func(t *testing.T) {
			a := newAPI(t, httponce.Options{}, created)
			for _, key := range []string{`../../k`, `k/../../x`, `%2F`, `'; DROP TABLE--`, `a\\b\"c`, `*`, ` `, `k{1}`} {
				require.Equal(t, http.StatusCreated, a.post(t, key, "{}").StatusCode, key)
				require.Equal(t, "true", a.post(t, key, "{}").Header.Get("Idempotent-Replayed"), key)
			}
			require.EqualValues(t, 8, a.runs.Load())
		},
		"5 the key in the cache is composite": func(t *testing.T) {
			a := newAPI(t, httponce.Options{}, func(w http.ResponseWriter, r *http.Request) {
				_, _ = w.Write([]byte("for " + r.Header.Get("Account")))
			})
			for _, account := range []string{"ada", "bob", "ada/k-1"} {
				first := a.post(t, "k-1", "{}", set("Account", account))
				require.Equal(t, "for "+account, first.body)
				require.Empty(t, first.Header.Get("Idempotent-Replayed"))
				require.Equal(t, "for "+account, a.post(t, "k-1", "{}", set("Account", account)).body)
			}
			a.post(t, "k-1", "{}", set("Account", "ada"), func(r *http.Request) { r.URL.Path = "/refunds/7" })
			a.post(t, "k-1", "{}", set("Account", "ada"), func(r *http.Request) { r.Method = http.MethodPatch })
			require.EqualValues(t, 5, a.runs.Load(), "by caller, route and method")
		},
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); check(t) })
	}
}

// requireReplay asserts that a repeated request gets the response again, and runs nothing.
func requireReplay(t *testing.T, a *api, status int) {
	t.Helper()
	first := a.post(t, "k-1", "{}")
	require.Equal(t, status, first.StatusCode)
	for range 2 {
		again := a.post(t, "k-1", "{}")
		require.Equal(t, status, again.StatusCode)
		require.Equal(t, first.body, again.body)
		require.Equal(t, "true", again.Header.Get("Idempotent-Replayed"))
		for _, name := range []string{"Content-Type", "Location", "Content-Length"} {
			require.Equal(t, first.Header.Values(name), again.Header.Values(name))
		}
	}
	require.EqualValues(t, 1, a.runs.Load())
}
