package redisstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

// A call whose reply is lost is repeated, by go-redis or by the caller, and gets
// the answer that was lost.
func TestRedis_LostReply(t *testing.T) {
	t.Parallel()
	addr := startRedis(t)
	direct := newRedis(t, dialRedis(t, addr))
	for _, retries := range []int{3, -1} {
		for _, verb := range []string{"Acquire", "Settle", "Release", "Takeover", "Resolve"} {
			t.Run(fmt.Sprintf("%s, MaxRetries %d", verb, retries), func(t *testing.T) {
				t.Parallel()
				ctx, key := t.Context(), t.Name()
				var armed atomic.Bool
				proxy := newDropProxy(t, addr, func() bool { return armed.CompareAndSwap(true, false) })
				client := dialRedis(t, proxy.addr, func(o *redis.Options) { o.MaxRetries, o.PoolSize = retries, 1 })
				b, from := redisBid(key, "a"), store.Record{}
				revision := uint64(1)
				if verb != "Acquire" {
					_, err := direct.Acquire(ctx, b)
					require.NoError(t, err)
					revision++
				}
				if verb == "Takeover" || verb == "Resolve" {
					var err error
					from, err = direct.Settle(ctx, b, store.Outcome{State: store.InDoubt})
					require.NoError(t, err)
					b.Owner = "b"
					revision++
				}
				require.NoError(t, client.Ping(ctx).Err())
				call := redisVerbs(newRedis(t, client), b, from)[verb]

				armed.Store(true)
				r, err := call(ctx)
				if retries < 0 {
					require.Error(t, err, "the reply is lost")
					r, err = call(ctx)
				}
				require.NoError(t, err)
				require.EqualValues(t, 1, proxy.dropped.Load())
				require.Equal(t, revision, r.Revision, "the call was applied once")
				stored, err := direct.Load(ctx, key)
				require.NoError(t, err)
				stored.Now = r.Now
				require.Equal(t, stored, r)
				if verb == "Acquire" || verb == "Takeover" {
					require.True(t, r.Owned(b.Owner))
				}
			})
		}
	}
}

// 2,000 calls, a fifth of whose replies are lost after the call was applied. Each
// caller repeats its call, with the same nonce, until it has an answer. Then the
// server is asked: one grant at a time, every settle, and no write twice.
func TestRedis_LostReplies(t *testing.T) {
	t.Parallel()
	const calls = 2000
	addr := startRedis(t)
	for _, c := range []struct{ option, retries int }{
		{0, 3}, // go-redis takes 0 for its default
		{3, 3},
		{-1, 0}, // go-redis takes -1 for no retries
	} {
		t.Run(fmt.Sprintf("MaxRetries %d", c.option), func(t *testing.T) {
			t.Parallel()
			proxy := newDropProxy(t, addr, func() bool { return rand.IntN(5) == 0 })
			client := dialRedis(t, proxy.addr, func(o *redis.Options) {
				o.MaxRetries, o.MinRetryBackoff, o.MaxRetryBackoff = c.option, time.Millisecond, 2*time.Millisecond
			})
			require.Equal(t, c.retries, client.Options().MaxRetries)
			direct, err := redisstore.New(dialRedis(t, addr), redisstore.Options{Prefix: t.Name() + ":"})
			require.NoError(t, err)
			lossy, err := redisstore.New(client, redisstore.Options{Prefix: t.Name() + ":"})
			require.NoError(t, err)
			l := &lossyLives{t: t, s: lossy, direct: direct, proxy: proxy}
			ended := map[store.State]int{}
			lives := 0
			for ; l.calls.Load() < calls; lives++ {
				ended[l.live(lives)]++
			}
			listed := map[store.State]int{}
			for r, err := range direct.List(t.Context(), store.Query{}) {
				require.NoError(t, err)
				listed[r.State]++
			}
			require.Equal(t, ended, listed, "no record is lost")
			require.Positive(t, proxy.dropped.Load())
			if c.retries == 0 {
				require.GreaterOrEqual(t, l.unanswered.Load(), int64(proxy.dropped.Load()), "a reply may be that of several calls")
			}
			t.Logf("MaxRetries %d: %d calls on %d keys, %d ambiguous (reply lost), %d of them left to the caller",
				c.option, l.calls.Load(), lives, proxy.dropped.Load(), l.unanswered.Load())
		})
	}
}

// lossyLives leads records through their lives with calls whose replies get lost.
type lossyLives struct {
	t                 *testing.T
	s, direct         *redisstore.Store
	proxy             *dropProxy
	calls, unanswered atomic.Int64
}

type answer struct {
	r   store.Record
	err error
}

