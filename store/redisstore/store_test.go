package redisstore_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
	"github.com/atmostonce/atmostonce/store/storetest"
)

func TestRedis_Contract(t *testing.T) {
	t.Parallel()
	addr := startRedis(t)
	storetest.Run(t, func(t *testing.T) storetest.Harness {
		return storetest.Harness{Open: func(tb testing.TB) store.Store {
			s, err := redisstore.New(dialRedis(tb, addr), redisstore.Options{Prefix: t.Name() + ":"})
			require.NoError(tb, err)
			return s
		}}
	})
}

// runContract holds stores on one client to the contract.
func runContract(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	storetest.Run(t, func(t *testing.T) storetest.Harness {
		return storetest.Harness{Open: func(tb testing.TB) store.Store {
			s, err := redisstore.New(client, redisstore.Options{Prefix: t.Name() + ":"})
			require.NoError(tb, err)
			return s
		}}
	})
}

func TestRedis_SaysItsKind(t *testing.T) {
	t.Parallel()
	var s store.Store = newRedis(t, dialRedis(t, "127.0.0.1:1"))
	require.Equal(t, "redis", s.(store.Kinded).Kind())
	require.NotImplements(t, (*store.OwnerWatcher)(nil), s, "it goes by the lease")
}

// What is invalid is refused before a server is asked: there is none.
func TestRedis_RefusesWhatIsInvalid(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), newRedis(t, dialRedis(t, "127.0.0.1:1", func(o *redis.Options) { o.MaxRetries = -1 }))
	long := strings.Repeat("x", 64<<10+1)
	noNonce, longInfo := redisBid("k", ""), redisBid("k", "a")
	longInfo.Info.Holder.OriginalRunID = long
	for about, b := range map[string]store.Bid{"a long key": redisBid(long, "a"), "no nonce": noNonce, "a long text of Info": longInfo} {
		for name, call := range redisVerbs(s, b, store.Record{}) {
			if name == "Resolve" || name == "Load" {
				continue // they take no bid
			}
			_, err := call(ctx)
			require.ErrorIs(t, err, store.ErrInvalid, "%s of %s", name, about)
		}
	}
	for about, o := range map[string]store.Outcome{
		"no state": {}, "data": {State: store.Succeeded, Data: make([]byte, store.MaxData+1)}, "a context": {State: store.Failed, Context: long},
	} {
		_, err := s.Settle(ctx, redisBid("k", "a"), o)
		require.ErrorIs(t, err, store.ErrInvalid, about)
		_, err = s.Resolve(ctx, "k", store.Record{}, store.Resolution{ID: "1", To: o.State, By: store.ByOperator, TTL: time.Hour, Outcome: o})
		require.ErrorIs(t, err, store.ErrInvalid, about)
	}
	_, err := s.Resolve(ctx, "k", store.Record{}, store.Resolution{ID: "1", To: store.Failed, By: store.ByOperator, TTL: time.Hour, Why: long})
	require.ErrorIs(t, err, store.ErrInvalid)
}

func redisBid(key, owner string) store.Bid {
	return store.Bid{
		Key: key, Owner: owner, Lease: time.Minute, TTL: 24 * time.Hour, Began: true,
		Info: store.Info{
			Activity: "ChargeCard", Input: "9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab",
			Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
			Holder: store.Holder{
				Namespace: "default", WorkflowID: "order-7", RunID: "0198d1c4-2c1b-7a53-9d0e-8f2f3f0a6f10",
				ActivityID: "5", Scheduled: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), Attempt: 1, Worker: "42@host",
			},
		},
	}
}

var redisDone = store.Outcome{State: store.Succeeded, Data: []byte(`{"receipt":"4711"}`), Context: "json"}

// redisName is the name of a record.
func redisName(key string) string {
	h := sha256.Sum256([]byte(key))
	return "atmostonce:{" + base64.RawURLEncoding.EncodeToString(h[:])[:22] + "}"
}

// redisVerbs are all calls about one record.
func redisVerbs(s *redisstore.Store, b store.Bid, from store.Record) map[string]func(context.Context) (store.Record, error) {
	return map[string]func(context.Context) (store.Record, error){
		"Acquire":  func(ctx context.Context) (store.Record, error) { return s.Acquire(ctx, b) },
		"Renew":    func(ctx context.Context) (store.Record, error) { return s.Renew(ctx, b) },
		"Settle":   func(ctx context.Context) (store.Record, error) { return s.Settle(ctx, b, redisDone) },
		"Release":  func(ctx context.Context) (store.Record, error) { return s.Release(ctx, b) },
		"Takeover": func(ctx context.Context) (store.Record, error) { return s.Takeover(ctx, b, from) },
		"Resolve": func(ctx context.Context) (store.Record, error) {
			return s.Resolve(ctx, b.Key, from, store.Resolution{
				ID: "r", To: store.Failed, By: store.ByOperator, TTL: time.Hour, Force: true,
			})
		},
		"Load": func(ctx context.Context) (store.Record, error) { return s.Load(ctx, b.Key) },
	}
}

