package redisstore_test

import (
	"encoding/binary"
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

// forgedBytes stand in for each byte of a record: lengths, forms, flags and letters.
var forgedBytes = []byte{0, 1, 2, 3, 64, 127, 191, 192, 194, 195, 196, 197, 198, 199, 200, 201, 202, 203, 255, 'r', 'd', 'p', 's', 'f', 't', 'c'}

// forgedNumbers stand in for each number of a head.
var forgedNumbers = []uint64{0, 1, 1<<32 - 1, 1<<53 - 2, 1<<53 - 1, 1 << 53, 1<<56 - 1}

// forgeries are what a test puts in the place of a whole record.
func forgeries(random *rand.Rand, whole string) (all []string) {
	for i := range whole {
		for range 3 {
			forged := []byte(whole)
			forged[i] = forgedBytes[random.IntN(len(forgedBytes))]
			all = append(all, string(forged))
		}
		if i%4 == 0 {
			all = append(all, whole[:i])
		}
	}
	for i := 8; i < redisstore.HeadSize; i += 7 {
		for _, n := range forgedNumbers {
			all = append(all, whole[:i]+string(binary.BigEndian.AppendUint64(nil, n)[1:])+whole[i+7:])
		}
	}
	for _, revision := range []string{"\x00\x00\x00\x00", "\xff\xff\xff\xff", "\xff\xff\xff\xfe"} {
		all = append(all, whole[:4]+revision+whole[8:])
	}
	for range 300 {
		all = append(all, mangle(random, whole))
	}
	return append(all, "", "x", "\x00", "\x02", "\x1f", "\x20", whole+"\x00", whole+whole, whole[:redisstore.HeadSize]+strings.Repeat("\xc8", 1<<20),
		whole[:redisstore.HeadSize]+strings.Repeat("\x00", 1<<20), whole+strings.Repeat("x", 32<<20), whole[:3]+"\xff"+whole[4:])
}

// TestRedis_ForgedRecordsCostARefusal puts forged bytes into every place of records
// in every state, and asks every verb: either the record is refused and stays as it
// is, or what is read and written can be read again.
func TestRedis_ForgedRecordsCostARefusal(t *testing.T) {
	t.Parallel()
	client := dialRedis(t, startRedis(t))
	s := newRedis(t, client)
	refused := map[string]int{}
	for turn, situation := range slices.Sorted(maps.Keys(redisSituations)) {
		b, prepare := redisBid(situation, "a"), redisSituations[situation]
		prepare(t, s, b)
		whole, err := client.Get(t.Context(), redisName(b.Key)).Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		require.NoError(t, err)
		f := forger{t: t, client: client, s: s, key: b.Key, refused: refused}
		random := rand.New(rand.NewPCG(uint64(turn), 2))
		for i, value := range forgeries(random, whole) {
			f.try(value, i+2*turn)
		}
	}
	for verb := range redisVerbs(s, store.Bid{}, store.Record{}) {
		require.Positive(t, refused[verb], verb)
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
			bytes = slices.Insert(bytes, i, forgedBytes[random.IntN(len(forgedBytes))])
		}
		bytes = append(bytes, 'x')
	}
	return string(bytes[:len(bytes)-1])
}

type forger struct {
	t       *testing.T
	client  redis.UniversalClient
	s       *redisstore.Store
	key     string
	refused map[string]int // by verb
}

func (f *forger) put(value string) {
	f.t.Helper()
	require.NoError(f.t, f.client.Set(f.t.Context(), redisName(f.key), value, time.Hour).Err())
}

