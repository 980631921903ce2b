package redisstore

import (
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

// requireCheap bounds what f may take for an input of that many bytes.
func requireCheap(t *testing.T, input int, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	began := time.Now()
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	require.LessOrEqual(t, after.TotalAlloc-before.TotalAlloc, uint64(20*input+16<<20), "bytes allocated for an input of %d", input)
	require.Less(t, time.Since(began), 10*time.Second)
}

func sampleRecords() []store.Record {
	at := time.UnixMicro(1_700_000_000_000_000).UTC()
	running := store.Record{
		Key: "v1/default/w:order-7/ChargeCard/k", State: store.Running, Owner: "4CZHDB736XMFFYSEGMRFW3DIR5", Fence: 3, Revision: 2,
		Claimed: at, LeaseEnd: at, Origin: store.First, Info: store.Info{
			Activity: "ChargeCard", Input: strings.Repeat("0f", 32), Match: strings.Repeat("0f", 32),
			Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
			Holder: store.Holder{
				Namespace: "default", WorkflowID: "order-7", RunID: "0198d1c4-2c1b-7a53-9d0e-8f2f3f0a6f10", ActivityID: "5",
				OriginalRunID: "0198d1c4-2c1b-7a53-9d0e-8f2f3f0a6f10", Occurrence: 1, Attempt: 300, Worker: "42@host", Scheduled: at, Local: true,
			},
		},
	}
	kept := running
	kept.Kept = &store.Outcome{State: store.Succeeded, Data: []byte("42"), Missing: "no"}
	kept.History = []store.Turn{{What: store.TurnTakenOver, At: at, From: store.InDoubt, Owner: "b", Fence: 1, By: "x", Why: "y", ID: "z", FromBy: "u", Who: "v"}}
	settled := running
	settled.State, settled.LeaseEnd, settled.Settled, settled.By = store.Succeeded, time.Time{}, at, store.BySuperseded
	settled.Key = "v1/default/h:" + strings.Repeat("0f", 32)
	settled.Outcome = store.Outcome{State: store.Succeeded, Data: []byte{}, Context: contextWords[0] + "default" + contextWords[1] + "order-7" +
		contextWords[2] + "Order" + contextWords[3] + "ChargeCard" + contextWords[4] + "payments" + remoteEnd}
	doubt := running
	doubt.State, doubt.LeaseEnd, doubt.Doubted, doubt.Forgotten, doubt.Deadline = store.InDoubt, time.Time{}, at, true, at
	doubt.Outcome = store.Outcome{State: store.InDoubt, Data: []byte("why"), Context: "json"}
	doubt.Info, doubt.Owner = store.Info{Activity: strings.Repeat("x", 300)}, strings.Repeat("o", 512)
	return []store.Record{running, kept, settled, doubt}
}

// What is packed comes back, and takes little.
func TestRedis_PacksRecords(t *testing.T) {
	t.Parallel()
	for _, want := range sampleRecords() {
		r, err := unpackRecord(PackRecord(want))
		require.NoError(t, err)
		require.Equal(t, want, r)
	}
	settled := PackRecord(sampleRecords()[2])
	require.NotContains(t, settled, "Namespace")
	require.NotContains(t, settled, "0f0f")
	require.Less(t, len(settled), 260)
}

// A text comes back whatever it is like, and one text has one packed form.
func TestRedis_PacksTexts(t *testing.T) {
	t.Parallel()
	const uuid, nonce = "0198d1c4-2c1b-7a53-9d0e-8f2f3f0a6f10", "4CZHDB736XMFFYSEGMRFW3DIR5"
	digest := strings.Repeat("0f", 32)
	texts := []string{
		"", "a", "the key", "key", digest, strings.ToUpper(digest), digest[1:] + "g", uuid, strings.ToUpper(uuid), uuid[:35] + "-", nonce, strings.ToLower(nonce),
		nonce[:25] + "1", nonce[:25] + "=", "00-" + digest[:32] + "-" + digest[:16] + "-01", "01-" + digest[:32] + "-" + digest[:16] + "-01",
		strings.Repeat("x", 191), strings.Repeat("x", 192), strings.Repeat("x", 256), strings.Repeat("\xff", maxText), contextWords[0], remoteEnd,
		contextWords[0] + "a" + contextWords[1] + "b" + contextWords[2] + contextWords[3] + contextWords[4] + "e" + localEnd,
		contextWords[0] + "a" + contextWords[1] + contextWords[1] + contextWords[2] + contextWords[3] + contextWords[4] + "e" + remoteEnd,
		contextWords[0] + contextWords[1] + contextWords[2] + contextWords[3] + contextWords[4] + strings.Repeat("x", 192) + remoteEnd,
		contextWords[0] + contextWords[1] + contextWords[2] + contextWords[3] + contextWords[4] + remoteEnd + remoteEnd,
	}
	for _, key := range []string{"the key", digest, "x" + digest, strings.Repeat("x", maxText), strings.Repeat("x", maxText-64) + digest} {
		for _, text := range texts {
			p := packer{key: key}
			p.plainKey(key)
			p.text(text)
			p.text(text)
			p.owner(text)
			p.context(text)
			p.raw(text)
			u := unpacker{rest: string(p.buf)}
			u.key = u.plainKey()
			require.Equal(t, []string{key, text, text, text, text, text}, []string{u.key, u.text(), u.text(), u.owner(), u.context(), u.raw()})
			require.False(t, u.broken)
			require.Empty(t, u.rest)
		}
	}
}

// FuzzRedis_Reply gives every parser of a script's reply any text: it answers with
// an error or with a record that passes the check, at a bounded cost.
func FuzzRedis_Reply(f *testing.F) {
	for _, r := range sampleRecords() {
		f.Add(PackRecord(r), "", int64(1))
		f.Add(PackRecord(r)[:HeadSize], "gone", int64(1<<62))
	}
	f.Add("\x02", "moved", int64(-1))
	f.Add("\xc8\xc8\xc8", "superseded", int64(0))
	f.Fuzz(func(t *testing.T, packed, word string, number int64) {
		c := call{
			bid:     store.Bid{Owner: "a", Lease: time.Minute, TTL: time.Hour},
			outcome: store.Outcome{State: store.Succeeded, Data: []byte("42"), Context: "json"},
		}
		for _, reply := range [][]any{
			{number, "", number, packed}, {number, word, number, packed}, {number, word, number, nil}, {number, number, packed}, {number, number},
			{number, number, number}, {packed, word}, {word}, nil, {number, "", number, number}, {number, "", packed, packed},
		} {
			var r store.Record
			var err error
			requireCheap(t, len(packed), func() { r, _, err = c.read(reply) })
			if err != nil {
				require.True(t, errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrVersion) || errors.Is(err, errReply), "%v", err)
				continue
			}
			if len(reply) == 4 && r.State != store.Absent {
				require.NoError(t, r.Validate())
				now, expires := r.Now, r.Expires
				again, err := unpackRecord(PackRecord(r))
				require.NoError(t, err)
				again.Now, again.Expires = now, expires
				require.Equal(t, r, again)
			}
		}
	})
}

