//go:build linux || darwin

package store

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const wholeRecord = `{"version":3,"key":"k","state":"succeeded","owner":"a","fence":1,"revision":1,"claimed":"2026-03-01T12:00:00Z","settled":"2026-03-01T12:00:01Z","origin":"first","info":{},"outcome":{"state":"succeeded"}}`

var badRecords = map[string]struct {
	content string
	want    error
}{
	"empty":             {"", ErrCorrupt},
	"cut off":           {wholeRecord[:len(wholeRecord)/2], ErrCorrupt},
	"zeros":             {strings.Repeat("\x00", 512), ErrCorrupt},
	"null":              {"null", ErrCorrupt},
	"no fields":         {"{}", ErrCorrupt},
	"followed by more":  {wholeRecord + wholeRecord, ErrCorrupt},
	"older":             {strings.Replace(wholeRecord, `"version":3`, `"version":2`, 1), ErrCorrupt},
	"no version":        {strings.Replace(wholeRecord, `"version":3,`, "", 1), ErrCorrupt},
	"no owner":          {strings.Replace(wholeRecord, `"a"`, `""`, 1), ErrCorrupt},
	"no fence":          {strings.Replace(wholeRecord, `"fence":1,`, "", 1), ErrCorrupt},
	"no state":          {strings.Replace(wholeRecord, `"succeeded"`, `""`, 1), ErrCorrupt},
	"unknown state":     {strings.Replace(wholeRecord, "succeeded", "sleeping", 1), ErrCorrupt},
	"another key":       {strings.Replace(wholeRecord, `"k"`, `"l"`, 1), ErrCorrupt},
	"another type":      {strings.Replace(wholeRecord, `"fence":1`, `"fence":"1"`, 1), ErrCorrupt},
	"newer":             {strings.Replace(wholeRecord, `"version":3`, `"version":4`, 1), ErrVersion},
	"newer, other form": {`{"version":4,"key":["k"],"state":7}`, ErrVersion},
}

func TestFile_BadRecordIsNeverAbsent(t *testing.T) {
	t.Parallel()
	_, err := decodeRecord([]byte(wholeRecord))
	require.NoError(t, err)
	for name, c := range badRecords {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f := newFile(t, dir)
			path := segmentsIn(t, dir)[0]
			inLog(t, f, func(l *log) {
				_, err := l.append(line{digest: digest("k"), state: Succeeded, body: []byte(c.content)})
				require.NoError(t, err)
			})
			before, err := os.ReadFile(path)
			require.NoError(t, err)
			good := testBid("good", "a")
			_, err = f.Acquire(t.Context(), good)
			require.NoError(t, err)

			ctx, b := t.Context(), testBid("k", "b")
			for verb, call := range map[string]func() (Record, error){
				"Acquire":  func() (Record, error) { return f.Acquire(ctx, b) },
				"Renew":    func() (Record, error) { return f.Renew(ctx, b) },
				"Settle":   func() (Record, error) { return f.Settle(ctx, b, testSuccess) },
				"Release":  func() (Record, error) { return f.Release(ctx, b) },
				"Takeover": func() (Record, error) { return f.Takeover(ctx, b, Record{}) },
				"Resolve": func() (Record, error) {
					return f.Resolve(ctx, "k", Record{}, Resolution{ID: "1", To: Failed, By: ByOperator, TTL: time.Hour})
				},
				"Load": func() (Record, error) { return f.Load(ctx, "k") },
			} {
				_, err := call()
				require.ErrorIs(t, err, c.want, verb)
				require.ErrorContains(t, err, path, verb)
			}
			require.Len(t, f.claims.held, 1)
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(before), string(after[:len(before)]))

			var errs, records int
			for r, err := range f.List(ctx, Query{}) {
				if err != nil {
					require.ErrorIs(t, err, c.want)
					errs++
					continue
				}
				require.Equal(t, "good", r.Key)
				records++
			}
			require.Equal(t, []int{1, 1}, []int{errs, records})
		})
	}
}

