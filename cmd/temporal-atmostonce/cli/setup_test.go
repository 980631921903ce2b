package cli

import (
	"bytes"
	"context"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

var update = flag.Bool("update", false, "write what the tests compare with, instead of comparing it")

// ran is what a run of the command line gave.
type ran struct {
	out, err string
	code     int
}

// console runs command lines in this process, over a store.
type console struct {
	t       *testing.T
	options Options
	env     map[string]string
	in      string // what a person types; "" is no person
}

func (c *console) surroundings() surroundings {
	return surroundings{
		in: strings.NewReader(c.in), out: io.Discard, err: io.Discard, asks: c.in != "",
		env: func(name string) string { return c.env[name] },
	}
}

func (c *console) run(args ...string) ran {
	c.t.Helper()
	out, err := bytes.Buffer{}, bytes.Buffer{}
	s := c.surroundings()
	s.out, s.err = &out, &err
	code := c.options.run(c.t.Context(), append([]string{"--disable-config-file", "--operator", "ann"}, args...), s)
	return ran{out.String(), err.String(), code}
}

// ok runs a command line that must succeed, and returns its output.
func (c *console) ok(args ...string) string {
	c.t.Helper()
	r := c.run(args...)
	require.Zero(c.t, r.code, "%v: %s%s", args, r.out, r.err)
	return r.out
}

func over(t *testing.T, s store.Store) *console {
	t.Helper()
	return &console{t: t, options: Options{Store: s}, env: map[string]string{}}
}

// bidOf is a claim of order-N's charge.
func bidOf(order string) store.Bid {
	return store.Bid{
		Key: "v1/shop/n/ChargeCard/k:" + order, Owner: "nonce of " + order, Lease: time.Minute, TTL: 30 * 24 * time.Hour, Deadline: time.Minute, Began: true,
		Info: store.Info{Activity: "ChargeCard", Trace: "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01", Holder: store.Holder{
			Namespace: "shop", WorkflowID: "order-" + order, RunID: "019a", ActivityID: "5", Attempt: 1, Worker: "19102@vm",
		}},
	}
}

func digestOf(order string) string { return keys.Downstream(bidOf(order).Key)[:16] }

// claim has the key of an order claimed.
func claim(t *testing.T, s store.Store, b store.Bid) store.Bid {
	t.Helper()
	r, err := s.Acquire(context.Background(), b)
	require.NoError(t, err)
	require.True(t, r.Owned(b.Owner))
	b.Fence = r.Fence
	return b
}

// doubt leaves a record in doubt, as its owner declares.
func doubt(t *testing.T, s store.Store, b store.Bid) store.Record {
	t.Helper()
	r, err := s.Settle(context.Background(), claim(t, s, b), store.Outcome{State: store.InDoubt})
	require.NoError(t, err)
	return r
}

// settle leaves a settled record.
func settle(t *testing.T, s store.Store, b store.Bid, to store.State) store.Record {
	t.Helper()
	r, err := s.Settle(context.Background(), claim(t, s, b), store.Outcome{State: to, Data: []byte("\n\x16\n\x16\n\bencoding\x12\njson/plain")})
	require.NoError(t, err)
	return r
}

// requireFile asserts what the file has, which -update writes.
func requireFile(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o644)) //nolint:gosec // it is published
		return
	}
	kept, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, want, string(kept), "%s is not up to date; to write it anew: go test ./cli -update", path)
}
