package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

const (
	// A server that does not answer is reported well within five seconds.
	dialTime   = 2 * time.Second
	answerTime = 3 * time.Second
)

var errURL = errors.New("its URL cannot be read (it is not shown, since it may have a password)")

func openRedis(ctx context.Context, address *url.URL, p profile) (store.Store, io.Closer, error) {
	address, prefix := ownQuery(address, p)
	o, err := redis.ParseURL(address.String())
	if err != nil {
		return nil, nil, errURL
	}
	o.DialTimeout, o.ReadTimeout, o.MaxRetries, o.ContextTimeoutEnabled = dialTime, answerTime, 1, true
	if err := p.TLS.apply(&o.TLSConfig); err != nil {
		return nil, nil, err
	}
	return connected(ctx, redis.NewClient(o), prefix)
}

func openSentinel(ctx context.Context, address *url.URL, p profile) (store.Store, io.Closer, error) {
	address, prefix := ownQuery(address, p)
	o, err := redis.ParseFailoverURL(address.String())
	if err != nil {
		return nil, nil, errURL
	}
	o.DialTimeout, o.ReadTimeout, o.MaxRetries, o.ContextTimeoutEnabled = dialTime, answerTime, 1, true
	if err := p.TLS.apply(&o.TLSConfig); err != nil {
		return nil, nil, err
	}
	return connected(ctx, redis.NewFailoverClient(o), prefix)
}

func openCluster(ctx context.Context, address *url.URL, p profile) (store.Store, io.Closer, error) {
	address, prefix := ownQuery(address, p)
	o, err := redis.ParseClusterURL(address.String())
	if err != nil {
		return nil, nil, errURL
	}
	o.DialTimeout, o.ReadTimeout, o.MaxRedirects, o.ContextTimeoutEnabled = dialTime, answerTime, 3, true
	if err := p.TLS.apply(&o.TLSConfig); err != nil {
		return nil, nil, err
	}
	return connected(ctx, redis.NewClusterClient(o), prefix)
}

// ownQuery takes what is not go-redis's out of a URL: the scheme's kind, the prefix of
// the records, and tls=true.
func ownQuery(address *url.URL, p profile) (rest *url.URL, prefix string) {
	copied := *address
	q := copied.Query()
	if prefix = q.Get("prefix"); prefix == "" {
		prefix = p.Prefix
	}
	if copied.Scheme != "rediss" {
		copied.Scheme = "redis"
	}
	if q.Get("tls") == "true" {
		copied.Scheme = "rediss"
	}
	q.Del("prefix")
	q.Del("tls")
	copied.RawQuery = q.Encode()
	return &copied, prefix
}

// quiet drops what clients of stores log: whoever asked gets the error.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {} // for go-redis
func (quiet) Print(...any)                           {} // for MySQL's driver

// connected returns a store on a server that answers.
func connected(ctx context.Context, client redis.UniversalClient, prefix string) (store.Store, io.Closer, error) {
	redis.SetLogger(quiet{})
	asking, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if err := client.Ping(asking).Err(); err != nil && !redis.HasErrorPrefix(err, "NOPERM") {
		_ = client.Close()
		return nil, nil, fmt.Errorf("it does not answer: %w", err)
	}
	s, err := redisstore.New(client, redisstore.Options{Prefix: prefix})
	if err != nil {
		_ = client.Close()
		return nil, nil, err
	}
	return s, client, nil
}

// newTLS is TLS to a host; "": that which is dialed.
func newTLS(host string) *tls.Config {
	return &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
}

// apply puts the profile's TLS over what the URL's scheme says.
func (t *profileTLS) apply(to **tls.Config) error {
	if t == nil {
		return nil
	}
	if *to == nil {
		*to = newTLS("")
	}
	c := *to
	if t.ServerName != "" {
		c.ServerName = t.ServerName
	}
	c.InsecureSkipVerify = t.Unverified
	if t.CAPath != "" {
		text, err := os.ReadFile(t.CAPath)
		if err != nil {
			return fmt.Errorf("server_ca_cert_path: %w", err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("server_ca_cert_path: %s has no certificate", t.CAPath)
		}
	}
	if t.CertPath != "" || t.KeyPath != "" {
		pair, err := tls.LoadX509KeyPair(t.CertPath, t.KeyPath)
		if err != nil {
			return fmt.Errorf("client_cert_path and client_key_path: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return nil
}
