package databases_test

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// dropProxy stands before a server and can lose the reply to a statement, together with
// the connection. The server has carried the statement out by then.
type dropProxy struct {
	addr    string
	server  string
	drop    func(request []byte) bool
	dropped atomic.Int32
}

func newDropProxy(tb testing.TB, server string, drop func(request []byte) bool) *dropProxy {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = l.Close() })
	p := &dropProxy{addr: l.Addr().String(), server: server, drop: drop}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(client)
		}
	}()
	return p
}

// through returns a DSN of the proxied server as one of the proxy, with statements that take
// one round trip each.
func (p *dropProxy) through(dsn string) string {
	dsn = strings.Replace(dsn, p.server, p.addr, 1)
	if strings.HasPrefix(dsn, "postgres:") {
		return dsn + "&default_query_exec_mode=simple_protocol"
	}
	return dsn + "?interpolateParams=true"
}

func (p *dropProxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.server)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	// A connection has one request under way at a time.
	var lost atomic.Bool
	go func() {
		defer func() { _ = server.Close() }()
		buf := make([]byte, 64<<10)
		for {
			n, err := client.Read(buf)
			if err != nil {
				return
			}
			if p.drop(buf[:n]) {
				lost.Store(true)
			}
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		if lost.Load() {
			p.dropped.Add(1)
			return
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

// isWrite reports whether a request writes a record.
func isWrite(request []byte) bool {
	return bytes.Contains(request, []byte("INSERT INTO")) || bytes.Contains(request, []byte("UPDATE "))
}
