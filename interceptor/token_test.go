package interceptor

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

const (
	testInput = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	testTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
)

// ordinary is a ticket with everything that a call through a real server has.
func ordinary(namespace, workflowID string) ticket {
	run := "019ab0c2-7d5e-7b43-9f0e-3f6f6d1c2a55"
	call := keys.Call{Namespace: namespace, WorkflowID: workflowID, Activity: "ChargeCard", Input: testInput}
	key, err := keys.Make(keys.PerWorkflow, keys.Hash(), call)
	if err != nil {
		panic(err)
	}
	return ticket{
		// As the server writes it: the namespace's ID, the workflow, the activity.
		Task: []byte("\n$32049b68-7872-4094-8e63-d0dd59896a83\x12" + string(rune(len(workflowID))) + workflowID + "\x1a$" + run +
			" \x05(\x01:\x01" + "5B\nChargeCardR\b\b\x88\x12\x10\x88\x80\x40X\x06`\x06r\x05\b\x01\x10\xc5\x01"),
		Where: target{ActivitySerializationContext: converter.ActivitySerializationContext{Namespace: namespace, WorkflowID: workflowID,
			WorkflowType: "OrderWorkflow", ActivityType: "ChargeCard", TaskQueue: "payments"}},
		Origin: store.First,
		Bid: store.Bid{Key: key, Owner: "RFPBKCTBKZ2VXSIPXRZ3U6Y4DE", Fence: 1772366400123456, Lease: time.Minute,
			TTL: 30 * 24 * time.Hour, Deadline: 9*time.Minute + 59987654321, Began: true,
			Info: store.Info{Activity: "ChargeCard", Input: testInput, Match: testInput, Trace: testTrace, Holder: store.Holder{
				Namespace: namespace, WorkflowID: workflowID, RunID: run, ActivityID: "5", Attempt: 1,
				Scheduled: time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC), Worker: "1@payments-worker-7d9f8b6c4-x2x9z@payments",
				OriginalRunID: run, Occurrence: 1}}},
	}
}

func TestToken_IsShortForOrdinaryIDs(t *testing.T) {
	t.Parallel()
	for _, ids := range [][2]string{
		{"default", "order-4711"},
		{"payments-prod.a1b2c", "order-2026-000004711"},
		{"payments-prod", "order-1c3bbf8e-8a53-4bd2-a0e9-0d5a1f0fb6c7"},
	} {
		token := ordinary(ids[0], ids[1]).String()
		require.Less(t, len(token), 500, ids)
		require.Regexp(t, "^[A-Za-z0-9_-]+$", token)
	}
}

// Complete settles with the bid of a token: what Match made of the input is in the
// record from then on.
func TestToken_KeepsMatchThatIsNotUTF8(t *testing.T) {
	t.Parallel()
	for _, match := range []string{"\xff", "a\xc3\x28\x00\x01\",\"", "\ufffd", "", "[\"/w==\"]", testInput} {
		made := ordinary("default", "order-1")
		made.Bid.Info.Match = match
		read, err := parseToken(made.String())
		require.NoError(t, err, "%q", match)
		require.Equal(t, made, read)
	}
}

// fill gives every field below v a value of its own.
func fill(v reflect.Value, n *int) {
	*n++
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(int64(*n), 1).UTC()))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case v.Kind() == reflect.String:
		v.SetString(strings.Repeat("é<&\"\x00", *n))
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.CanInt():
		v.SetInt(-int64(*n))
	case v.CanUint():
		v.SetUint(math.MaxUint64 - uint64(*n))
	case v.Kind() == reflect.Slice:
		v.SetBytes([]byte{0xff, 0xfe, 0, '-', byte(*n)})
	default:
		panic(v.Type())
	}
}

// Also what a later version adds to one of the structs.
func TestToken_KeepsEverything(t *testing.T) {
	t.Parallel()
	var full ticket
	n := 0
	fill(reflect.ValueOf(&full).Elem(), &n)
	full.Where.Sealed, full.Where.Own = false, false // they say how a record rests
	full.derive()
	unclaimed := ordinary("default", "order-7")
	unclaimed.Bid, unclaimed.Origin = store.Bid{}, ""
	standalone := ordinary("default", "order-7")
	standalone.Where.WorkflowID, standalone.Bid.Info.Holder.WorkflowID = "", ""
	standalone.Bid.TTL, standalone.Bid.Info.Holder.ActivityRunID = store.Forever, standalone.Bid.Info.Holder.RunID
	hexes := ordinary("default", strings.Repeat("ab", 18)+"-"+strings.Repeat("0", 1000)+"abc")
	for _, want := range []ticket{full, unclaimed, standalone, hexes, ordinary("default", "order-7")} {
		got, err := parseToken(want.String())
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestToken_RefusesWhatIsDamaged(t *testing.T) {
	t.Parallel()
	token := ordinary("default", "order-7").String()
	for i := range token {
		for _, other := range []string{"A", "_", ""} {
			damaged := token[:i] + other + token[i+1:]
			if damaged != token {
				_, err := parseToken(damaged)
				require.ErrorIs(t, err, errToken, "%d %q", i, other)
			}
		}
	}
	for _, foreign := range []string{"", "?", "AAAA", "eyJ0YXNrIjoiQUFBQSJ9", token + token, token[:20], ticket{}.String()} {
		_, err := parseToken(foreign)
		require.ErrorIs(t, err, errToken, foreign)
	}
}

// A short token must not grow beyond all bounds.
func TestToken_RefusesABomb(t *testing.T) {
	var b bytes.Buffer
	w, err := flate.NewWriterDict(&b, flate.BestSpeed, usual)
	require.NoError(t, err)
	for range 256 {
		_, err = w.Write(make([]byte, 1<<20))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	token := encoding.EncodeToString(binary.BigEndian.AppendUint32(b.Bytes(), crc32.ChecksumIEEE(b.Bytes())))

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = parseToken(token)
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, errToken)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20))
}

func FuzzToken(f *testing.F) {
	f.Add([]byte("\x04task" + `["default","default","order-7","order-7"]`))
	f.Add([]byte("\x04task[]" + testTrace))
	f.Fuzz(func(t *testing.T, plain []byte) {
		_, err := parseToken(string(plain))
		require.True(t, err == nil || errors.Is(err, errToken))
		got, err := parseToken(sealToken(plain))
		if err != nil {
			require.ErrorIs(t, err, errToken)
			return
		}
		same, err := parseToken(got.String())
		require.NoError(t, err)
		require.Equal(t, got.String(), same.String())
	})
}
