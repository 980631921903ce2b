package redisstore_test

import (
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store/redisstore"
)

// startRedis starts a redis-server for the test alone and returns its address.
// config holds further arguments, for example "--maxmemory", "4mb".
func startRedis(tb testing.TB, config ...string) string {
	tb.Helper()
	return startServer(tb, config...).addr
}

// redisServer is a redis-server process of one test, which ends it.
type redisServer struct {
	tb    testing.TB
	addr  string
	pid   int
	dir   string
	args  []string
	cmd   *exec.Cmd
	ended chan struct{}
}

// startServer starts a redis-server that serves. config holds further arguments.
func startServer(tb testing.TB, config ...string) *redisServer {
	tb.Helper()
	s := startServerAs(tb, func(addr, dir string) []string {
		host, port, err := net.SplitHostPort(addr)
		require.NoError(tb, err)
		return append([]string{
			"--bind", host, "--port", port, "--dir", dir, "--logfile", "log", "--save", "", "--appendonly", "no",
			"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1",
		}, config...)
	})
	s.waitLoaded()
	return s
}

// startServerAs starts a redis-server, or a sentinel, with the arguments that args returns for a
// free address and a directory of its own.
func startServerAs(tb testing.TB, args func(addr, dir string) []string) *redisServer {
	tb.Helper()
	if testing.Short() {
		tb.Skip("needs redis-server")
	}
	// Another process can take the free port before the server does.
	for range 5 {
		s := &redisServer{tb: tb, addr: freeAddr(tb), dir: tb.TempDir()}
		s.args = args(s.addr, s.dir)
		tb.Cleanup(s.kill)
		if s.launch() {
			return s
		}
	}
	require.FailNow(tb, "redis-server does not start")
	return nil
}

// startReplica starts a replica of master and waits until it has its data.
func startReplica(tb testing.TB, master *redisServer, config ...string) *redisServer {
	tb.Helper()
	host, port, err := net.SplitHostPort(master.addr)
	require.NoError(tb, err)
	s := startServer(tb, append([]string{"--replicaof", host, port}, config...)...)
	s.waitInfo("replication", "master_link_status", "up")
	return s
}

// launch starts the process and waits until it listens; it may still be loading
// its data. It reports false if the process ended.
func (s *redisServer) launch() bool {
	s.tb.Helper()
	path, err := exec.LookPath("redis-server")
	require.NoError(s.tb, err, "redis-server is not on PATH: apt-get install redis-server")
	cmd, ended := exec.Command(path, s.args...), make(chan struct{})
	cmd.SysProcAttr = childAttr
	require.NoError(s.tb, cmd.Start())
	s.cmd, s.pid, s.ended = cmd, cmd.Process.Pid, ended
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	for !s.answers() {
		select {
		case <-ended:
			return false
		case <-s.tb.Context().Done():
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
	return true
}

// answers reports whether it is this process that listens on addr.
func (s *redisServer) answers() bool {
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		return false
	}
	_ = conn.Close()
	id, err := s.info("server", "process_id")
	return redis.HasErrorPrefix(err, "NOAUTH") || err == nil && id == strconv.Itoa(s.pid)
}

// info returns one field of INFO, which a server answers while it loads, too.
func (s *redisServer) info(section, field string) (string, error) {
	probe := redis.NewClient(&redis.Options{Addr: s.addr, MaxRetries: -1})
	defer func() { _ = probe.Close() }()
	info, err := probe.InfoMap(s.tb.Context(), section).Result()
	for _, fields := range info {
		if value, ok := fields[field]; ok {
			return value, nil
		}
	}
	return "", err
}

// waitInfo waits until a field of INFO has that value.
func (s *redisServer) waitInfo(section, field, want string) {
	s.tb.Helper()
	require.Eventually(s.tb, func() bool {
		got, err := s.info(section, field)
		return redis.HasErrorPrefix(err, "NOAUTH") || err == nil && got == want
	}, 30*time.Second, 10*time.Millisecond, "%s of INFO %s: see %s", field, section, filepath.Join(s.dir, "log"))
}

func (s *redisServer) waitLoaded() {
	s.tb.Helper()
	s.waitInfo("persistence", "loading", "0")
}

// kill ends the process with SIGKILL, also while it is paused, and waits until it
// is gone.
func (s *redisServer) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}

func (s *redisServer) running() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// pause stops the process with SIGSTOP: connections stay open and hang.
func (s *redisServer) pause() {
	s.tb.Helper()
	require.NoError(s.tb, s.cmd.Process.Signal(syscall.SIGSTOP))
}

// resume continues a paused process.
func (s *redisServer) resume() {
	s.tb.Helper()
	require.NoError(s.tb, s.cmd.Process.Signal(syscall.SIGCONT))
}

// restart starts the server again, after kill, with the same directory, address
// and arguments, and waits until it has loaded its data.
func (s *redisServer) restart() {
	s.tb.Helper()
	s.relaunch()
	s.waitLoaded()
}

// relaunch is restart without the wait for the data.
func (s *redisServer) relaunch() {
	s.tb.Helper()
	// For a moment another process may have the port.
	for range 50 {
		if s.launch() {
			return
		}
		<-time.After(100 * time.Millisecond)
	}
	require.FailNow(s.tb, "redis-server does not start again")
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

func newRedis(tb testing.TB, client redis.UniversalClient) *redisstore.Store {
	tb.Helper()
	s, err := redisstore.New(client, redisstore.Options{})
	require.NoError(tb, err)
	return s
}
