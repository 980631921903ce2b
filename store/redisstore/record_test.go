package redisstore_test

import (
	"encoding/hex"
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

// The records of builds that know of no other form must stay readable.
func TestRedis_Format(t *testing.T) { //nolint:tparallel // its steps share one record
	t.Parallel()
	ctx, client := t.Context(), dialRedis(t, startRedis(t))
	s := newRedis(t, client)
	const key, name = "v1/default/w.order-7/ChargeCard/k", "atmostonce:{EhzMKTZ5Xu6bS9PsvQHVo1}"

	t.Run("written", func(t *testing.T) {
		b := redisBid(key, "4CZHDB736XMFFYSEGMRFW3DIR5")
		b.Deadline = time.Second
		r, err := s.Acquire(ctx, b)
		require.NoError(t, err)
		at, seven := r.Claimed.UnixMicro(), func(n int64) string { return fmt.Sprintf("%014x", n) }
		require.Equal(t, "01"+hex.EncodeToString([]byte("rf"))+"40"+"00000001"+seven(at)+seven(at+60_000_000)+seven(at+1_000_000)+
			"c4"+"e0b27187fbf5d852e24433225b6c688f40"+
			"21"+hex.EncodeToString([]byte(key))+
			"c6150a"+"c29c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab"+"00"+
			"c50af7651916cd43dd8448eb211c80319cb7ad6b716920333101"+"c60307"+"c60d07"+"c30198d1c42c1b7a539d0e8f2f3f0a6f10"+"00"+"0135"+"00"+
			"07"+hex.EncodeToString([]byte("42@host"))+"00"+"00"+"0ee0e92ca5"+"00001770"+"01"+"00",
			hex.EncodeToString([]byte(client.Get(ctx, name).Val())))
		require.Equal(t, r.Expires.UnixMilli(), client.PExpireTime(ctx, name).Val().Milliseconds())
		require.NoError(t, s.Clear(ctx))
	})

	t.Run("read", func(t *testing.T) {
		packed, err := hex.DecodeString("01" + hex.EncodeToString([]byte("sc")) + "ba" + "00000009" + "060a24181e4002" + "060a24181e4001" + "00000000000000" + "060a24181e4000" + "00000002" +
			"07" + hex.EncodeToString([]byte("a nonce")) + "21" + hex.EncodeToString([]byte(key)) +
			"0b" + hex.EncodeToString([]byte("Charge Card")) + "00000000000000000000" + "03" + hex.EncodeToString([]byte("txn")) + "01" + "0000000000" + "00000000" + "03" + "ff80000000" +
			"0a" + hex.EncodeToString([]byte("superseded")) + "07" + "00000002" + "00ff" + "04" + hex.EncodeToString([]byte("json")) + "02" + hex.EncodeToString([]byte("no")) +
			"01" + "0a" + hex.EncodeToString([]byte("taken_over")) + "060a24181e4000" + hex.EncodeToString([]byte("d")) + "01" + hex.EncodeToString([]byte("o")) + "060a24181e3fff" +
			"0000000000")
		require.NoError(t, err)
		require.NoError(t, client.Set(ctx, name, packed, 0).Err())
		r, err := s.Load(ctx, key)
		require.NoError(t, err)
		at := time.UnixMicro(1700000000000000).UTC()
		require.Equal(t, store.Record{
			Key: key, State: store.Succeeded, Owner: "a nonce", Fence: 1700000000000002, Revision: 9, Generation: 2, Now: r.Now,
			Claimed: at, Settled: at.Add(time.Microsecond), Origin: store.Clean, Forgotten: true, By: store.BySuperseded,
			Info:    store.Info{Activity: "Charge Card", Ledger: "txn", Holder: store.Holder{Attempt: 3, Occurrence: math.MinInt32, Local: true}},
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
	r, err := s.Load(t.Context(), "k")
	require.NoError(t, err)
	r.Claimed = r.Claimed.Add(1e6 * time.Second)
	require.NoError(t, client.Set(t.Context(), redisName("k"), redisstore.PackRecord(r), redis.KeepTTL).Err())
	_, err = s.Renew(t.Context(), b)
	require.NoError(t, err)
	r, err = s.Load(t.Context(), "k")
	require.NoError(t, err)
	require.True(t, r.Owned("o"))
	require.True(t, r.LeaseEnd.Before(r.Claimed))
}
