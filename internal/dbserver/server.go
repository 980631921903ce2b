// Package dbserver starts database servers of its own for tests and samples: each has an
// empty data directory and a free port of the loopback interface, and ends with the
// process that started it. They can be killed as by a power failure of the machine's
// processes, and started again on what they had written.
package dbserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Server is a running database server, or a pooler before one. Its methods are for one
// goroutine at a time.
type Server struct {
	addr    string
	dir     string // of its own; what it wrote is in it
	bin     string // where its commands are
	launch  func(s *Server) *exec.Cmd
	ready   func(s *Server) bool
	dsn     func(s *Server, database string) string
	cmd     *exec.Cmd
	stopped chan struct{}
}

// patience is how long a server has to become ready: the first one on a busy machine
// takes seconds.
const patience = time.Minute

var errEnded = errors.New("dbserver: the server has ended")

// Addr returns host and port, the same after a restart.
func (s *Server) Addr() string { return s.addr }

// DSN returns the name of the data source for the server's usual driver: pgx or
// go-sql-driver/mysql. It asks for an administrator's connection, without a password.
func (s *Server) DSN(database string) string { return s.dsn(s, database) }

// Log returns what the server has printed.
func (s *Server) Log() string {
	text, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "log") }

// create makes a directory for a server, and a free address.
func (s *Server) create() error {
	dir, err := os.MkdirTemp("", "atmostonce-db-")
	if err != nil {
		return err
	}
	s.dir = dir
	if err := giveAway(dir); err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.addr = l.Addr().String()
	return l.Close()
}

// command returns a command that runs as the server's user in its directory, and that
// ends with this process.
func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"HOME=" + s.dir, "LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = unprivileged()
	return cmd
}

// run runs a command to its end.
func (s *Server) run(ctx context.Context, name string, args ...string) error {
	if out, err := s.command(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("dbserver: %s: %w: %s", name, err, out)
	}
	return nil
}

// start starts the process and waits until it serves.
func (s *Server) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := s.startOnce(ctx)
		if !errors.Is(err, errEnded) {
			return err
		}
		// For a moment another process may have the port, or what is left of the
		// killed server its memory.
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *Server) startOnce(ctx context.Context) error {
	out, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	cmd, stopped := s.launch(s), make(chan struct{})
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd, s.stopped = cmd, stopped
	go func() {
		_ = cmd.Wait()
		close(stopped)
	}()
	for !s.ready(s) {
		select {
		case <-stopped:
			return fmt.Errorf("%w: %s", errEnded, s.Log())
		case <-ctx.Done():
			s.Kill()
			return fmt.Errorf("dbserver: %w: %s", context.Cause(ctx), s.Log())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// dial returns a connection that is good for a second.
func (s *Server) dial() (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "tcp", s.addr)
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(time.Second))
	}
	return conn, err
}

// Kill ends all processes of the server at once with SIGKILL. It may be called of a
// server that has ended.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	pid := s.cmd.Process.Pid
	// A stopped process makes no further children.
	_ = s.cmd.Process.Signal(syscall.SIGSTOP)
	for _, child := range children(pid) {
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	_ = s.cmd.Process.Kill()
	<-s.stopped
	s.cmd = nil
}

// children returns the processes that pid has started itself.
func children(pid int) (pids []int) {
	out, err := exec.CommandContext(context.Background(), "ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) != 2 || f[1] != strconv.Itoa(pid) {
			continue
		}
		if child, err := strconv.Atoi(f[0]); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}

// Restart starts the server again, after Kill, on what it had written and at the same
// address, and waits until it serves.
func (s *Server) Restart(ctx context.Context) error {
	s.Kill()
	return s.start(ctx)
}

// Pause stops the main process without ending it; connections stay open. Resume goes on.
func (s *Server) Pause() error { return s.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume continues a server that was paused.
func (s *Server) Resume() error { return s.cmd.Process.Signal(syscall.SIGCONT) }

// Close kills the server and removes its directory.
func (s *Server) Close() error {
	s.Kill()
	return os.RemoveAll(s.dir)
}

// begin creates, prepares and starts a server; where that fails, nothing stays.
func (s *Server) begin(ctx context.Context, prepare func() error) (*Server, error) {
	err := s.create()
	if err == nil {
		err = prepare()
	}
	if err == nil {
		err = s.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}
