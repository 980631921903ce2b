package redisstore_test

import (
	"context"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

func TestRedis_CheckRefusesEviction(t *testing.T) {
	t.Parallel()
	ctx, client := t.Context(), dialRedis(t, startRedis(t))
	s := newRedis(t, client)
	require.NoError(t, s.Check(ctx))
	for _, policy := range []string{"allkeys-lru", "volatile-ttl"} {
		require.NoError(t, client.ConfigSet(ctx, "maxmemory-policy", policy).Err())
		err := s.Check(ctx)
		require.ErrorIs(t, err, store.ErrUnsafe)
		require.ErrorContains(t, err, policy)
		require.ErrorContains(t, err, "set maxmemory-policy noeviction")
	}
}

func TestRedis_CheckTellsWhatItMayNotRead(t *testing.T) {
	t.Parallel()
	ctx, addr := t.Context(), startRedis(t)
	admin := dialRedis(t, addr)
	user := func(name string, rules ...any) *redisstore.Store {
		args := append([]any{"ACL", "SETUSER", name, "on", ">secret", "~*", "&*", "+@all"}, rules...)
		require.NoError(t, admin.Do(ctx, args...).Err())
		return newRedis(t, dialRedis(t, addr, func(o *redis.Options) { o.Username, o.Password = name, "secret" }))
	}
	require.NoError(t, user("reads-config", "-info").Check(ctx))
	require.NoError(t, user("reads-info", "-config").Check(ctx))
	blind := user("blind", "-info", "-config")
	require.ErrorIs(t, blind.Check(ctx), store.ErrUnverified)
	_, err := blind.Acquire(ctx, redisBid("k", "a"))
	require.NoError(t, err)
	err = user("no-scripts", "-evalsha", "-eval").Check(ctx)
	require.ErrorContains(t, err, "NOPERM")
	require.NotErrorIs(t, err, store.ErrUnverified)
	require.NoError(t, admin.ConfigSet(ctx, "maxmemory-policy", "allkeys-lru").Err())
	require.ErrorIs(t, user("reads-config", "-info").Check(ctx), store.ErrUnsafe)
}

func TestRedis_CheckNamesAWrongPassword(t *testing.T) {
	t.Parallel()
	ctx, addr := t.Context(), startRedis(t, "--requirepass", "secret")
	for _, password := range []string{"", "wrong"} {
		s := newRedis(t, dialRedis(t, addr, func(o *redis.Options) { o.Password = password }))
		require.ErrorContains(t, s.Check(ctx), "store: redis: check: set Username and Password in the client's options", password)
		_, err := s.Acquire(ctx, redisBid("k", "a"))
		require.ErrorContains(t, err, "set Username and Password", password)
	}
	s := newRedis(t, dialRedis(t, addr, func(o *redis.Options) { o.Password = "secret" }))
	require.NoError(t, s.Check(ctx))
}

func TestRedis_CheckRefusesAnOldServer(t *testing.T) {
	t.Parallel()
	client := dialRedis(t, startRedis(t))
	client.AddHook(infoHook{"redis_version:7.", "redis_version:6.2.14\r\nx:"})
	err := newRedis(t, client).Check(t.Context())
	require.ErrorIs(t, err, store.ErrUnsafe)
	require.ErrorContains(t, err, "Redis 6.2.14 cannot run the store's scripts: use Redis 7.0 or newer")
}

// infoHook makes the server say something else of itself.
type infoHook struct{ old, new string }

func (infoHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (infoHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h infoHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if info, ok := cmd.(*redis.StringCmd); ok && cmd.Name() == "info" {
			info.SetVal(strings.ReplaceAll(info.Val(), h.old, h.new))
		}
		return err
	}
}
