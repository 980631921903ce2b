package redisstore_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

// forgedNumbers stand in for each number of a record.
var forgedNumbers = []string{
	"", "0", "00", "-1", "1", "007", "1.5", "1e3", "1e400", "0x10", "nan", "inf", "-inf", "9007199254740990", "9007199254740991",
	"9007199254740992", "9999999999999999", "99999999999999999", "9223372036854775808", "18446744073709551616", strings.Repeat("9", 400), "x", "\x00",
}

// forgedTexts stand in for each field of a record.
var forgedTexts = []string{
	"", " ", "\x00", "\xff\xfe", "x", "1", "nil", "[]", "{}", "null", "%", "%zz", "%0", "1 2 3", strings.Repeat(" ", 12), strings.Repeat(" ", 40),
	strings.Repeat("x", 64<<10), strings.Repeat("x", 64<<10+1), strings.Repeat("[", 5000), strings.Repeat("%41", 1000),
}

// forgedHistories are what cjson reads, or not.
var forgedHistories = []string{
	`[`, `[]`, `[[]]`, `[{}]`, `[1]`, `[null]`, `["a"]`, `{"1":{"what":"x","at":"1"}}`, `[{"what":"x"}]`, `[{"at":"1"}]`, `[{"what":"","at":"1"}]`,
	`[{"what":"x","at":1}]`, `[{"what":"x","at":""}]`, `[{"what":"x","at":"","fence":"1"}]`, `[{"what":"x","at":"-1"}]`, `[{"what":"x","at":"0"}]`,
	`[{"what":"x","at":"1e3"}]`, `[{"what":"x","at":"99999999999999999999"}]`, `[{"what":"x","at":"1","fence":"x"}]`, `[{"what":"x","at":"1","fence":1}]`,
	`[{"what":"x","at":"1","fence":"99999999999999999999"}]`, `[{"what":"x","at":"01"}]`, `[{"what":"x","at":"1","AT":"x"}]`,
	`[{"what":"x","at":"x","at":"1"}]`, `[{"what":"x","at":1,"at":"1"}]`, `[{"what":"x","at":nan,"at":"1"}]`, `[{"what":"x","at":"1","by":nan}]`,
	`[{"what":"x","at":"1","by":Infinity}]`, `[{"what":"x","at":"1","by":0x10}]`, `[{"what":"x","at":"1","by":{}}]`, `[{"what":"x","at":"1","by":null}]`,
	`[{"what":"x","at":"1","by":true}]`, "[{\"what\":\"x\ny\",\"at\":\"1\"}]", "[{\"what\":\"x\",\n\"at\":\"1\"}]", `[{"what":"x","at":"1"}] `,
	`[{"what":"x","at":"1"}]x`, `[{"what":"x","at":"1"},]`, `[{"what":"\ud800","at":"1"}]`, `[{"what":"\u0000","at":"1"}]`, `[{"what":"\x","at":"1"}]`,
	"[{\"what\":\"\xff\",\"at\":\"1\"}]", `[{"what":"resolved","at":"1","id":"r"}]`, `[{"what":"released","at":"1","owner":"a"}]`,
	`[{"what":"conflict","at":"1","owner":"a"}]`, `[{"what":"x","at":"1","":"y"}]`, `[{"what":"x","at":"1","later":"y"}]`, `[[{"what":"x","at":"1"}]]`,
	`[{"what":"x","at":"1"},[]]`, `[{"what":"x","at":"1"},"s","s"]`,
	`[` + strings.Repeat(`{"what":"x","at":"1"},`, 64) + `{"what":"x","at":"1"}]`,
	`[` + strings.Repeat(`{"what":"x","at":"1"},`, 100_000) + `{"what":"x","at":"1"}]`,
	`[` + strings.Repeat(`{},`, 1_300_000) + `{}]`, strings.Repeat(`[`, 1_000_000), strings.Repeat(`[`, 900) + strings.Repeat(`]`, 900),
	strings.Repeat(`{"a":`, 100_000), `[{"what":"x","at":"1"` + strings.Repeat(`,"a":"b"`, 5000) + `}]`,
	`[{"what":"x","at":"1","why":"` + strings.Repeat("\xff", 3<<20) + `"}]`, strings.Repeat("1,", 2_000_000), "\x00", strings.Repeat(`"`, 4<<20),
	strings.Repeat(`\`, 4<<20), strings.Repeat(`\"`, 2<<20),
}

var forgedInfos = []string{
	"a b c d e f g h i j k 1 l", "a b c d e f g h i j  1 ", "a b c d e f g h i j  x ", "a b c d e f g h i j  1.5 ", "a b c d e f g h i j  1e3 ",
	"a b c d e f g h i j  99999999999 ", "a b c d e f g h i j  2147483648 ", "a b c d e f g h i j  -2147483649 ", "a b c d e f g h i j  + ", "% b c d e f g h i j  1 ",
	"a b c d e f g h i j  1  r x", "a b c d e f g h i j  1  r ", "a b c d e f g h i j  1  r 1", "a b c d e f g h i j 2026-02-30T00:00:00Z 1 ",
	"a b c d e f g h i j 2024-02-29T00:00:00Z 1 ", "a b c d e f g h i j 2100-02-29T00:00:00Z 1 ", "a b c d e f g h i j 2026-04-31T00:00:00Z 1 ",
	"a b c d e f g h i j 2026-07-31T23:59:59.123456789Z 1 ", "a b c d e f g h i j 2026-08-31T23:59:60Z 1 ", "a b c d e f g h i j 2026-13-01T00:00:00Z 1 ",
	"a b c d e f g h i j 2026-00-01T00:00:00Z 1 ", "a b c d e f g h i j 2026-01-00T00:00:00Z 1 ", "a b c d e f g h i j 2026-01-01T24:00:00Z 1 ",
	"a b c d e f g h i j 2026-01-01T00:00:00 1 ", "a b c d e f g h i j 2026-01-01T00:00:00.Z 1 ", "a b c d e f g h i j 2026-01-01T00:00:00+01:00 1 ",
	"a b c d e f g h i j 12026-01-01T00:00:00Z 1 ", "a\nb b c d e f g h i j  1 ", "a%4 b c d e f g h i j  1 ", "a b c d e f g h i j  1 " + strings.Repeat(" x", 3000),
	strings.Repeat("x", 3<<20) + " b c d e f g h i j  1 ", strings.Repeat("x", 5<<20),
}

// forgeries are the values of one field that a test puts in place of its own.
func forgeries(field, value string) []string {
	texts := slices.Clone(forgedTexts)
	switch field {
	case "info":
		return append(texts, forgedInfos...)
	case "history":
		return append(texts, forgedHistories...)
	case "data", "kept_data":
		return append(texts, strings.Repeat("x", 16<<20), strings.Repeat("x", 64<<20))
	case "head":
		words := strings.SplitN(value, " ", 12)
		for i := range words {
			for _, number := range append(forgedNumbers, "running", "in_doubt", "pending", "succeeded", "failed", "tombstone", "first", "taken", "clean",
				"-", "-m", "-f", "-k", "-mfk", "-km", "-mm", "a", "second", strings.Repeat("o", 513)) {
				forged := slices.Clone(words)
				forged[i] = number
				texts = append(texts, strings.Join(forged, " "))
			}
		}
		return append(texts, value+" ", " "+value, value+"\n", "\x00"+value, strings.ReplaceAll(value, " ", "  "), strings.Repeat("1 ", 30_000))
	}
	return texts
}

var recordFields = []string{
	"head", "id", "info", "by", "history", "data", "context", "missing", "kept_data", "kept_context", "kept_missing", "later",
}

// TestRedis_ForgedRecordsCostARefusal puts forged values into every field of
// records in every state, and asks every verb: either the record is refused and
// stays as it is, or what is read and written can be read again.
func TestRedis_ForgedRecordsCostARefusal(t *testing.T) {
	t.Parallel()
	client := dialRedis(t, startRedis(t))
	s := newRedis(t, client)
	for turn, situation := range slices.Sorted(maps.Keys(redisSituations)) {
		b, prepare := redisBid(situation, "a"), redisSituations[situation]
		prepare(t, s, b)
		whole := client.HGetAll(t.Context(), redisName(b.Key)).Val()
		if len(whole) == 0 {
			continue
		}
		f := forger{t: t, client: client, s: s, key: b.Key, whole: whole}
		for _, field := range recordFields {
			for i, value := range forgeries(field, whole[field]) {
				costly := len(value) > 1<<20
				if costly && situation != "kept" && (field != "data" || situation != "succeeded") {
					continue
				}
				f.try(field, value, costly, i+2*turn)
			}
		}
		random := rand.New(rand.NewPCG(1, 2))
		for i := range 200 {
			field := slices.Sorted(maps.Keys(whole))[random.IntN(len(whole))]
			f.try(field, mangle(random, whole[field]), false, i+2*turn)
		}
	}
}

// mangle changes a byte or two of text.
func mangle(random *rand.Rand, text string) string {
	bytes := []byte(text + "x")
	for range 1 + random.IntN(2) {
		i := random.IntN(len(bytes))
		switch random.IntN(3) {
		case 0:
			bytes[i] = byte(random.IntN(256))
		case 1:
			bytes = slices.Delete(bytes, i, min(i+1+random.IntN(3), len(bytes)))
		default:
			bytes = slices.Insert(bytes, i, "0 9-mfk"[random.IntN(7)])
		}
		bytes = append(bytes, 'x')
	}
	return string(bytes[:len(bytes)-1])
}

type forger struct {
	t      *testing.T
	client redis.UniversalClient
	s      *redisstore.Store
	key    string
	whole  map[string]string
}

func (f *forger) put(field, value string) {
	f.t.Helper()
	p := f.client.TxPipeline()
	p.Del(f.t.Context(), redisName(f.key))
	p.HSet(f.t.Context(), redisName(f.key), f.whole)
	p.HSet(f.t.Context(), redisName(f.key), field, value)
	_, err := p.Exec(f.t.Context())
	require.NoError(f.t, err)
}

// try asks two of the verbs, the n-th and the one after it, or only one if the value
// costs time to send. All verbs get their turn among the situations.
func (f *forger) try(field, value string, costly bool, n int) {
	f.t.Helper()
	ctx := f.t.Context()
	f.put(field, value)
	from, err := f.s.Load(ctx, f.key)
	if err != nil {
		from = store.Record{State: store.InDoubt, Revision: 1, Fence: 1}
	}
	verbs := slices.Sorted(maps.Keys(redisVerbs(f.s, store.Bid{}, store.Record{})))
	verbs = append(verbs, verbs...)[n%len(verbs):][:2]
	if costly {
		verbs = verbs[:1]
	}
	for _, verb := range verbs {
		owner := []string{"a", "second", "stranger"}[(n+len(verb))%3]
		f.put(field, value)
		before := f.client.HGetAll(ctx, redisName(f.key)).Val()
		began := time.Now()
		b := redisBid(f.key, owner)
		b.Info.Match = "another"
		r, err := redisVerbs(f.s, b, from)[verb](ctx)
		where := fmt.Sprintf("%s by %s of %s with %s = %.300q", verb, owner, f.key, field, value)
		require.Less(f.t, time.Since(began), 5*time.Second, where)
		if err != nil && r.State == store.Absent {
			require.True(f.t, errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrVersion), "%s: %v", where, err)
			require.NotContains(f.t, err.Error(), "user_script", where)
			require.True(f.t, maps.Equal(before, f.client.HGetAll(ctx, redisName(f.key)).Val()), "%s: it was written to", where)
			continue
		}
		_, err = f.s.Load(ctx, f.key)
		require.NoError(f.t, err, "%s: what was answered cannot be read again", where)
	}
}

