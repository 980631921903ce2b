package dbserver

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
)

// smallLog is for disks that are shared with others' tests; by default it has 96 MB.
const smallLog = "--innodb-log-file-size=8M"

// MariaDB starts MariaDB with InnoDB, which syncs at each commit. settings change
// that and anything else: each is "name=value". The administrator is root.
func MariaDB(ctx context.Context, settings ...string) (*Server, error) {
	path, err := exec.LookPath("mariadbd")
	if err != nil {
		return nil, fmt.Errorf("dbserver: MariaDB is not installed (apt-get install mariadb-server): %w", err)
	}
	installer, err := exec.LookPath("mariadb-install-db")
	if err != nil {
		return nil, fmt.Errorf("dbserver: MariaDB is not installed (apt-get install mariadb-server): %w", err)
	}
	s := &Server{
		bin: filepath.Dir(path),
		launch: func(s *Server) *exec.Cmd {
			host, port, _ := net.SplitHostPort(s.addr)
			args := []string{
				"--no-defaults", "--datadir=" + s.data(), "--socket=" + filepath.Join(s.dir, "socket"),
				"--pid-file=" + filepath.Join(s.dir, "pid"), "--bind-address=" + host, "--port=" + port,
				"--skip-name-resolve", "--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=64M", smallLog,
				"--max-connections=300", "--max-allowed-packet=64M",
			}
			for _, setting := range settings {
				args = append(args, "--"+setting)
			}
			return s.command(context.Background(), "mariadbd", args...)
		},
		ready: greets,
		dsn: func(s *Server, database string) string {
			return fmt.Sprintf("root@tcp(%s)/%s", s.addr, database)
		},
	}
	return s.begin(ctx, func() error {
		install := s.command(ctx, "")
		install.Path, install.Args = installer, []string{
			installer, "--no-defaults", "--datadir=" + s.data(), "--auth-root-authentication-method=normal", "--skip-test-db", smallLog,
		}
		if out, err := install.CombinedOutput(); err != nil {
			return fmt.Errorf("dbserver: mariadb-install-db: %w: %s", err, out)
		}
		return nil
	})
}

// greets reports whether the server sends the packet with which it greets a client.
func greets(s *Server) bool {
	conn, err := s.dial()
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	packet := make([]byte, 5)
	_, err = io.ReadFull(conn, packet)
	return err == nil && packet[4] == 10 // the version of the protocol
}
