package httponce_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/httponce"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

func TestNew_ReportsAllThatIsWrong(t *testing.T) {
	t.Parallel()
	guard, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), atmostonce.Options{})
	require.NoError(t, err)
	_, err = httponce.New(nil, httponce.Options{
		Methods: []string{"GET", ""}, Headers: []string{"set-cookie", "date", "connection"}, MaxRequest: -1, Documentation: "/docs#x",
		Policy: once.Policy{Key: keys.Hash(), OnDuplicate: once.Reject, InDoubt: once.Resume, TTL: 1},
	})
	for _, want := range []string{
		"Identity", `"GET"`, `""`, "Set-Cookie", "Date", "Connection", "MaxRequest", "Documentation", "Key and Scope", "Reject", "Resume", "TTL", "guard is nil",
	} {
		require.ErrorContains(t, err, want)
	}
	_, err = httponce.New(guard, httponce.Options{Identity: httponce.Anyone, Policy: once.Policy{
		InDoubt: once.Reconcile(func(context.Context, int) (string, error) { return "", nil }), Match: keys.From(func(int) string { return "" }),
	}})
	require.ErrorContains(t, err, "Reconcile")
	require.ErrorContains(t, err, "Match")
	atmostonce.Func(guard, "http", once.Policy{}, func(context.Context, int) (int, error) { return 0, nil })
	_, err = httponce.New(guard, httponce.Options{Identity: httponce.Anyone})
	require.ErrorContains(t, err, "stands for a function")
}

func TestMiddleware_LetsOtherMethodsThrough(t *testing.T) {
	t.Parallel()
	a := newAPI(t, httponce.Options{}, func(w http.ResponseWriter, r *http.Request) {
		if _, ok := w.(http.Flusher); !ok || once.Key(r.Context()) != "" {
			w.WriteHeader(http.StatusTeapot)
		}
	})
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete} {
		for range 2 {
			require.Equal(t, http.StatusOK, a.post(t, "k-1", "", func(r *http.Request) { r.Method = method }).StatusCode)
		}
	}
	require.EqualValues(t, 10, a.runs.Load())
}

func TestMiddleware_GuardsTheMethodsThatItIsGiven(t *testing.T) {
	t.Parallel()
	a := newAPI(t, httponce.Options{Methods: []string{http.MethodDelete}}, created)
	a.post(t, "", "{}")
	for range 2 {
		a.post(t, "k-1", "", func(r *http.Request) { r.Method = http.MethodDelete })
	}
	require.EqualValues(t, 2, a.runs.Load())
}

func TestMiddleware_LetsARequestWithoutAKeyThroughWhereItMay(t *testing.T) {
	t.Parallel()
	a := newAPI(t, httponce.Options{KeyOptional: true}, created)
	require.Equal(t, http.StatusCreated, a.post(t, "", "{}", set("Account", "none")).StatusCode)
	a.post(t, "", "{}", set("Idempotency-Key", "")).requireProblem(t, http.StatusBadRequest, "key-malformed")
	require.EqualValues(t, 1, a.runs.Load())
}

func TestMiddleware_TakesUnquotedKeysWhereItMay(t *testing.T) {
	t.Parallel()
	a := newAPI(t, httponce.Options{Unquoted: true}, created)
	a.post(t, "k-1", "{}")
	require.Equal(t, "true", a.post(t, "", "{}", set("Idempotency-Key", "k-1")).Header.Get("Idempotent-Replayed"))
}

func TestMiddleware_RefusesACallerWithoutIdentity(t *testing.T) {
	t.Parallel()
	a := newAPI(t, httponce.Options{}, created)
	a.post(t, "k-1", "{}", set("Account", "none")).requireProblem(t, http.StatusForbidden, "caller-unknown")
	empty := newAPI(t, httponce.Options{Identity: func(*http.Request) (string, error) { return "", nil }}, created)
	empty.post(t, "k-1", "{}").requireProblem(t, http.StatusForbidden, "caller-unknown")
	require.Zero(t, a.runs.Load()+empty.runs.Load())
}

func TestMiddleware_GivesAnyoneOneResponse(t *testing.T) {
	t.Parallel()
	a := newAPI(t, httponce.Options{Identity: httponce.Anyone}, created)
	a.post(t, "k-1", "{}", set("Account", "ada"))
	require.Equal(t, "true", a.post(t, "k-1", "{}", set("Account", "bob")).Header.Get("Idempotent-Replayed"))
}

