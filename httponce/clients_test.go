package httponce_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/httponce"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

func TestMiddleware_RunsOnceForFiftyClients(t *testing.T) {
	t.Parallel()
	for _, p := range []once.Policy{{}, {OnDuplicate: once.Wait}} {
		a := newAPI(t, httponce.Options{Policy: p}, created)
		var all sync.WaitGroup
		answers := make(chan answer, 50)
		for range 50 {
			all.Go(func() { answers <- a.post(t, "k-1", "{}") })
		}
		all.Wait()
		close(answers)
		fresh := 0
		for got := range answers {
			switch {
			case got.StatusCode == http.StatusConflict && p.OnDuplicate != once.Wait:
				got.requireProblem(t, http.StatusConflict, "in-flight")
			default:
				require.Equal(t, http.StatusCreated, got.StatusCode)
				require.Equal(t, "order 42", got.body)
				if got.Header.Get("Idempotent-Replayed") == "" {
					fresh++
				}
			}
		}
		require.Equal(t, 1, fresh)
		require.EqualValues(t, 1, a.runs.Load())
	}
}

func TestMiddleware_LetsTheHandlerFinishForAClientThatHasGone(t *testing.T) {
	t.Parallel()
	began, release := make(chan struct{}), make(chan struct{})
	gone := make(chan error, 1)
	a := newAPI(t, httponce.Options{}, func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-release
		gone <- r.Context().Err()
		created(w, r)
	})
	ctx, leave := context.WithCancel(t.Context())
	left := a.attempt(a.request(t, "k-1", "{}").WithContext(ctx))
	<-began
	leave()
	require.ErrorIs(t, (<-left).err, context.Canceled)
	a.post(t, "k-1", "{}").requireProblem(t, http.StatusConflict, "in-flight")
	close(release)
	require.NoError(t, <-gone, "its context goes on")
	require.Eventually(t, func() bool { return a.post(t, "k-1", "{}").StatusCode == http.StatusCreated }, 10*time.Second, 5*time.Millisecond)
	require.EqualValues(t, 1, a.runs.Load())
}

// What stands in front may give up, as http.TimeoutHandler does: to the handler it is as
// if the client had gone.
func TestMiddleware_LetsTheHandlerFinishBehindATimeout(t *testing.T) {
	t.Parallel()
	guard, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), atmostonce.Options{})
	require.NoError(t, err)
	once, err := httponce.New(guard, httponce.Options{Identity: httponce.Anyone})
	require.NoError(t, err)
	release := make(chan struct{})
	ended := make(chan error, 1)
	h := once(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-release
		ended <- r.Context().Err()
		created(w, r)
	}))
	a := &api{Server: newServer(t, http.TimeoutHandler(h, 20*time.Millisecond, "too late"))}
	got := a.post(t, "k-1", "{}")
	require.Equal(t, "too late", got.body)
	close(release)
	require.NoError(t, <-ended)
	require.Eventually(t, func() bool { return a.post(t, "k-1", "{}").Header.Get("Idempotent-Replayed") == "true" }, 10*time.Second, 5*time.Millisecond)
}

func TestMiddleware_StopsWaitingForAClientThatHasGone(t *testing.T) {
	t.Parallel()
	began, release := make(chan struct{}), make(chan struct{})
	arrived, ended := make(chan struct{}, 2), make(chan struct{}, 2)
	guard, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), atmostonce.Options{})
	require.NoError(t, err)
	once, err := httponce.New(guard, httponce.Options{Identity: httponce.Anyone, Policy: once.Policy{OnDuplicate: once.Wait}})
	require.NoError(t, err)
	h := once(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-release
		created(w, r)
	}))
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		h.ServeHTTP(w, r)
		ended <- struct{}{}
	}))
	a := &api{Server: s}
	first := a.attempt(a.request(t, "k-1", "{}"))
	<-began
	<-arrived
	ctx, leave := context.WithCancel(t.Context())
	second := a.attempt(a.request(t, "k-1", "{}").WithContext(ctx))
	<-arrived
	leave()
	<-ended // while the first one runs
	close(release)
	require.NoError(t, (<-first).err)
	require.ErrorIs(t, (<-second).err, context.Canceled)
}

func TestMiddleware_BoundsTheRequest(t *testing.T) {
	t.Parallel()
	a := newAPI(t, httponce.Options{MaxRequest: 10}, created)
	chunked := func(r *http.Request) { r.ContentLength = -1 }
	a.post(t, "k-1", strings.Repeat("x", 11)).requireProblem(t, http.StatusRequestEntityTooLarge, "request-too-large")
	a.post(t, "k-1", strings.Repeat("x", 1<<20), chunked).requireProblem(t, http.StatusRequestEntityTooLarge, "request-too-large")
	require.Zero(t, a.runs.Load())
	require.Equal(t, http.StatusCreated, a.post(t, "k-1", strings.Repeat("x", 10)).StatusCode)
	require.Equal(t, http.StatusCreated, a.post(t, "k-2", strings.Repeat("x", 10), chunked).StatusCode)
}

func TestMiddleware_TakesNoKeyBeforeTheBodyIsThere(t *testing.T) {
	t.Parallel()
	a := newAPI(t, httponce.Options{}, created)
	slow, end := io.Pipe()
	r := a.request(t, "k-1", "")
	r.Body, r.ContentLength = slow, -1
	first := a.attempt(r)
	_, err := io.WriteString(end, "{")
	require.NoError(t, err)
	require.Empty(t, a.post(t, "k-1", "{}").Header.Get("Idempotent-Replayed"))
	_, err = io.WriteString(end, "}")
	require.NoError(t, err)
	require.NoError(t, end.Close())
	require.Equal(t, "true", (<-first).Header.Get("Idempotent-Replayed"))
	require.EqualValues(t, 1, a.runs.Load())
}

func TestMiddleware_RunsNothingForHalfABody(t *testing.T) {
	t.Parallel()
	a := newAPI(t, httponce.Options{}, created)
	r := a.request(t, "k-1", "")
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), iotest.ErrReader(errors.New("secret: the client breaks off"))))
	w := httptest.NewRecorder()
	a.Config.Handler.ServeHTTP(w, r)
	answer{w.Result(), w.Body.String()}.requireProblem(t, http.StatusBadRequest, "body-incomplete")
	require.Empty(t, a.post(t, "k-1", "{}").Header.Get("Idempotent-Replayed"))
	require.EqualValues(t, 1, a.runs.Load())
}