func TestNewRedis_RefusesClients(t *testing.T) {
	t.Parallel()
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}})
	t.Cleanup(func() { _ = ring.Close() })
	_, err := redisstore.New(ring, redisstore.Options{})
	require.ErrorIs(t, err, store.ErrUnsafe)
	_, err = redisstore.New(nil, redisstore.Options{})
	require.ErrorIs(t, err, store.ErrInvalid)
	var none *redis.Client
	_, err = redisstore.New(none, redisstore.Options{})
	require.ErrorIs(t, err, store.ErrInvalid)
}

func TestRedis_RefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	ctx, client := t.Context(), dialRedis(t, startRedis(t))
	s := newRedis(t, client)
	for about, c := range map[string]struct {
		forge func(whole string) string
		want  error
	}{
		"the next version":  {func(whole string) string { return "\x02" + whole[1:] }, store.ErrVersion},
		"the last version":  {func(string) string { return "\x1f" }, store.ErrVersion},
		"no version":        {func(whole string) string { return "\x00" + whole[1:] }, store.ErrCorrupt},
		"a text":            {func(string) string { return "not a record" }, store.ErrCorrupt},
		"nothing":           {func(string) string { return "" }, store.ErrCorrupt},
		"no such state":     {func(whole string) string { return whole[:1] + "x" + whole[2:] }, store.ErrCorrupt},
		"no such origin":    {func(whole string) string { return whole[:2] + "x" + whole[3:] }, store.ErrCorrupt},
		"no such flag":      {func(whole string) string { return whole[:3] + "\x80" + whole[4:] }, store.ErrCorrupt},
		"a flag too many":   {func(whole string) string { return whole[:3] + "\x48" + whole[4:] }, store.ErrCorrupt},
		"no revision":       {func(whole string) string { return whole[:4] + "\x00\x00\x00\x00" + whole[8:] }, store.ErrCorrupt},
		"a fence too large": {func(whole string) string { return whole[:8] + "\x20" + whole[9:] }, store.ErrCorrupt},
		"a head alone":      {func(whole string) string { return whole[:redisstore.HeadSize] }, store.ErrCorrupt},
		"less at the end":   {func(whole string) string { return whole[:len(whole)-1] }, store.ErrCorrupt},
		"more at the end":   {func(whole string) string { return whole + "\x00" }, store.ErrCorrupt},
		"another key":       {func(whole string) string { return strings.Replace(whole, "secret", "Secret", 1) }, store.ErrCorrupt},
	} {
		key := "secret-" + about
		b := redisBid(key, "a")
		from, err := s.Acquire(ctx, b)
		require.NoError(t, err)
		forged := c.forge(client.Get(ctx, redisName(key)).Val())
		require.NoError(t, client.Set(ctx, redisName(key), forged, time.Hour).Err())
		for name, call := range redisVerbs(s, b, from) {
			_, err := call(ctx)
			require.ErrorIs(t, err, c.want, "%s with %s", name, about)
			require.NotContains(t, err.Error(), key)
		}
		require.Equal(t, forged, client.Get(ctx, redisName(key)).Val(), about)
	}
}

func TestRedis_RefusesAnotherType(t *testing.T) {
	t.Parallel()
	ctx, client := t.Context(), dialRedis(t, startRedis(t))
	s := newRedis(t, client)
	require.NoError(t, client.HSet(ctx, redisName("k"), "not", "a record").Err())
	for name, call := range redisVerbs(s, redisBid("k", "a"), store.Record{}) {
		_, err := call(ctx)
		require.ErrorIs(t, err, store.ErrCorrupt, name)
	}
	require.Equal(t, "a record", client.HGet(ctx, redisName("k"), "not").Val())
}

func TestRedis_RefusesTheRecordOfAnotherKey(t *testing.T) {
	t.Parallel()
	ctx, client := t.Context(), dialRedis(t, startRedis(t))
	s := newRedis(t, client)
	_, err := s.Acquire(ctx, redisBid("k", "a"))
	require.NoError(t, err)
	require.NoError(t, client.Rename(ctx, redisName("k"), redisName("l")).Err())
	for name, call := range redisVerbs(s, redisBid("l", "a"), store.Record{}) {
		_, err := call(ctx)
		require.ErrorIs(t, err, store.ErrCorrupt, name)
	}
	for _, err := range s.List(ctx, store.Query{}) {
		require.ErrorIs(t, err, store.ErrCorrupt)
	}
}

