package interceptor_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	once "github.com/atmostonce/atmostonce/activity"
)

// refusedRequests did not get a connection, with the activity's context.
var refusedRequests = map[string]failureOf{
	"refused": func(t *testing.T, ctx context.Context) error { return post(ctx, newClient(t), "http://"+nobody(t)) },
	"refused, under a trace of its own": func(t *testing.T, ctx context.Context) error {
		saw := false
		err := post(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			ConnectDone: func(string, string, error) { saw = true },
		}), newClient(t), "http://"+nobody(t))
		require.True(t, saw, "the activity's trace is asked too")
		return err
	},
	"refused by all": func(t *testing.T, ctx context.Context) error {
		c, at := newClient(t), nobody(t)
		return errors.Join(post(ctx, c, "http://"+at), post(ctx, c, "http://"+at))
	},
	"refused, the last of many": func(t *testing.T, ctx context.Context) (err error) {
		for range 21 {
			err = post(ctx, newClient(t), "http://"+nobody(t))
		}
		return err
	},
	"refused by both addresses": func(t *testing.T, ctx context.Context) error {
		_, port, _ := net.SplitHostPort(nobody(t))
		return post(ctx, newClient(t), "http://"+net.JoinHostPort("localhost", port))
	},
	"refused by the proxy": func(t *testing.T, ctx context.Context) error {
		c, proxy := newClient(t), &url.URL{Scheme: "http", Host: nobody(t)}
		c.Transport.(*http.Transport).Proxy = http.ProxyURL(proxy)
		return post(ctx, c, "https://provider.invalid")
	},
	"refused, of a client with codes": func(t *testing.T, ctx context.Context) error {
		return fmt.Errorf("charge: %w, %w", sendError{post(ctx, newClient(t), "http://"+nobody(t))}, errDeclined)
	},
	"not found": func(t *testing.T, ctx context.Context) error {
		c := newClient(t)
		c.Transport.(*http.Transport).DialContext = (&net.Dialer{Resolver: &net.Resolver{
			PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no resolver") },
		}}).DialContext
		err := post(ctx, c, "http://provider.invalid")
		require.ErrorAs(t, err, new(*net.DNSError))
		return err
	},
	"bad certificate": func(t *testing.T, ctx context.Context) error {
		s := tlsServer(t, nil)
		err := post(ctx, newClient(t), s.URL)
		require.ErrorAs(t, err, new(*tls.CertificateVerificationError))
		return err
	},
	"bad certificate of the client": func(t *testing.T, ctx context.Context) error {
		s := tlsServer(t, &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12})
		return post(ctx, s.Client(), s.URL)
	},
	"no TLS there": func(t *testing.T, ctx context.Context) error {
		s := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(s.Close)
		err := post(ctx, newClient(t), strings.Replace(s.URL, "http:", "https:", 1))
		require.ErrorIs(t, err, http.ErrSchemeMismatch)
		return err
	},
	"no HTTP there either": func(t *testing.T, ctx context.Context) error {
		err := post(ctx, newClient(t), "https://"+saying(t, "220 mail\r\n"))
		require.ErrorAs(t, err, &tls.RecordHeaderError{})
		return err
	},
}

// unsentRequests are those that net/http refuses to send.
var unsentRequests = map[string]failureOf{
	"no scheme": func(t *testing.T, ctx context.Context) error { return post(ctx, newClient(t), "provider/charge") },
	"scheme":    func(t *testing.T, ctx context.Context) error { return post(ctx, newClient(t), "htp://provider") },
	"host":      func(t *testing.T, ctx context.Context) error { return post(ctx, newClient(t), "http:///charge") },
	"scheme, after a connection that was refused": func(t *testing.T, ctx context.Context) error {
		c := newClient(t)
		require.Error(t, post(ctx, c, "http://"+nobody(t)))
		return post(ctx, c, "htp://provider")
	},
	"scheme, under a trace of its own": func(t *testing.T, ctx context.Context) error {
		return post(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{}), newClient(t), "htp://provider")
	},
	"header": func(t *testing.T, ctx context.Context) error {
		return post(ctx, newClient(t), "http://provider", "bad name", "x")
	},
	"value": func(t *testing.T, ctx context.Context) error {
		return post(ctx, newClient(t), "http://provider", "Name", "x\n")
	},
	"trailer": func(t *testing.T, ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://provider", nil)
		require.NoError(t, err)
		r.Trailer = http.Header{"bad name": nil}
		return send(newClient(t), r)
	},
	"method": func(t *testing.T, ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://provider", nil)
		require.NoError(t, err)
		r.Method = "BAD METHOD"
		return send(newClient(t), r)
	},
}

