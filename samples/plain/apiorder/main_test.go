package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/store"
)

func TestAPI_AnswersAKeyOnceForEachCustomer(t *testing.T) {
	t.Parallel()
	guard, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), atmostonce.Options{})
	require.NoError(t, err)
	handler, err := api(guard, &orders{})
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	order := func(customer, key, body string) (int, string) {
		req, err := http.NewRequest(http.MethodPost, server.URL+"/orders", strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("X-Customer", customer)
		req.Header.Set("Idempotency-Key", `"`+key+`"`)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, strings.TrimSpace(string(answer))
	}
	for range 2 {
		status, answer := order("ann", "k1", `{"Item": "lamp"}`)
		require.Equal(t, http.StatusCreated, status)
		require.JSONEq(t, `{"Order": 1, "Item": "lamp"}`, answer)
	}
	status, _ := order("ann", "k1", `{"Item": "table"}`)
	require.Equal(t, http.StatusUnprocessableEntity, status)
	status, answer := order("bob", "k1", `{"Item": "lamp"}`)
	require.Equal(t, http.StatusCreated, status)
	require.JSONEq(t, `{"Order": 2, "Item": "lamp"}`, answer, "another customer's key")
}
