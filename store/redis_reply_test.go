//go:build linux || darwin

package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzRedis_Reply gives every parser of a script's reply any text: it answers with
// an error or with a record that passes the check, at a bounded cost.
func FuzzRedis_Reply(f *testing.F) {
	const head = "1 running first 1 1700000000000000 1700000000000000 1700000060000000 0 0 0 - a"
	info := infoWords(Info{Activity: "ChargeCard", Holder: Holder{Namespace: "default", Attempt: 1, Scheduled: time.Unix(1, 0).UTC()}})
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
		c := call{bid: testBid("k", "a"), outcome: testSuccess}
		requireCheap(t, size, func() {
			var r Record
			_ = parseHead(&r, head)
			_, _ = parseInfo(info)
			events, err := parseHistory(history)
			require.True(t, err != nil || len(events) <= maxPieces)
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
			var r Record
			var err error
			requireCheap(t, size, func() { r, _, err = c.read(reply) })
			if err != nil {
				require.True(t, errors.Is(err, ErrCorrupt) || errors.Is(err, errReply), "%v", err)
				continue
			}
			if len(reply) == 4 && r.State != Absent {
				require.NoError(t, r.check())
				again, err := parseInfo(infoWords(r.Info))
				require.NoError(t, err)
				require.Equal(t, r.Info, again)
			}
		}
	})
}
