package page_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/page"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

// BenchmarkPage measures the pages of a store with 100,000 records, of which 5,000 are in
// doubt, 500 running and 500 pending.
func BenchmarkPage(b *testing.B) {
	b.Run("memory", func(b *testing.B) { benchmark(b, newMemory()) })
	b.Run("file", func(b *testing.B) {
		s, err := store.NewFile(b.TempDir(), store.FileOptions{})
		require.NoError(b, err)
		b.Cleanup(func() { _ = s.Close() })
		benchmark(b, s)
	})
	b.Run("redis", func(b *testing.B) {
		client := redis.NewClient(&redis.Options{Addr: startRedis(b), ContextTimeoutEnabled: true})
		b.Cleanup(func() { _ = client.Close() })
		s, err := redisstore.New(client, redisstore.Options{})
		require.NoError(b, err)
		benchmark(b, s)
	})
}

func benchmark(b *testing.B, s store.Store) {
	b.Helper()
	const records, writers = 100_000, 256
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := w; i < records; i += writers {
				to := store.Succeeded
				switch {
				case i%20 == 0:
					to = store.InDoubt
				case i%200 == 1:
					to = store.Running
				case i%200 == 2:
					to = store.Pending
				}
				put(b, s, bid(numbered(i)), to)
			}
		})
	}
	all.Wait()
	h := newPage(b, s, page.Options{Timeout: time.Minute})
	digest := keys.Downstream(numbered(0))
	for _, p := range []struct{ name, path string }{
		{"first", "/"}, {"in_doubt", "/?state=in_doubt"}, {"record", "/" + digest}, {"short_digest", "/" + digest[:16]}, {"settled", "/?state=settled"},
	} {
		b.Run(p.name, func(b *testing.B) {
			r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "http://ops.example"+p.path, nil)
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				require.Less(b, w.Code, http.StatusBadRequest)
			}
			b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "ms/page")
		})
	}
}

// startRedis starts a redis-server for the benchmark alone and returns its address.
func startRedis(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	address := l.Addr().String()
	require.NoError(b, l.Close())
	host, port, err := net.SplitHostPort(address)
	require.NoError(b, err)
	cmd := exec.CommandContext(b.Context(), "redis-server", "--bind", host, "--port", port, "--dir", b.TempDir(), "--save", "", "--appendonly", "no")
	require.NoError(b, cmd.Start())
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	require.Eventually(b, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, 10*time.Second, 5*time.Millisecond)
	return address
}