// A record whose fields contradict each other is refused by the verb that would
// make it unreadable, or write on under the name of another.
func TestRedis_ForgedContradictionsAreRefused(t *testing.T) {
	t.Parallel()
	ctx, client := t.Context(), dialRedis(t, startRedis(t))
	s := newRedis(t, client)

	marked := redisBid("marked, with a reason", "a")
	mustAcquire(t, s, marked)
	mustSettle(t, s, marked, store.Outcome{State: store.InDoubt, Data: []byte("e"), Context: "c"})
	name := redisName(marked.Key)
	head := client.HGet(ctx, name, "head").Val()
	require.NoError(t, client.HSet(ctx, name, "head", strings.Replace(head, " - ", " -m ", 1)).Err())
	before := client.HGetAll(ctx, name).Val()
	_, err := s.Renew(ctx, marked)
	require.ErrorIs(t, err, store.ErrCorrupt)
	require.Equal(t, before, client.HGetAll(ctx, name).Val())

	running := redisBid("running, by an operator", "a")
	mustAcquire(t, s, running)
	require.NoError(t, client.HSet(ctx, redisName(running.Key), "by", store.ByOperator).Err())
	r := mustSettle(t, s, running, redisDone)
	stored, err := s.Load(ctx, running.Key)
	require.NoError(t, err)
	require.Empty(t, stored.By, "the owner has settled it")
	require.Equal(t, r.By, stored.By)
}
