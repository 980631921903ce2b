package store_test

import (
	"net"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

// startRedis starts a redis-server for the test alone and returns its address.
// config holds further arguments, for example "--maxmemory", "4mb".
func startRedis(tb testing.TB, config ...string) string {
	tb.Helper()
	path, err := exec.LookPath("redis-server")
	require.NoError(tb, err, "redis-server is not on PATH: apt-get install redis-server")
	// Another process can take the free port before the server does.
	for range 5 {
		if addr, ok := tryRedis(tb, path, config); ok {
			return addr
		}
	}
	require.FailNow(tb, "redis-server does not start")
	return ""
}

func tryRedis(tb testing.TB, path string, config []string) (addr string, ok bool) {
	tb.Helper()
	addr = freeAddr(tb)
	host, port, err := net.SplitHostPort(addr)
	require.NoError(tb, err)
	args := append([]string{
		"--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--dir", tb.TempDir(),
	}, config...)
	cmd := exec.Command(path, args...)
	require.NoError(tb, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	for !answers(tb, addr, cmd.Process.Pid) {
		select {
		case <-ended:
			return "", false
		case <-tb.Context().Done():
			return "", false
		case <-time.After(5 * time.Millisecond):
		}
	}
	return addr, true
}

// answers reports whether the server of that process listens on addr.
func answers(tb testing.TB, addr string, pid int) bool {
	tb.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	_ = conn.Close()
	probe := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	defer func() { _ = probe.Close() }()
	info, err := probe.InfoMap(tb.Context(), "server").Result()
	return redis.HasErrorPrefix(err, "NOAUTH") || err == nil && info["Server"]["process_id"] == strconv.Itoa(pid)
}

func freeAddr(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// dialRedis returns a client of the server at addr, which change may alter.
func dialRedis(tb testing.TB, addr string, change ...func(*redis.Options)) *redis.Client {
	tb.Helper()
	o := &redis.Options{Addr: addr}
	for _, f := range change {
		f(o)
	}
	client := redis.NewClient(o)
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

func newRedis(tb testing.TB, client redis.UniversalClient) *store.Redis {
	tb.Helper()
	s, err := store.NewRedis(client, store.RedisOptions{})
	require.NoError(tb, err)
	return s
}