func TestRedis_ListGoesOnPastACorruptRecord(t *testing.T) {
	t.Parallel()
	ctx, client := t.Context(), dialRedis(t, startRedis(t))
	s := newRedis(t, client)
	for _, key := range []string{"k1", "k2", "k3"} {
		_, err := s.Acquire(ctx, redisBid(key, "a"))
		require.NoError(t, err)
	}
	require.NoError(t, client.Set(ctx, redisName("k2"), "x", 0).Err())
	require.NoError(t, client.ScriptFlush(ctx).Err())
	var keys []string
	var failed error
	for r, err := range s.List(ctx, store.Query{State: store.Running}) {
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		keys = append(keys, r.Key)
	}
	slices.Sort(keys)
	require.Equal(t, []string{"k1", "k3"}, keys)
	require.ErrorIs(t, failed, store.ErrCorrupt)
	require.ErrorContains(t, failed, redisName("k2"), "an operator has to find it")
}

func TestRedis_PrefixesDoNotTouch(t *testing.T) {
	t.Parallel()
	ctx, client := t.Context(), dialRedis(t, startRedis(t))
	var stores []*redisstore.Store
	for _, prefix := range []string{"a*:", "ab:", "a[b]:"} {
		s, err := redisstore.New(client, redisstore.Options{Prefix: prefix})
		require.NoError(t, err)
		r, err := s.Acquire(ctx, redisBid("k", prefix))
		require.NoError(t, err)
		require.True(t, r.Owned(prefix))
		stores = append(stores, s)
	}
	require.NoError(t, client.Set(ctx, "somebody else's", "", 0).Err())
	for i, s := range stores {
		n := 0
		for _, err := range s.List(ctx, store.Query{}) {
			require.NoError(t, err)
			n++
		}
		require.Equal(t, 1, n)
		require.NoError(t, s.Clear(ctx))
		require.EqualValues(t, 2*(len(stores)-i)-1, client.DBSize(ctx).Val(), "a record and an index of each, and the other key")
	}
}

func TestRedis_SurvivesScriptFlush(t *testing.T) {
	t.Parallel()
	ctx, client := t.Context(), dialRedis(t, startRedis(t))
	s := newRedis(t, client)
	b := redisBid("k", "a")
	_, err := s.Acquire(ctx, b)
	require.NoError(t, err)
	require.NoError(t, client.ScriptFlush(ctx).Err())
	r, err := s.Settle(ctx, b, redisDone)
	require.NoError(t, err)
	require.NoError(t, client.ScriptFlush(ctx).Err())
	replay, err := s.Acquire(ctx, redisBid("k", "b"))
	require.NoError(t, err)
	require.Equal(t, r.Outcome, replay.Outcome)
}

// A server at its limit must not stop what is underway from being recorded.
func TestRedis_SettlesAtTheMemoryLimit(t *testing.T) {
	t.Parallel()
	ctx, client := t.Context(), dialRedis(t, startRedis(t))
	s := newRedis(t, client)
	keys := []string{"settle", "release", "doubt", "renew", "marked"}
	for _, key := range keys {
		b := redisBid(key, "a")
		if key == "marked" {
			b.Lease = time.Millisecond
		}
		_, err := s.Acquire(ctx, b)
		require.NoError(t, err)
	}
	require.NoError(t, client.ConfigSet(ctx, "maxmemory", "1").Err())

	_, err := s.Acquire(ctx, redisBid("new", "a"))
	require.ErrorIs(t, err, store.ErrFull)
	r, err := s.Settle(ctx, redisBid("settle", "a"), redisDone)
	require.NoError(t, err)
	require.Equal(t, store.Succeeded, r.State)
	long := redisBid("settle", "b")
	long.TTL = store.Forever
	r, err = s.Acquire(ctx, long)
	require.NoError(t, err, "a duplicate is answered, and counts as contact")
	require.Equal(t, redisDone, r.Outcome)
	require.Zero(t, r.Expires)
	_, err = s.Release(ctx, redisBid("release", "a"))
	require.NoError(t, err)
	_, err = s.Renew(ctx, redisBid("renew", "a"))
	require.NoError(t, err)
	r, err = s.Settle(ctx, redisBid("doubt", "a"), store.Outcome{State: store.InDoubt})
	require.NoError(t, err)
	_, err = s.Takeover(ctx, redisBid("doubt", "b"), r)
	require.ErrorIs(t, err, store.ErrFull)
	r, err = s.Resolve(ctx, "doubt", r, store.Resolution{ID: "r", To: store.Failed, By: store.ByOperator, TTL: time.Hour})
	require.NoError(t, err)
	require.Equal(t, store.Failed, r.State)
	_, err = s.Settle(ctx, redisBid("forgotten", "a"), redisDone)
	require.NoError(t, err)
	_, err = s.Acquire(ctx, redisBid("release", "b"))
	require.ErrorIs(t, err, store.ErrFull)
}

func TestRedis_CallsEndWithTheirContext(t *testing.T) {
	t.Parallel()
	s := newRedis(t, dialRedis(t, startRedis(t)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range redisVerbs(s, redisBid("k", "a"), store.Record{}) {
		_, err := call(ctx)
		require.ErrorIs(t, err, context.Canceled, name)
	}
}
