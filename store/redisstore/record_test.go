package redisstore_test

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

func TestRedis_Format(t *testing.T) { //nolint:tparallel // its steps share one record
	t.Parallel()
	ctx, client := t.Context(), dialRedis(t, startRedis(t))
	s := newRedis(t, client)
	const key, name = "v1/default/w.order-7/ChargeCard/k", "atmostonce:{EhzMKTZ5Xu6bS9PsvQHVo1Pn1GjcPUvjx5lHmmmq8Pg}"

	t.Run("written", func(t *testing.T) {
		b := redisBid(key, "nonce")
		b.Deadline = time.Second
		r, err := s.Acquire(ctx, b)
		require.NoError(t, err)
		at := r.Claimed.UnixMicro()
		require.Equal(t, map[string]string{
			"head": fmt.Sprintf("1 running first 1 %d %d %d %d 0 0 - nonce", at, at, at+60_000_000, at+1_000_000),
			"id":   key,
			"info": "ChargeCard 9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab " +
				" 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 default order-7 " +
				"0198d1c4-2c1b-7a53-9d0e-8f2f3f0a6f10 5  42@host 2026-01-02T03:04:05.000006Z 1 ",
		}, client.HGetAll(ctx, name).Val())
		require.Equal(t, r.Expires.UnixMilli(), client.PExpireTime(ctx, name).Val().Milliseconds())
		require.NoError(t, s.Clear(ctx))
	})

	t.Run("read", func(t *testing.T) {
		require.NoError(t, client.HSet(ctx, name, map[string]string{
			"head": "1 succeeded clean 9 1700000000000002 1700000000000000 0 0 0 1700000000000001 -f a nonce", "id": key,
			"by": "superseded", "info": "Charge%20Card           3 local later", "a later field": "is ignored",
			"data": "\x00\xff", "context": "json", "missing": "no",
			"history": `[{"what":"taken_over","at":"1700000000000000","from":"in_doubt","owner":"o","fence":"1699999999999999"}]`,
		}).Err())
		r, err := s.Load(ctx, key)
		require.NoError(t, err)
		at := time.UnixMicro(1700000000000000).UTC()
		require.Equal(t, store.Record{
			Key: key, State: store.Succeeded, Owner: "a nonce", Fence: 1700000000000002, Revision: 9, Now: r.Now,
			Claimed: at, Settled: at.Add(time.Microsecond), Origin: store.Clean, Forgotten: true, By: store.BySuperseded,
			Info:    store.Info{Activity: "Charge Card", Holder: store.Holder{Attempt: 3, Local: true}},
			Outcome: store.Outcome{State: store.Succeeded, Data: []byte("\x00\xff"), Context: "json", Missing: "no"},
			History: []store.Turn{{What: "taken_over", At: at, From: store.InDoubt, Owner: "o", Fence: 1699999999999999}},
		}, r)
	})
}

// A field that Info gains has to be written and read too.
func TestRedis_KeepsAllOfInfo(t *testing.T) {
	t.Parallel()
	s, b := newRedis(t, dialRedis(t, startRedis(t))), redisBid("k", "a")
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.UTC)
	fill(t, reflect.ValueOf(&b.Info).Elem(), at)
	_, err := s.Acquire(t.Context(), b)
	require.NoError(t, err)
	r, err := s.Load(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, b.Info, r.Info)
}

func fill(t *testing.T, v reflect.Value, at time.Time) {
	t.Helper()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Interface().(type) {
		case string:
			f.SetString(fmt.Sprintf("%d of %s: %% /\x00\xff\nü+", i, v.Type()))
		case bool:
			f.SetBool(true)
		case int32:
			f.SetInt(-7)
		case time.Time:
			f.Set(reflect.ValueOf(at))
		default:
			require.Equal(t, reflect.Struct, f.Kind(), "a field of a new kind: %s", v.Type().Field(i).Name)
			fill(t, f, at)
		}
	}
}

// The clock of a server may be set back between a grant and its renewal, or be behind
// that of the server whose place it takes.
func TestRedis_RenewsByAnEarlierClock(t *testing.T) {
	t.Parallel()
	client := dialRedis(t, startRedis(t))
	s, b := newRedis(t, client), redisBid("k", "a")
	redisSituations["over"](t, s, b)
	require.Equal(t, store.InDoubt, mustAcquire(t, s, b).State)
	b.Owner = "o"
	head := strings.Fields(client.HGet(t.Context(), redisName("k"), "head").Val())
	claimed, err := strconv.ParseInt(head[5], 10, 64)
	require.NoError(t, err)
	head[5] = strconv.FormatInt(claimed+1e12, 10)
	require.NoError(t, client.HSet(t.Context(), redisName("k"), "head", strings.Join(head, " ")).Err())
	_, err = s.Renew(t.Context(), b)
	require.NoError(t, err)
	r, err := s.Load(t.Context(), "k")
	require.NoError(t, err)
	require.True(t, r.Owned("o"))
	require.True(t, r.LeaseEnd.Before(r.Claimed))
}
