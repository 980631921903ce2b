package dbserver

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// PgBouncer starts a pooler before a PostgreSQL server, in transaction mode: each
// transaction may have another of its few connections. settings are lines of its
// configuration.
func PgBouncer(ctx context.Context, to *Server, settings ...string) (*Server, error) {
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		return nil, fmt.Errorf("dbserver: PgBouncer is not installed (apt-get install pgbouncer): %w", err)
	}
	s := &Server{
		bin: filepath.Dir(path),
		launch: func(s *Server) *exec.Cmd {
			return s.command(context.Background(), "pgbouncer", filepath.Join(s.dir, "config"))
		},
		ready: accepts,
		dsn:   to.dsn,
	}
	return s.begin(ctx, func() error {
		host, port, _ := net.SplitHostPort(s.addr)
		config := fmt.Sprintf("[databases]\n* = %s\n[pgbouncer]\nlisten_addr = %s\nlisten_port = %s\n"+
			"unix_socket_dir =\nauth_type = any\npool_mode = transaction\nmax_client_conn = 500\ndefault_pool_size = 5\n",
			to.keywords(), host, port)
		for _, setting := range settings {
			config += setting + "\n"
		}
		return os.WriteFile(filepath.Join(s.dir, "config"), []byte(config), 0o644)
	})
}

// accepts reports whether the server takes connections.
func accepts(s *Server) bool {
	conn, err := s.dial()
	if err != nil {
		return false
	}
	return conn.Close() == nil
}