// Parts of a key that are joined must not run into each other.
func TestMiddleware_SeparatesCallersWhateverTheyAreCalled(t *testing.T) {
	t.Parallel()
	a := newAPI(t, httponce.Options{Identity: func(r *http.Request) (string, error) { return r.Header.Get("Account"), nil }}, created)
	for _, c := range [][2]string{{"a", "b/c"}, {"a/b", "c"}, {"a%2Fb", "c"}, {"a", "b%2Fc"}, {"A", "b/c"}, {"a", "b/c/"}} {
		require.Empty(t, a.post(t, c[1], "{}", set("Account", c[0])).Header.Get("Idempotent-Replayed"), c)
	}
}

func TestMiddleware_GivesTheHandlerBodyAndKey(t *testing.T) {
	t.Parallel()
	type seen struct {
		body, shop, key string
		length          int64
	}
	all := make(chan seen, 4)
	a := newAPI(t, httponce.Options{}, func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			all <- seen{string(body), r.PathValue("shop"), once.Key(r.Context()), r.ContentLength}
		}
	})
	a.post(t, "k-1", `{"cents":1}`)
	a.send(t, a.request(t, "k-2", `{"cents":1}`, func(r *http.Request) { r.ContentLength = -1 }))
	a.post(t, "k-3", "")
	first, second, third := <-all, <-all, <-all
	require.Len(t, first.key, 64)
	require.NotEqual(t, first.key, second.key)
	require.Equal(t, seen{`{"cents":1}`, "7", first.key, 11}, first)
	require.Equal(t, seen{`{"cents":1}`, "7", second.key, 11}, second)
	require.Equal(t, seen{"", "7", third.key, 0}, third)
}

func TestMiddleware_ReplaysByteForByteAfterARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	binary := make([]byte, 0, 1<<16)
	for i := range 1 << 16 {
		binary = append(binary, byte(i*i>>3))
	}
	handler := func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Link"] = []string{"</a>; rel=a", "</b>; rel=b"}
		w.Header().Set("Etag", `"ü"`)
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write(binary)
	}
	var first answer
	for restart := range 3 {
		s, err := store.NewFile(dir, store.FileOptions{AnyFileSystem: true})
		require.NoError(t, err)
		a := newAPIOver(t, s, atmostonce.Options{}, httponce.Options{}, handler)
		got := a.post(t, "k-1", "{}")
		if restart == 0 {
			first = got
			require.Equal(t, string(binary), got.body)
		} else {
			require.Zero(t, a.runs.Load())
			require.Equal(t, "true", got.Header.Get("Idempotent-Replayed"))
			got.Header.Del("Idempotent-Replayed")
			for _, h := range []http.Header{got.Header, first.Header} {
				h.Del("Date")
			}
			require.Equal(t, first.Header, got.Header)
			require.Equal(t, first.StatusCode, got.StatusCode)
			require.Equal(t, first.body, got.body)
		}
		a.Close()
		require.NoError(t, a.guard.Close(t.Context()))
		require.NoError(t, s.Close())
	}
}

// What a policy does not say comes from the guard, but how duplicates are answered is
// part of the middleware.
func TestMiddleware_TakesTheGuardsDefaultsForTimeAndDoubt(t *testing.T) {
	t.Parallel()
	a := newAPIOver(t, store.NewMemory(store.MemoryOptions{}),
		atmostonce.Options{Defaults: once.Policy{OnDuplicate: once.Reject, OnFailure: once.Unlock, InDoubt: once.Fail}},
		httponce.Options{}, func(w http.ResponseWriter, r *http.Request) {
			status, _ := strconv.Atoi(r.Header.Get("Status"))
			w.WriteHeader(status)
		})
	for _, status := range []string{"200", "404"} {
		a.post(t, "k-"+status, "{}", set("Status", status))
		require.Equal(t, "true", a.post(t, "k-"+status, "{}", set("Status", status)).Header.Get("Idempotent-Replayed"))
	}
	a.post(t, "k-1", "{}", set("Status", "500"))
	doubt := a.post(t, "k-1", "{}", set("Status", "500"))
	doubt.requireProblem(t, http.StatusServiceUnavailable, "in-doubt")
	require.EqualValues(t, 3, a.runs.Load())
}