// live leads a record of its own to its end, and compares it with what the callers
// were answered. It returns the end.
func (l *lossyLives) live(i int) store.State {
	ctx, key := l.t.Context(), fmt.Sprint(i)
	rivals := []store.Bid{redisBid(key, "a"), redisBid(key, "b"), redisBid(key, "c")}
	take := func(b store.Bid) (store.Record, error) { return l.s.Acquire(ctx, b) }
	holder, rivals := l.contend(rivals, nil, take)

	dropped := l.proxy.dropped.Load()
	_, err := l.call(func() (store.Record, error) { return l.s.Renew(ctx, holder) })
	require.NoError(l.t, err)
	renewals := uint64(l.proxy.dropped.Load()-dropped) + 1

	var turns uint64 // writes besides the first grant and the renewals
	var history []string
	want := store.Outcome{State: store.Succeeded, Data: []byte(key), Context: "json"}
	settle := func(o store.Outcome) store.Record {
		r, err := l.call(func() (store.Record, error) { return l.s.Settle(ctx, holder, o) })
		require.NoError(l.t, err)
		require.Equal(l.t, o.State, r.State)
		turns++
		return r
	}
	switch i % 4 {
	case 0:
		settle(want)
	case 1:
		_, err := l.call(func() (store.Record, error) { return l.s.Release(ctx, holder) })
		require.NoError(l.t, err)
		holder, _ = l.contend(rivals, nil, take)
		turns, history = turns+2, []string{store.TurnReleased}
		settle(want)
	case 2:
		from := settle(store.Outcome{State: store.InDoubt})
		holder, _ = l.contend(rivals, store.ErrMoved, func(b store.Bid) (store.Record, error) {
			return l.s.Takeover(ctx, b, from)
		})
		turns, history = turns+1, []string{store.TurnTakenOver}
		want.State = store.Failed
		settle(want)
	case 3:
		from := settle(store.Outcome{State: store.InDoubt})
		answers := l.race(2, func(n int) (store.Record, error) {
			return l.s.Resolve(ctx, key, from, store.Resolution{
				ID: fmt.Sprint(n), To: want.State, Outcome: want, By: store.ByOperator, TTL: time.Hour,
			})
		})
		first := errors.Is(answers[0].err, store.ErrMoved)
		require.Equal(l.t, !first, errors.Is(answers[1].err, store.ErrMoved), "one decision is written")
		require.True(l.t, answers[0].err == nil || answers[1].err == nil)
		turns, history = turns+1, []string{store.TurnResolved}
	}

	late, err := l.call(func() (store.Record, error) { return l.s.Acquire(ctx, redisBid(key, "late")) })
	require.NoError(l.t, err)
	require.Equal(l.t, want, late.Outcome, "a duplicate gets the outcome")
	r, err := l.direct.Load(ctx, key)
	require.NoError(l.t, err)
	late.Now = r.Now
	require.Equal(l.t, r, late)
	require.Equal(l.t, want.State, r.State)
	require.Equal(l.t, holder.Owner, r.Owner)
	require.Equal(l.t, holder.Fence, r.Fence, "the last grant is the one that was answered")
	require.Equal(l.t, 1+renewals+turns, r.Revision, "every call was written once: life %d", i%4)
	var events []string
	for _, e := range r.History {
		events = append(events, e.What)
	}
	require.Equal(l.t, history, events)
	return r.State
}

// contend lets the bids ask at once. One is granted, and returned with its
// fence; the others get the error refusal.
func (l *lossyLives) contend(bids []store.Bid, refusal error, ask func(store.Bid) (store.Record, error)) (store.Bid, []store.Bid) {
	var holder store.Bid
	var others []store.Bid
	answers := l.race(len(bids), func(n int) (store.Record, error) { return ask(bids[n]) })
	for n, a := range answers {
		if a.r.Owned(bids[n].Owner) {
			require.NoError(l.t, a.err)
			require.Empty(l.t, holder.Owner, "two grants")
			holder = bids[n]
			holder.Fence = a.r.Fence
		} else {
			require.ErrorIs(l.t, a.err, refusal)
			others = append(others, bids[n])
		}
	}
	require.NotEmpty(l.t, holder.Owner, "no grant")
	for _, a := range answers {
		require.Equal(l.t, holder.Fence, a.r.Fence)
	}
	return holder, others
}

func (l *lossyLives) race(n int, f func(n int) (store.Record, error)) []answer {
	answers := make([]answer, n)
	var done sync.WaitGroup
	for i := range answers {
		done.Go(func() { answers[i].r, answers[i].err = l.call(func() (store.Record, error) { return f(i) }) })
	}
	done.Wait()
	return answers
}

// call repeats a call until it is answered.
func (l *lossyLives) call(f func() (store.Record, error)) (store.Record, error) {
	l.calls.Add(1)
	for {
		r, err := f()
		if !errors.Is(err, io.EOF) {
			return r, err
		}
		l.unanswered.Add(1)
	}
}

// dropProxy stands before a server and can lose the reply of a script together
// with its connection. The script has then run.
type dropProxy struct {
	addr    string
	server  string
	drop    func() bool // asked about each reply of a script that is not an error
	dropped atomic.Int32
}

func newDropProxy(t *testing.T, server string, drop func() bool) *dropProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
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

func (p *dropProxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	upstream, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	defer func() { _ = upstream.Close() }()
	// A connection has one request under way at a time.
	var script atomic.Bool
	go func() {
		defer func() { _ = upstream.Close() }()
		buf := make([]byte, 64<<10)
		for {
			n, err := client.Read(buf)
			if err != nil {
				return
			}
			script.Store(bytes.Contains(buf[:n], []byte("\r\neval")))
			if _, err := upstream.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := upstream.Read(buf)
		if err != nil {
			return
		}
		if script.Load() && buf[0] != '-' && p.drop() {
			p.dropped.Add(1)
			return
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}
