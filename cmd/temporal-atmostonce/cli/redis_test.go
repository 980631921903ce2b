package cli

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

// startRedis starts a redis-server for the test alone, and returns its address.
func startRedis(t *testing.T) string {
	t.Helper()
	for range 5 { // another process can take the free port before the server does
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		address := l.Addr().String()
		require.NoError(t, l.Close())
		_, port, err := net.SplitHostPort(address)
		require.NoError(t, err)
		cmd := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", t.TempDir(), "--maxmemory-policy", "noeviction")
		require.NoError(t, cmd.Start())
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait()
			close(ended)
		}()
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			<-ended
		})
		if answers(t, address, cmd.Process.Pid, ended) {
			return address
		}
	}
	require.FailNow(t, "redis-server does not start")
	return ""
}

func answers(t *testing.T, address string, pid int, ended chan struct{}) bool {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: address, MaxRetries: -1})
	defer client.Close()
	for {
		info, err := client.Info(context.Background(), "server").Result()
		if err == nil {
			return strings.Contains(info, fmt.Sprintf("process_id:%d\r", pid))
		}
		select {
		case <-ended:
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// A list keeps nothing of what it has listed: of a hundred thousand records it needs as
// much memory as of a thousand.
func TestList_NeedsNoMoreMemoryForMoreRecords(t *testing.T) {
	t.Parallel()
	address := startRedis(t)
	client := redis.NewClient(&redis.Options{Addr: address})
	defer client.Close()
	s, err := redisstore.New(client, redisstore.Options{})
	require.NoError(t, err)
	fill := func(from, to int) {
		var all sync.WaitGroup
		const hands = 64
		for hand := range hands {
			all.Go(func() {
				for i := from + hand; i < to; i += hands {
					b := bidOf(fmt.Sprint(i))
					r, err := s.Acquire(context.Background(), b)
					b.Fence = r.Fence
					if err == nil && i%2 == 0 {
						_, err = s.Settle(context.Background(), b, store.Outcome{State: store.InDoubt})
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
	}
	memory := func(n int, args ...string) int {
		cmd := exec.CommandContext(t.Context(), binary, args...)
		cmd.Env = []string{"ATMOSTONCE_STORE=redis://" + address, "GOGC=50"}
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines, most := 0, 0
		for scanner := bufio.NewScanner(out); scanner.Scan(); lines++ {
			if lines%100 == 0 {
				most = max(most, highWater(cmd.Process.Pid))
			}
		}
		require.NoError(t, cmd.Wait())
		require.GreaterOrEqual(t, lines, n)
		require.NotZero(t, most)
		return most
	}
	fill(0, 1000)
	list, export := []string{"list", "--limit", "0", "-o", "jsonl"}, []string{"export"}
	small, smallExport := memory(1000, list...), memory(1000, export...)
	fill(1000, 100_000)
	large, largeExport := memory(100_000, list...), memory(100_000, export...)
	t.Logf("list: %d MB and %d MB; export: %d MB and %d MB", small, large, smallExport, largeExport)
	require.Less(t, large, small+24)
	require.Less(t, largeExport, smallExport+24)
}

// highWater returns the most memory that a process has had, in MB; 0 once it has ended. Its
// Rusage would count what this process had when it forked.
func highWater(pid int) (mb int) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	_, _ = fmt.Sscan(rest, &mb) // in kB
	return mb / 1024
}

func TestDoctor_LooksAtARedis(t *testing.T) {
	t.Parallel()
	address := startRedis(t)
	env := []string{"ATMOSTONCE_STORE=redis://" + address}
	r := tooled(t, env, "doctor", "--reindex")
	require.Zero(t, r.code, r.err)
	for _, says := range []string{"ok       store", "Redis ", "the append-only file is off", "no replica", "clock", "every record was looked at"} {
		require.Contains(t, r.out, says)
	}
	client := redis.NewClient(&redis.Options{Addr: address})
	defer client.Close()
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err())
	r = tooled(t, env, "doctor", "-o", "jsonl")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.out, `{"level":"bad","about":"store"`)
	require.Contains(t, r.out, "evict")
}
