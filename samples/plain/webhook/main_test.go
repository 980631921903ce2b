package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/store"
)

func TestWebhook_ChargesAnEventOnce(t *testing.T) {
	t.Parallel()
	records, err := store.NewFile(t.TempDir(), store.FileOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, records.Close()) })
	guard, err := atmostonce.New(records, atmostonce.Options{})
	require.NoError(t, err)
	var c charges
	server := httptest.NewServer(webhook(guard, &c))
	t.Cleanup(server.Close)
	require.NoError(t, guard.Err())
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			resp, err := http.Post(server.URL, "application/json", strings.NewReader(`{"ID": "evt-1", "Cents": 1200}`))
			require.NoError(t, err)
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, "ch_1 for evt-1\n", string(body))
		})
	}
	all.Wait()
	resp, err := http.Post(server.URL, "application/json", strings.NewReader(`{"ID": "evt-1", "Cents": 1300}`))
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusUnprocessableEntity, resp.StatusCode, "the same event with another amount")
	require.EqualValues(t, 1, c.n.Load())
}

func TestWebhook_ChargesForASenderThatHangsUp(t *testing.T) {
	t.Parallel()
	guard, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), atmostonce.Options{})
	require.NoError(t, err)
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	answer := httptest.NewRecorder()
	webhook(guard, &charges{})(answer, httptest.NewRequestWithContext(gone, http.MethodPost, "/events", strings.NewReader(`{"ID": "evt-1", "Cents": 1200}`)))
	require.Equal(t, "ch_1 for evt-1\n", answer.Body.String())
}
