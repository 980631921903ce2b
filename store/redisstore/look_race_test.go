package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

// pipelines is a hook of a client's pipelines whose first command is of that name.
type pipelines struct {
	first string
	f     func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error
}

func (pipelines) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (pipelines) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h pipelines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() != h.first {
			return next(ctx, cmds)
		}
		return h.f(ctx, cmds, next)
	}
}

// answering has each of the commands end with err.
func answering(err error) func(context.Context, []redis.Cmder, redis.ProcessPipelineHook) error {
	return func(_ context.Context, cmds []redis.Cmder, _ redis.ProcessPipelineHook) error {
		for _, c := range cmds {
			c.SetErr(err)
		}
		return err
	}
}

// Whatever happens between two commands of a look, its answer is one that the script
// would have given at some moment of the call: never a lease that was over as one that
// was not.
func TestRedis_LooksAreNoTransaction(t *testing.T) {
	t.Parallel()
	addr := startRedis(t)
	admin := dialRedis(t, addr)
	other := newRedis(t, admin)
	const ttl = 10 * time.Hour
	bid := func(key, owner string, lease time.Duration) store.Bid {
		b := redisBid(key, owner)
		b.Lease, b.TTL = lease, ttl
		return b
	}
	for about, meanwhile := range map[string]func(b store.Bid) error{
		"the doubt is marked": func(b store.Bid) error {
			b.TTL = 3 * ttl
			_, err := other.Acquire(t.Context(), b)
			return err
		},
		"it is settled":   func(b store.Bid) error { _, err := other.Settle(t.Context(), b, redisDone); return err },
		"it is renewed":   func(b store.Bid) error { _, err := other.Renew(t.Context(), b); return err },
		"it is released":  func(b store.Bid) error { _, err := other.Release(t.Context(), b); return err },
		"it is forgotten": func(b store.Bid) error { return admin.Del(t.Context(), redisName(b.Key)).Err() },
		"it is kept longer": func(b store.Bid) error {
			return admin.PExpire(t.Context(), redisName(b.Key), 100*ttl).Err()
		},
		"it is kept forever": func(b store.Bid) error { return admin.Persist(t.Context(), redisName(b.Key)).Err() },
	} {
		for n := 1; n < 4; n++ {
			t.Run(fmt.Sprint(about, " after command ", n), func(t *testing.T) {
				t.Parallel()
				client, key := dialRedis(t, addr), t.Name()
				s := newRedis(t, client)
				holder := bid(key, "a", 300*time.Millisecond)
				mustAcquire(t, s, holder)
				r := mustAcquire(t, s, bid(key, "b", time.Minute))
				require.True(t, r.Owned("a"), "it has been met")
				require.Eventually(t, func() bool {
					now, err := other.Load(t.Context(), key)
					return err == nil && now.Now.After(now.LeaseEnd)
				}, time.Minute, time.Millisecond)
				writer := holder
				if about == "the doubt is marked" {
					writer.Owner = "c"
				}
				writer.Lease = time.Minute
				client.AddHook(pipelines{"get", func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
					return errors.Join(next(ctx, cmds[:n]), meanwhile(writer), next(ctx, cmds[n:]))
				}})
				r, err := s.Acquire(t.Context(), bid(key, "b", time.Minute))
				require.NoError(t, err)
				if r.State == store.Running && !r.Owned("b") {
					require.Equal(t, "it is renewed", about)
					require.Greater(t, r.LeaseEnd.Sub(r.Now), 30*time.Second, "that lease is over")
				}
			})
		}
	}
}

// A record that is kept forever is not looked at in vain, again and again.
func TestRedis_LooksAtNothingThatIsKeptForever(t *testing.T) {
	t.Parallel()
	client, hook := dialRedis(t, startRedis(t)), &tripHook{}
	s := newRedis(t, client)
	b := redisBid("k", "a")
	b.TTL = store.Forever
	mustAcquire(t, s, b)
	mustSettle(t, s, b, redisDone)
	client.AddHook(hook)
	b.Owner, b.TTL = "b", time.Hour
	for range 3 {
		mustAcquire(t, s, b)
	}
	require.Equal(t, []string{"evalsha", "evalsha", "evalsha"}, hook.since())
}

// A server that does not answer a look is not asked for a script as well: a call takes as
// long as the client lets one take.
func TestRedis_LooksThatGetNoAnswerAreTheCalls(t *testing.T) {
	t.Parallel()
	client, hook := dialRedis(t, startRedis(t)), &tripHook{}
	s := newRedis(t, client)
	mustAcquire(t, s, redisBid("k", "a"))
	mustSettle(t, s, redisBid("k", "a"), redisDone)
	client.AddHook(hook)
	client.AddHook(pipelines{"get", answering(io.ErrUnexpectedEOF)})
	_, err := s.Acquire(t.Context(), redisBid("k", "b"))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NotContains(t, hook.since(), "evalsha")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Acquire(ended, redisBid("k", "b"))
	require.ErrorIs(t, err, context.Canceled)
}

// A pipeline that meets a server which has been demoted, or that does not know the
// scripts, keeps its connection: each renewal is asked again alone, where the client finds
// the right server, but not again and again where there is none.
func TestRedis_RenewAllFindsAnotherServer(t *testing.T) {
	t.Parallel()
	client, hook := dialRedis(t, startRedis(t)), &tripHook{}
	s := newRedis(t, client)
	var bids []store.Bid
	for i := range 10 {
		bids = append(bids, redisBid(fmt.Sprint(i), "a"))
		mustAcquire(t, s, bids[i])
	}
	readOnly := client.Eval(t.Context(), "return redis.error_reply('READONLY it is a replica')", nil).Err()
	require.True(t, redis.HasErrorPrefix(readOnly, "READONLY"))
	client.AddHook(hook)
	client.AddHook(pipelines{"evalsha", answering(readOnly)})
	for _, r := range s.RenewAll(t.Context(), bids) {
		require.NoError(t, r.Err)
	}
	client.AddHook(refusing{readOnly})
	hook.since()
	for _, r := range s.RenewAll(t.Context(), bids) {
		require.ErrorIs(t, r.Err, readOnly)
	}
	require.Len(t, hook.since(), 2)
}

// refusing has each single command end with an error.
type refusing struct{ err error }

func (refusing) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h refusing) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		cmd.SetErr(h.err)
		return h.err
	}
}

func (refusing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