// downStore gives no answer.
type downStore struct{ *store.Memory }

func (downStore) Acquire(context.Context, store.Bid) (store.Record, error) {
	return store.Record{}, errors.New("secret: no route to the store")
}

func TestMiddleware_RunsNothingWhileTheStoreIsDown(t *testing.T) {
	t.Parallel()
	a := newAPIOver(t, downStore{store.NewMemory(store.MemoryOptions{})}, atmostonce.Options{}, httponce.Options{}, created)
	got := a.post(t, "k-1", "{}")
	got.requireProblem(t, http.StatusServiceUnavailable, "unavailable")
	require.Regexp(t, `^[1-9]\d*$`, got.Header.Get("Retry-After"))
	require.Zero(t, a.runs.Load())
}

func TestMiddleware_RunsNothingAfterClose(t *testing.T) {
	t.Parallel()
	a := newAPI(t, httponce.Options{}, created)
	require.NoError(t, a.guard.Close(t.Context()))
	got := a.post(t, "k-1", "{}")
	got.requireProblem(t, http.StatusServiceUnavailable, "unavailable")
	require.Regexp(t, `^[1-9]\d*$`, got.Header.Get("Retry-After"), "another server may answer")
	require.Zero(t, a.runs.Load())
}

func TestMiddleware_SpeaksOldHTTP(t *testing.T) {
	t.Parallel()
	a := newAPI(t, httponce.Options{}, created)
	require.Equal(t, 2, a.post(t, "k-1", "{}").ProtoMajor)
	transport, is := a.Client().Transport.(*http.Transport)
	require.True(t, is)
	transport.CloseIdleConnections()
	transport = transport.Clone()
	transport.ForceAttemptHTTP2, transport.TLSNextProto = false, nil
	transport.TLSClientConfig.NextProtos = []string{"http/1.1"}
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetHTTP1(true)
	a.Client().Transport = transport
	defer transport.CloseIdleConnections()
	got := a.post(t, "k-1", "{}")
	require.Equal(t, 1, got.ProtoMajor)
	require.Equal(t, "true", got.Header.Get("Idempotent-Replayed"))
	a.post(t, "k-2", "{}")
	require.EqualValues(t, 2, a.runs.Load())
}

func TestMiddleware_TakesThePathWhereThereIsNoPattern(t *testing.T) {
	t.Parallel()
	guard, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), atmostonce.Options{})
	require.NoError(t, err)
	once, err := httponce.New(guard, httponce.Options{Identity: httponce.Anyone})
	require.NoError(t, err)
	a := &api{Server: newServer(t, once(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) })))}
	for _, path := range []string{"/orders/7", "/orders/8"} {
		require.Equal(t, path, a.post(t, "k-1", "{}", func(r *http.Request) { r.URL.Path = path }).body)
	}
	require.Equal(t, "true", a.post(t, "k-1", "{}").Header.Get("Idempotent-Replayed"))
}

func TestMiddleware_MatchesWhatThePolicySays(t *testing.T) {
	t.Parallel()
	a := newAPI(t, httponce.Options{Policy: once.Policy{Match: keys.From(func(r httponce.Request) string {
		return r.HTTP.Header.Get("Content-Type") + r.Key + r.Identity + string(r.Body[:1])
	})}}, created)
	a.post(t, "k-1", "{1}")
	require.Equal(t, "true", a.post(t, "k-1", "{2}").Header.Get("Idempotent-Replayed"))
	a.post(t, "k-1", "[2]").requireProblem(t, http.StatusUnprocessableEntity, "key-reused")
}

func TestMiddleware_ObservesWhereTheGuardDoes(t *testing.T) {
	t.Parallel()
	for _, mode := range []once.Mode{once.Observe, once.Off} {
		a := newAPIOver(t, store.NewMemory(store.MemoryOptions{}), atmostonce.Options{Mode: func(string) once.Mode { return mode }},
			httponce.Options{}, with(http.StatusInternalServerError))
		for range 2 {
			got := a.post(t, "k-1", "{}")
			require.Equal(t, http.StatusInternalServerError, got.StatusCode)
			require.Equal(t, "the handler says so\n", got.body)
		}
		require.EqualValues(t, 2, a.runs.Load())
	}
}
