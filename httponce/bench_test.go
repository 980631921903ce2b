package httponce_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/httponce"
	"github.com/atmostonce/atmostonce/store"
)

// BenchmarkMiddleware measures a request of 1 KiB over a store in memory, without the
// network.
func BenchmarkMiddleware(b *testing.B) {
	guard, err := atmostonce.New(store.NewMemory(store.MemoryOptions{MaxRecords: 1 << 30}), atmostonce.Options{})
	require.NoError(b, err)
	once, err := httponce.New(guard, httponce.Options{Identity: httponce.Anyone})
	require.NoError(b, err)
	bare := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		created(w, r)
	})
	body := strings.Repeat("x", 1024)
	sent := 0
	for name, c := range map[string]struct {
		handler http.Handler
		key     func() string
	}{
		"unguarded": {bare, func() string { return "k" }},
		"first":     {once(bare), func() string { sent++; return strconv.Itoa(sent) }},
		"replay":    {once(bare), func() string { return "k" }},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest(http.MethodPost, "/orders", strings.NewReader(body))
				r.Header.Set("Idempotency-Key", `"`+c.key()+`"`)
				w := httptest.NewRecorder()
				c.handler.ServeHTTP(w, r)
				if w.Code != http.StatusCreated {
					b.Fatal(w.Code)
				}
			}
		})
	}
}