// openRequests end alike, and nothing proves that nothing was sent.
var openRequests = map[string]failureOf{
	"refused, without the context": func(t *testing.T, _ context.Context) error {
		return post(t.Context(), newClient(t), "http://"+nobody(t))
	},
	// What the trace saw is another request's.
	"refused, with and without the context": func(t *testing.T, ctx context.Context) error {
		c, at := newClient(t), nobody(t)
		require.Error(t, post(ctx, c, "http://"+at))
		return post(t.Context(), c, "http://"+at)
	},
	"certificate, without the context": func(t *testing.T, _ context.Context) error {
		return post(t.Context(), newClient(t), tlsServer(t, nil).URL)
	},
	"scheme, without the context": func(t *testing.T, _ context.Context) error { return post(t.Context(), newClient(t), "htp://provider") },
	"sent twice, the second time refused": func(t *testing.T, ctx context.Context) error {
		c, at, effects := repeating(t)
		err := post(ctx, c, at, "Idempotency-Key", "7")
		require.EqualValues(t, 1, effects.Load(), "it took effect")
		require.ErrorIs(t, err, syscall.ECONNREFUSED, "and says the opposite")
		return err
	},
	"sent twice, without the context": func(t *testing.T, _ context.Context) error {
		c, at, effects := repeating(t)
		err := post(t.Context(), c, at, "Idempotency-Key", "7")
		require.EqualValues(t, 1, effects.Load())
		return err
	},
	"refused after another request": func(t *testing.T, ctx context.Context) error {
		require.NoError(t, post(ctx, newClient(t), serverWith(t, http.StatusOK, "")))
		return post(ctx, newClient(t), "http://"+nobody(t))
	},
	"refused after another request, of HTTP/2": func(t *testing.T, ctx context.Context) error {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { assert.Equal(t, 2, r.ProtoMajor) }))
		s.EnableHTTP2 = true
		s.StartTLS()
		t.Cleanup(s.Close)
		require.NoError(t, postTo(ctx, s))
		return post(ctx, newClient(t), "http://"+nobody(t))
	},
	"led on to where it is refused": func(t *testing.T, ctx context.Context) error {
		return post(ctx, newClient(t), serverWith(t, http.StatusTemporaryRedirect, "http://"+nobody(t)))
	},
	"led on to a bad scheme": func(t *testing.T, ctx context.Context) error {
		return post(ctx, newClient(t), serverWith(t, http.StatusTemporaryRedirect, "htp://provider"))
	},
	"led on to a bad scheme, without the context": func(t *testing.T, _ context.Context) error {
		return post(t.Context(), newClient(t), serverWith(t, http.StatusTemporaryRedirect, "htp://provider"))
	},
	"no answer": func(t *testing.T, ctx context.Context) error { return post(ctx, newClient(t), "http://"+saying(t, "")) },
	"no whole answer": func(t *testing.T, ctx context.Context) error {
		return post(ctx, newClient(t), "http://"+saying(t, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"))
	},
	"no end of the answer": func(t *testing.T, ctx context.Context) error {
		return post(ctx, newClient(t), "http://"+saying(t, chunked+"1\r\nx\r\n0\r\n"))
	},
	"a broken answer": func(t *testing.T, ctx context.Context) error {
		return post(ctx, newClient(t), "http://"+saying(t, chunked+"1\r\nxyz\r\n"))
	},
	"an answer that breaks off into another": func(t *testing.T, ctx context.Context) error {
		return post(ctx, newClient(t), "http://"+saying(t, chunked+"1\r\nx\r\nHTTP/1.1 502\r\n"))
	},
	"no HTTP": func(t *testing.T, ctx context.Context) error {
		return post(ctx, newClient(t), "http://"+saying(t, "220 mail\r\n\r\n"))
	},
	"bad certificate of the client, as TLS 1.3 finds out": func(t *testing.T, ctx context.Context) error {
		s := tlsServer(t, &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13})
		return post(ctx, s.Client(), s.URL)
	},
	// These failures are equal to every other of their kind.
	"a handshake that ends": func(t *testing.T, ctx context.Context) error {
		err := post(ctx, newClient(t), "https://"+saying(t, ""))
		require.ErrorIs(t, err, io.EOF)
		return err
	},
	"a handshake that takes too long": func(t *testing.T, ctx context.Context) error {
		c := newClient(t)
		c.Transport.(*http.Transport).TLSHandshakeTimeout = time.Nanosecond
		return post(ctx, c, tlsServer(t, nil).URL)
	},
	"without a Client": func(t *testing.T, ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+saying(t, "220 mail\r\n\r\n"), nil)
		require.NoError(t, err)
		_, err = newClient(t).Transport.RoundTrip(r)
		require.NotErrorAs(t, err, new(*url.Error))
		return err
	},
	"one of too many": func(t *testing.T, ctx context.Context) error {
		first := post(ctx, newClient(t), "http://"+nobody(t))
		for range 20 {
			_ = post(ctx, newClient(t), "http://"+nobody(t))
		}
		return first
	},
	"tries of its own": func(t *testing.T, ctx context.Context) error {
		c := newClient(t)
		under := c.Transport
		c.Transport = tripper(func(r *http.Request) (*http.Response, error) {
			_, err := under.RoundTrip(r)
			return nil, errors.Join(err, io.EOF)
		})
		return post(ctx, c, "http://"+nobody(t))
	},
	"another transport, which asks for the trace": func(t *testing.T, ctx context.Context) error {
		return post(ctx, &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
			require.NotNil(t, httptrace.ContextClientTrace(r.Context()))
			return nil, errors.New("session lost")
		})}, "http://provider")
	},
	"canceled while dialling": func(t *testing.T, ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		c := newClient(t)
		c.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			cancel()
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return post(ctx, c, "http://provider")
	},
}

