package redisstore

import (
	"encoding/json"
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

// FuzzRedis_Reply gives every parser of a script's reply any text: it answers with
// an error or with a record that passes the check, at a bounded cost.
func FuzzRedis_Reply(f *testing.F) {
	const head = "1 running first 1 1700000000000000 1700000000000000 1700000060000000 0 0 0 - a"
	info := infoWords(store.Info{Activity: "ChargeCard", Holder: store.Holder{Namespace: "default", Attempt: 1, Scheduled: time.Unix(1, 0).UTC()}})
	history := `[{"what":"taken_over","at":"1700000000000000","from":"in_doubt","owner":"b","fence":"1"}]`
	f.Add(head, info, history, "", "", int64(1))
	f.Add("1 succeeded clean 9 2 1 0 0 0 1 -f a b", info+" r 1", "", "data", "context", int64(-1))
	f.Add("1 running taken 9 2 1 2 0 0 0 -k a", info, history, "kept_data", "x", int64(0))
	f.Add("1 in_doubt first 2 1 1 0 0 1 0 -m a", info, "[]", "by", "operator", int64(1<<62))
	f.Add("2 running", "", "[", "echo", "info", int64(1))
	f.Add(strings.Repeat("1 ", 5000), strings.Repeat("%41 ", 5000), strings.Repeat("[", 5000), "echo", "outcome", int64(1))
	f.Add(head, info, "["+strings.Repeat("{},", 5000)+"{}]", "missing", "x", int64(1))
	f.Fuzz(func(t *testing.T, head, info, history, field, value string, number int64) {
		size := len(head) + len(info) + len(history) + len(field) + len(value)
		c := call{
			bid:     store.Bid{Key: "k", Owner: "a", Lease: time.Minute, TTL: time.Hour},
			outcome: store.Outcome{State: store.Succeeded, Data: []byte("42"), Context: "json"},
		}
		requireCheap(t, size, func() {
			var r store.Record
			_ = parseHead(&r, head)
			_, _ = parseInfo(info)
			events, err := parseHistory(history)
			require.True(t, err != nil || len(events) <= 10_000)
		})
		fields := []any{"head", head, "info", info, field, value}
		if history != "" {
			fields = append(fields, "history", history)
		}
		for _, reply := range [][]any{
			{number, "", number, fields}, {number, field, number, fields}, {number, number, head}, {number, number}, {number, number, number},
			{number, "", number, []any{field, value}}, {number, "", number, []any{field}}, {number, "", number, []any{number, value}},
			{head, info}, {field}, nil, {number, "", number, value},
		} {
			var r store.Record
			var err error
			requireCheap(t, size, func() { r, _, err = c.read(reply) })
			if err != nil {
				require.True(t, errors.Is(err, store.ErrCorrupt) || errors.Is(err, errReply), "%v", err)
				continue
			}
			if len(reply) == 4 && r.State != store.Absent {
				require.NoError(t, r.Validate())
				again, err := parseInfo(infoWords(r.Info))
				require.NoError(t, err)
				require.Equal(t, r.Info, again)
			}
		}
	})
}

// What the calls let in at its largest, escaped at its worst, can be read back.
func TestRedis_ReadsTheLargestTexts(t *testing.T) {
	t.Parallel()
	b := store.Bid{Key: "k", Owner: "a", Lease: time.Minute, TTL: time.Hour}
	largest := func(v reflect.Value) {
		for i := range v.NumField() {
			if f := v.Field(i); f.Kind() == reflect.String {
				f.SetString(strings.Repeat(" ", 64<<10))
			}
		}
	}
	largest(reflect.ValueOf(&b.Info).Elem())
	largest(reflect.ValueOf(&b.Info.Holder).Elem())
	require.NoError(t, b.Validate())
	i, err := parseInfo(infoWords(b.Info))
	require.NoError(t, err)
	require.Equal(t, b.Info, i)
	b.Info.Trace += " "
	require.ErrorIs(t, b.Validate(), store.ErrInvalid, "larger texts are let in")

	name, why := strings.Repeat("\x01", 512), strings.Repeat("\x01", 4<<10)
	r := store.Resolution{ID: name, To: store.Failed, By: name, Who: name, Why: why, TTL: time.Hour}
	require.NoError(t, r.Validate())
	type written struct {
		store.Turn
		At    string `json:"at"`
		Fence string `json:"fence"`
	}
	var history []written
	for range 64 {
		turn := store.Turn{What: store.TurnResolved, From: store.Succeeded, Owner: name, By: name, FromBy: name, Who: name, Why: why, ID: name}
		history = append(history, written{Turn: turn, At: "1700000000000000", Fence: "1700000000000000"})
	}
	text, err := json.Marshal(history)
	require.NoError(t, err)
	turns, err := parseHistory(string(text))
	require.NoError(t, err)
	require.Len(t, turns, len(history))
	require.Equal(t, why, turns[0].Why)
	r.Why += "x"
	require.ErrorIs(t, r.Validate(), store.ErrInvalid, "longer reasons are let in")
	r.Why, r.By = "", name+"x"
	require.ErrorIs(t, r.Validate(), store.ErrInvalid, "longer names are let in")
}
