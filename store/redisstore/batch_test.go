package redisstore

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// However many callers have left, who still waits is taken along.
func TestBatches_TakeWhoStillWaits(t *testing.T) {
	t.Parallel()
	b, l := newBatches(keyspace{}), &lane{busy: 1}
	for range 2*pipelined + 1 {
		l.waiting = append(l.waiting, &shared{gone: true})
	}
	stays := &shared{}
	l.waiting = append(l.waiting, stays)
	require.Equal(t, []*shared{stays}, b.take(l))
	require.Equal(t, 1, l.busy)
	require.True(t, stays.taken)
	require.Empty(t, b.take(l))
	require.Zero(t, l.busy, "the lane is given up")
}

// A batch lasts as long as the last of its calls may take, and ends with nobody's else.
func TestBatches_LastAsLongAsTheirLastCall(t *testing.T) {
	t.Parallel()
	now := time.Now()
	in := func(d time.Duration) *shared {
		ctx, cancel := context.WithDeadline(t.Context(), now.Add(d))
		t.Cleanup(cancel)
		return &shared{ctx: ctx}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		about string
		calls []*shared
		last  time.Duration // 0: no end
	}{
		{"the first", []*shared{in(3 * time.Minute), in(time.Minute)}, 3 * time.Minute},
		{"the last", []*shared{in(time.Minute), in(3 * time.Minute)}, 3 * time.Minute},
		{"one without an end", []*shared{in(time.Minute), {ctx: t.Context()}}, 0},
		{"one that has left", []*shared{{ctx: ended}, in(time.Minute)}, 0},
	} {
		ctx, cancel := lasting(c.calls)
		require.NoError(t, ctx.Err(), c.about)
		deadline, ok := ctx.Deadline()
		require.Equal(t, c.last > 0, ok, c.about)
		if ok {
			require.Equal(t, now.Add(c.last), deadline, c.about)
		}
		cancel()
	}
}

// What is large takes long to send: it holds up nobody, and goes alone.
func TestBatches_LargeCallsGoAlone(t *testing.T) {
	t.Parallel()
	x := newRedisIndex(keyspace{client: redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})})
	x.batches = newBatches(x.keys)
	l, ok := x.batches.lane(t.Context(), "")
	require.True(t, ok)
	l.busy = lanesEach // and nothing comes back
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cmd := x.evalShared(ctx, settleVerb.script, []string{"k", "open"}, []any{make([]byte, 100), "1", make([]byte, largeCall)})
	require.ErrorContains(t, cmd.Err(), "refused")
	require.Empty(t, l.waiting)
}
