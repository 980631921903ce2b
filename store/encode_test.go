package store_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

// encodable is a record with all that a form might lose.
func encodable() store.Record {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	return store.Record{
		Key: "v1/a\x00b/\xff", State: store.Running, Owner: "nonce", Fence: 1<<62 + 1, Revision: 3, Claimed: at, LeaseEnd: at, Expires: at,
		Origin: store.First, Info: store.Info{Activity: "ChargeCard", Match: "\xc3\x28", Holder: store.Holder{Scheduled: at, Attempt: 2}},
		Kept:    &store.Outcome{State: store.Succeeded, Data: []byte("kept\x00"), Context: "c"},
		History: []store.Turn{{What: store.TurnTakenOver, At: at, Owner: "a", Fence: 7}},
	}
}

func TestEncodeRecord_KeepsARecord(t *testing.T) {
	t.Parallel()
	settled := encodable()
	settled.State, settled.Kept = store.Succeeded, nil
	settled.Outcome = store.Outcome{State: store.Succeeded, Data: bytes.Repeat([]byte{0, 0xff, '"'}, 1<<19)}
	both := encodable()
	both.Outcome = store.Outcome{State: store.InDoubt, Data: []byte("why")}
	empty := encodable()
	empty.Kept.Data = nil
	for _, r := range []store.Record{encodable(), settled, both, empty, {}} {
		b, err := store.EncodeRecord(r)
		require.NoError(t, err)
		got, err := store.DecodeRecord(b)
		require.NoError(t, err)
		require.Equal(t, r, got)
		require.Less(t, len(b), 2000+len(r.Outcome.Data), "data is not encoded")
	}
}

// Bytes that were changed, cut or lengthened are never a record, nor a panic.
func TestDecodeRecord_RefusesWhatIsDamaged(t *testing.T) {
	t.Parallel()
	whole, err := store.EncodeRecord(encodable())
	require.NoError(t, err)
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1 << rand.IntN(8)
		_, err := store.DecodeRecord(b)
		if i == 0 && b[0] > whole[0] {
			require.ErrorIs(t, err, store.ErrVersion)
			continue
		}
		require.ErrorIs(t, err, store.ErrCorrupt, "byte %d", i)
	}
	for n := range whole {
		_, err := store.DecodeRecord(whole[:n])
		require.ErrorIs(t, err, store.ErrCorrupt, "%d bytes", n)
	}
	_, err = store.DecodeRecord(append(bytes.Clone(whole), 0))
	require.ErrorIs(t, err, store.ErrCorrupt)
}

func FuzzDecodeRecord(f *testing.F) {
	whole, err := store.EncodeRecord(encodable())
	require.NoError(f, err)
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := store.DecodeRecord(b)
		if err != nil {
			return
		}
		again, err := store.EncodeRecord(r)
		require.NoError(t, err)
		same, err := store.DecodeRecord(again)
		require.NoError(t, err)
		require.Equal(t, r, same)
	})
}