// chunked begins an answer of unknown length.
const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

// post sends what has an effect. The header is a name and a value.
func post(ctx context.Context, c *http.Client, to string, header ...string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader("100"))
	if err != nil {
		return err
	}
	if len(header) > 0 {
		r.Header[header[0]] = header[1:]
	}
	return send(c, r)
}

func send(c *http.Client, r *http.Request) error {
	answer, err := c.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if _, err = io.Copy(io.Discard, answer.Body); err == nil && answer.StatusCode != http.StatusOK {
		err = statusMethod(answer.StatusCode)
	}
	return err
}

// newClient is a client with connections of its own.
func newClient(t *testing.T) *http.Client {
	t.Helper()
	c := &http.Transport{}
	t.Cleanup(c.CloseIdleConnections)
	return &http.Client{Transport: c}
}

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// nobody is an address that is taken, and at which nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	name, err := syscall.Getsockname(fd)
	require.NoError(t, err)
	return fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
}

// saying is the address of a server that reads some of a request, says this and
// hangs up.
func saying(t *testing.T, says string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, says)
			_ = conn.Close()
		}
	}()
	return l.Addr().String()
}

// serverWith is the URL of a server with that answer.
func serverWith(t *testing.T, status int, location string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", location)
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func tlsServer(t *testing.T, c *tls.Config) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS, s.Config.ErrorLog = c, log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// aborting is an HTTP/2 server that gives up in the middle of its answer, or
// before it.
func aborting(t *testing.T, middle bool) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && middle {
			_ = http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler)
	}))
	s.EnableHTTP2, s.Config.ErrorLog = true, log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func postTo(ctx context.Context, s *httptest.Server) error { return post(ctx, s.Client(), s.URL) }

// repeating is a client with a kept-alive connection to a server that hangs up
// once it has done what it is asked for, and is gone for good. net/http sends a
// request with an idempotency key again.
func repeating(t *testing.T) (c *http.Client, at string, effects *atomic.Int32) {
	t.Helper()
	effects = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/charge" {
			return
		}
		effects.Add(1)
		panic(http.ErrAbortHandler)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(s.Close)
	c = newClient(t)
	dials, gone := 0, nobody(t)
	c.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if dials++; dials > 1 {
			address = gone
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	require.NoError(t, post(t.Context(), c, s.URL))
	return c, s.URL + "/charge", effects
}

// The evidence is of one attempt.
func TestEvidence_OfAnEarlierAttemptDoesNotCount(t *testing.T) {
	t.Parallel()
	s := memory()
	g := guarded(t, s, once.Policy{})
	c := newClient(t)
	written := func(ctx context.Context, _ charge) (receipt, error) {
		require.NoError(t, post(ctx, c, serverWith(t, http.StatusOK, "")))
		return receipt{}, errDeclined
	}
	_, err := execute(t, g, written, order(7))
	require.False(t, once.MayHaveHappened(err))
	_, err = execute(t, g, func(ctx context.Context, _ charge) (receipt, error) {
		return receipt{}, post(ctx, c, "http://"+nobody(t))
	}, order(7))
	require.Error(t, err)
	require.False(t, once.MayHaveHappened(err))
}