// What the calls let in at its largest can be read back.
func TestRedis_ReadsTheLargestTexts(t *testing.T) {
	t.Parallel()
	b := store.Bid{Key: strings.Repeat("k", maxText), Owner: strings.Repeat("a", 512), Lease: time.Minute, TTL: time.Hour}
	letter := 'a'
	largest := func(v reflect.Value) {
		for i := range v.NumField() {
			if f := v.Field(i); f.Kind() == reflect.String {
				f.SetString(strings.Repeat(string(letter), maxText))
				letter++
			}
		}
	}
	largest(reflect.ValueOf(&b.Info).Elem())
	largest(reflect.ValueOf(&b.Info.Holder).Elem())
	require.NoError(t, b.Validate())
	r := sampleRecords()[0]
	r.Key, r.Owner, r.Info = b.Key, b.Owner, b.Info
	name, why := strings.Repeat("\x01", 512), strings.Repeat("\x01", 4<<10)
	for range 64 {
		r.History = append(r.History, store.Turn{
			What: store.TurnResolved, At: r.Claimed, From: store.Succeeded, Owner: name, By: name, FromBy: name, Who: name, Why: why, ID: name,
		})
	}
	read, err := unpackRecord(PackRecord(r))
	require.NoError(t, err)
	require.Equal(t, r, read)
	b.Info.Trace += " "
	require.ErrorIs(t, b.Validate(), store.ErrInvalid, "larger texts are let in")
	res := store.Resolution{ID: name, To: store.Failed, By: name, Who: name, Why: why, TTL: time.Hour}
	require.NoError(t, res.Validate())
	res.Why += "x"
	require.ErrorIs(t, res.Validate(), store.ErrInvalid, "longer reasons are let in")
	res.Why, res.By = "", name+"x"
	require.ErrorIs(t, res.Validate(), store.ErrInvalid, "longer names are let in")
}