const recordForm = `1 00000686 6377867ec17b049f7865c6ec243f7b472b6dce8ba470b7881a59e0436ed9fdf8 succeeded 1772370001 4711 - 3:815 ` +
	`{"version":3,"key":"v1/default/order-7/ChargeCard/1","state":"succeeded","owner":"n2","fence":1772366400123456,"revision":4,` +
	`"claimed":"2026-03-01T12:00:00.123456789Z","settled":"2026-03-01T12:00:01.123456789Z","expires":"2026-03-01T13:00:00.123456789Z",` +
	`"origin":"taken","info":{"activity":"ChargeCard","input":"sha","holder":{"namespace":"default","workflow_id":"order-7","attempt":2}},` +
	`"outcome":{"state":"succeeded","data":"PDQyPg==","context":"json"},` +
	`"history":[{"what":"taken_over","at":"2026-03-01T12:00:00.123456789Z","from":"in_doubt","owner":"n1","fence":7}]}`

// What programs have written stays readable.
func TestFile_RecordForm(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	r := Record{
		Key: "v1/default/order-7/ChargeCard/1", State: Succeeded, Owner: "n2", Fence: 1772366400123456, Revision: 4,
		Claimed: at, Settled: at.Add(time.Second), Expires: at.Add(time.Hour), Origin: Taken,
		Info:    Info{Activity: "ChargeCard", Input: "sha", Holder: Holder{Namespace: "default", WorkflowID: "order-7", Attempt: 2}},
		Outcome: Outcome{State: Succeeded, Data: []byte("<42>"), Context: "json"},
		History: []Turn{{What: TurnTakenOver, At: at, From: InDoubt, Owner: "n1", Fence: 7}},
	}
	body, err := encodeRecord(r)
	require.NoError(t, err)
	written := line{digest: digest(r.Key), state: r.State, expires: seconds(r.Expires), durable: 4711, before: spot{3, 815}, body: body}
	text := written.text()
	require.Equal(t, recordForm, string(text[:len(text)-sumSize]))
	parsed, err := parseLine(text)
	require.NoError(t, err)
	require.Equal(t, written, parsed)
	decoded, _, err := decodeLine(text)
	require.NoError(t, err)
	require.Equal(t, r, decoded)

	first := firstOf(7, "boot", 5, 4711, 2)
	require.Equal(t, "atmostonce-log 1 7 boot 5 4711 2", string(first[:len(first)-sumSize]))
}

func FuzzFile_Record(f *testing.F) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, r := range []Record{
		{Key: "k", State: Running, Owner: "a", Fence: 1, Revision: 1, Origin: First, Claimed: at, LeaseEnd: at},
		{
			Key: "\xff", State: Running, Owner: "a", Fence: 1, Revision: 2, Origin: Taken, Claimed: at, LeaseEnd: at, Kept: &testSuccess,
			History: []Turn{{What: TurnTakenOver, At: at, From: InDoubt, Owner: "b", Fence: 1}},
		},
		{Key: "k", State: Succeeded, Owner: "a", Fence: 1, Revision: 2, Origin: First, Claimed: at, Settled: at, Outcome: testSuccess},
	} {
		require.NoError(f, r.Validate())
		data, err := encodeRecord(r)
		require.NoError(f, err)
		f.Add(data)
	}
	for _, bad := range []string{
		strings.Repeat(`{"history":[`, 1000), strings.Repeat(`[`, 1000), `{"history":[` + strings.Repeat(`{},`, 1000) + `{}]}`,
		`{"outcome":{"data":"` + strings.Repeat("A", 1000), `{"a\\\"":"\\`, `"`, `"\`,
	} {
		f.Add([]byte(bad))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Record
		var err error
		requireCheap(t, len(data), func() { r, err = decodeRecord(data) })
		if err != nil {
			require.True(t, errors.Is(err, ErrCorrupt) || errors.Is(err, ErrVersion), "%v", err)
			return
		}
		require.NoError(t, r.Validate())
		again, err := encodeRecord(r)
		require.NoError(t, err)
		r2, err := decodeRecord(again)
		require.NoError(t, err)
		once, err := encodeRecord(r2)
		require.NoError(t, err)
		require.Equal(t, string(again), string(once))
	})
}
