package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

// survivors is how many settled records there are before a fail-over.
const survivors = 100

// requireGoesOn holds a store to what it owes its callers while a master dies.
// replicated waits until the replicas have everything; fail kills the master, and
// another one is promoted then or later. That it was, requireNoticed asserts.
func requireGoesOn(t *testing.T, s *redisstore.Store, replicated, fail func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for i := range survivors {
		b := redisBid(fmt.Sprint(i), "a")
		_, err := s.Acquire(ctx, b)
		require.NoError(t, err)
		_, err = s.Settle(ctx, b, redisDone)
		require.NoError(t, err)
	}
	replicated()

	w := watchSurvivors(ctx, s)
	defer w.end()
	fail()
	grants := raceAcquire(ctx, t, s, "after", 8)
	before := w.answered.Load()
	require.Eventually(t, func() bool { return w.answered.Load() > before+survivors }, time.Minute, 10*time.Millisecond)
	w.end()
	require.Empty(t, w.wrong, "what was replicated is kept, and nothing else is answered")
	// A client that tries again may bridge a short outage, so that no call fails; that the
	// master was replaced is what Check reports.
	t.Logf("while the master was replaced: %d answers, %d errors", w.answered.Load(), w.failed.Load())

	for _, b := range grants {
		r, err := s.Settle(ctx, b, redisDone)
		require.NoError(t, err)
		require.EqualValues(t, 2, r.Revision)
	}
	require.Equal(t, survivors+len(grants), countRecords(ctx, t, s))
}

// raceAcquire lets two nonces ask for each of n keys, each until it is answered.
// One of the two is granted, once. It returns the bids that were.
func raceAcquire(ctx context.Context, t *testing.T, s *redisstore.Store, prefix string, n int) []store.Bid {
	t.Helper()
	bids, answers := make([]store.Bid, 2*n), make([]answer, 2*n)
	var done sync.WaitGroup
	for i := range bids {
		bids[i] = redisBid(fmt.Sprint(prefix, i/2), fmt.Sprint("nonce ", i%2))
		done.Go(func() {
			answers[i].r, answers[i].err = untilAnswered(ctx, func() (store.Record, error) { return s.Acquire(ctx, bids[i]) })
		})
	}
	done.Wait()
	var granted []store.Bid
	for i := 0; i < len(bids); i += 2 {
		a, b := answers[i], answers[i+1]
		require.NoError(t, a.err)
		require.NoError(t, b.err)
		require.Equal(t, a.r.Owner, b.r.Owner)
		require.Equal(t, a.r.Fence, b.r.Fence)
		require.EqualValues(t, 1, a.r.Revision)
		won := bids[i]
		if b.r.Owned(bids[i+1].Owner) {
			won = bids[i+1]
		}
		require.True(t, a.r.Owned(won.Owner))
		won.Fence = a.r.Fence
		granted = append(granted, won)
	}
	return granted
}

// untilAnswered repeats a call until the store answers it, as callers do.
func untilAnswered(ctx context.Context, f func() (store.Record, error)) (store.Record, error) {
	for {
		r, err := f()
		if err == nil || isRefusal(err) || ctx.Err() != nil {
			return r, err
		}
	}
}

// survivorWatch asks for settled records all the time, as owners of other nonces
// and as readers.
type survivorWatch struct {
	answered, failed atomic.Int64
	cancel           context.CancelFunc
	done             sync.WaitGroup
	mu               sync.Mutex
	wrong            []string
}

func watchSurvivors(ctx context.Context, s *redisstore.Store) *survivorWatch {
	w := &survivorWatch{}
	ctx, w.cancel = context.WithCancel(ctx)
	for n := range 4 {
		w.done.Go(func() {
			for i := n; ctx.Err() == nil; i++ {
				key := fmt.Sprint(i % survivors)
				w.note(s.Load(ctx, key))
				w.note(s.Acquire(ctx, redisBid(key, fmt.Sprint("intruder ", n))))
			}
		})
	}
	return w
}

func (w *survivorWatch) note(r store.Record, err error) {
	switch {
	case err == nil && r.State == store.Succeeded && r.Owner == "a" && r.Revision == 2:
		w.answered.Add(1)
	case err == nil, isRefusal(err), errors.Is(err, store.ErrCorrupt), errors.Is(err, store.ErrVersion):
		w.mu.Lock()
		w.wrong = append(w.wrong, fmt.Sprintf("%q of %q, revision %d: %v", r.State, r.Owner, r.Revision, err))
		w.mu.Unlock()
	case !errors.Is(err, context.Canceled):
		w.failed.Add(1)
	}
}

func (w *survivorWatch) end() {
	w.cancel()
	w.done.Wait()
}

// requireNoticed checks that a fail-over that lost nothing is reported once.
func requireNoticed(t *testing.T, s *redisstore.Store) {
	t.Helper()
	err := s.Check(t.Context())
	require.ErrorIs(t, err, store.ErrReplaced)
	require.NotErrorIs(t, err, store.ErrForgot)
	require.NoError(t, s.Check(t.Context()))
}

// requireReplicated waits until a replica has all that the master has.
func requireReplicated(t *testing.T, master *redisServer) {
	t.Helper()
	// WAIT is about what its own connection wrote.
	conn := dialRedis(t, master.addr).Conn()
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.Publish(t.Context(), "written", "").Err())
	acked, err := conn.Wait(t.Context(), 1, 30*time.Second).Result()
	require.NoError(t, err)
	require.Positive(t, acked)
}

func countRecords(ctx context.Context, t *testing.T, s *redisstore.Store) (n int) {
	t.Helper()
	for r, err := range s.List(ctx, store.Query{}) {
		require.NoError(t, err)
		require.Equal(t, store.Succeeded, r.State)
		n++
	}
	return n
}