// try asks two of the verbs, the n-th and the one after it, or only one if the value
// costs time to send. All verbs get their turn among the situations.
func (f *forger) try(value string, n int) {
	f.t.Helper()
	ctx := f.t.Context()
	f.put(value)
	from, err := f.s.Load(ctx, f.key)
	if err != nil {
		from = store.Record{State: store.InDoubt, Revision: 1, Fence: 1}
	}
	verbs := slices.Sorted(maps.Keys(redisVerbs(f.s, store.Bid{}, store.Record{})))
	verbs = append(verbs, verbs...)[n%len(verbs):][:2]
	if len(value) > 1<<20 {
		verbs = verbs[:1]
	}
	for _, verb := range verbs {
		owner := []string{"a", "second", "stranger"}[(n+len(verb))%3]
		f.put(value)
		began := time.Now()
		b := redisBid(f.key, owner)
		if n%4 == 0 {
			b.Info.Match = "another"
		}
		r, err := redisVerbs(f.s, b, from)[verb](ctx)
		where := fmt.Sprintf("%s by %s of %s with %.300q", verb, owner, f.key, value)
		require.Less(f.t, time.Since(began), 5*time.Second, where)
		if err != nil && r.State == store.Absent {
			require.True(f.t, errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrVersion), "%s: %v", where, err)
			require.NotContains(f.t, err.Error(), "user_script", where)
			f.requireKept(value, where)
			f.refused[verb]++
			continue
		}
		_, err = f.s.Load(ctx, f.key)
		require.NoError(f.t, err, "%s: what was answered cannot be read again", where)
	}
}

func (f *forger) requireKept(value, where string) {
	f.t.Helper()
	if f.client.Get(f.t.Context(), redisName(f.key)).Val() != value { // which may be long
		require.FailNow(f.t, "it was written to", where)
	}
}

// A record whose parts contradict each other is refused by every verb.
func TestRedis_ForgedContradictionsAreRefused(t *testing.T) {
	t.Parallel()
	ctx, client := t.Context(), dialRedis(t, startRedis(t))
	s := newRedis(t, client)
	at := time.UnixMicro(1_760_000_000_000_000)
	for about, change := range map[string]func(*store.Record){
		"a marked doubt with a reason": func(r *store.Record) { r.Marked = true },
		"a doubt without data":         func(r *store.Record) { r.Outcome.Data = nil },
		"a doubt with missing data":    func(r *store.Record) { r.Outcome.Missing = "x" },
		"a doubt with a kept success":  func(r *store.Record) { r.Kept = &redisDone },
		"running with an outcome":      func(r *store.Record) { r.State, r.LeaseEnd = store.Running, at },
		"running and marked": func(r *store.Record) {
			r.State, r.LeaseEnd, r.Outcome, r.Marked = store.Running, at, store.Outcome{}, true
		},
		"marked as it was granted": func(r *store.Record) {
			r.State, r.LeaseEnd, r.Outcome, r.Marked, r.Fence = store.Running, at, store.Outcome{}, true, uint64(at.UnixMicro())
		},
		"a tombstone with an outcome": func(r *store.Record) { r.State, r.Settled = store.Tombstone, at },
		"settled with a kept success": func(r *store.Record) {
			r.State, r.Settled, r.Outcome.State, r.Kept = store.Failed, at, store.Failed, &redisDone
		},
		"an event of no kind":      func(r *store.Record) { r.History = []store.Turn{{At: at}} },
		"no owner":                 func(r *store.Record) { r.Owner = "" },
		"an owner too long":        func(r *store.Record) { r.Owner = strings.Repeat("x", 513) },
		"another key":              func(r *store.Record) { r.Key = "l" },
		"no fence":                 func(r *store.Record) { r.Fence = 0 },
		"a doubt in the ledger":    func(r *store.Record) { r.Outcome.InLedger = true },
		"a generation of no write": func(r *store.Record) { r.Generation = r.Revision + 1 },
		"no revision":              func(r *store.Record) { r.Revision = 0 },
	} {
		r := redisRecord("k", "a", store.InDoubt)
		r.Claimed, r.Doubted, r.Fence = at, at, 1
		r.Outcome = store.Outcome{State: store.InDoubt, Data: []byte("e"), Context: "c"}
		change(&r)
		packed := redisstore.PackRecord(r)
		require.NoError(t, client.Set(ctx, redisName("k"), packed, time.Hour).Err())
		for name, call := range redisVerbs(s, redisBid("k", "a"), r) {
			_, err := call(ctx)
			require.ErrorIs(t, err, store.ErrCorrupt, "%s of %s", name, about)
		}
		require.Equal(t, packed, client.Get(ctx, redisName("k")).Val(), about)
	}
}
