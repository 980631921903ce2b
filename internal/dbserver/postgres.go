package dbserver

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Postgres starts PostgreSQL. It is as durable as by default: fsync and
// synchronous_commit are on. settings change that and anything else: each is
// "name=value". The administrator is the role postgres.
func Postgres(ctx context.Context, settings ...string) (*Server, error) {
	s, err := newPostgres(settings)
	if err != nil {
		return nil, err
	}
	return s.begin(ctx, func() error {
		return s.run(ctx, "initdb", "--no-sync", "--username=postgres", "--auth=trust",
			"--encoding=UTF8", "--locale=C", "--wal-segsize=4", "--pgdata="+s.data())
	})
}

// Replica starts a streaming replica of a PostgreSQL server. In the primary's
// synchronous_standby_names it has that name.
func (s *Server) Replica(ctx context.Context, name string, settings ...string) (*Server, error) {
	r, err := newPostgres(append(settings, "primary_conninfo="+s.keywords()+" application_name="+name))
	if err != nil {
		return nil, err
	}
	return r.begin(ctx, func() error {
		return r.run(ctx, "pg_basebackup", "--no-sync", "--write-recovery-conf", "--wal-method=stream",
			"--checkpoint=fast", "--dbname="+s.keywords(), "--pgdata="+r.data())
	})
}

// Promote makes a primary of a replica.
func (s *Server) Promote(ctx context.Context) error {
	return s.run(ctx, "pg_ctl", "promote", "--wait", "--pgdata="+s.data())
}

func newPostgres(settings []string) (*Server, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	return &Server{
		bin: bin,
		launch: func(s *Server) *exec.Cmd {
			host, port, _ := net.SplitHostPort(s.addr)
			args := []string{
				"-D", s.data(), "-c", "listen_addresses=" + host, "-c", "port=" + port,
				"-c", "unix_socket_directories=" + s.dir, "-c", "max_connections=300",
			}
			for _, setting := range settings {
				args = append(args, "-c", setting)
			}
			return s.command(context.Background(), "postgres", args...)
		},
		ready: (*Server).postmasterIsReady,
		dsn: func(s *Server, database string) string {
			return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable", s.addr, database)
		},
	}, nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) keywords() string {
	host, port, _ := net.SplitHostPort(s.addr)
	return fmt.Sprintf("host=%s port=%s user=postgres", host, port)
}

// postmasterIsReady goes by the file that pg_ctl goes by: the first line is the process,
// the eighth its state.
func (s *Server) postmasterIsReady() bool {
	text, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	if err != nil {
		return false
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 8 || lines[0] != strconv.Itoa(s.cmd.Process.Pid) {
		return false
	}
	state := strings.TrimSpace(lines[7])
	return state == "ready" || state == "standby" && s.isHot()
}

// isHot reports whether a standby answers.
func (s *Server) isHot() bool {
	return s.run(context.Background(), "pg_isready", "--quiet", "--dbname="+s.keywords()) == nil
}

// postgresBin returns where the newest PostgreSQL's commands are. Debian keeps them
// off PATH.
func postgresBin() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		path, err := exec.LookPath("postgres")
		if err != nil {
			return "", fmt.Errorf("dbserver: PostgreSQL is not installed (apt-get install postgresql): %w", err)
		}
		return filepath.Dir(path), nil
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4])
		return n
	}
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	return filepath.Dir(found[0]), nil
}
