//go:build linux || darwin

package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func newFile(tb testing.TB, dir string) *File {
	tb.Helper()
	f, err := NewFile(dir, FileOptions{AnyFileSystem: true})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, f.Close()) })
	return f
}

func testBid(key, owner string) Bid {
	return Bid{Key: key, Owner: owner, Lease: time.Minute, TTL: time.Hour, Began: true}
}

var testSuccess = Outcome{State: Succeeded, Data: []byte("42"), Context: "json"}

// failAt makes f's writes fail once they have come to point, until it is
// called. It counts the writes that came to their end.
func failAt(f *File, point string, err error) (mend func(), written *int) {
	written = new(int)
	f.step = func(at string) error {
		if at == point {
			return err
		}
		if at == "dirsync" {
			*written++
		}
		return nil
	}
	return func() { point = "" }, written
}

var errDisk = errors.New("the disk failed")

func TestFile_FailedWriteLeavesTheOldRecord(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"create", "write", "fsync"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f, other := newFile(t, dir), newFile(t, dir)
			b := testBid("k", "a")
			_, err := f.Acquire(t.Context(), b)
			require.NoError(t, err)

			mend, _ := failAt(f, point, errDisk)
			_, err = f.Settle(t.Context(), b, testSuccess)
			require.ErrorIs(t, err, errDisk)
			r, err := other.Acquire(t.Context(), testBid("k", "b"))
			require.NoError(t, err)
			require.True(t, r.Owned("a"), "alive while its outcome is not written")
			require.NoFileExists(t, strings.TrimSuffix(locate(dir, "k").path, recordExt)+tempExt,
				"a file that could not be synced is not synced again")

			mend()
			r, err = f.Settle(t.Context(), b, testSuccess)
			require.NoError(t, err)
			require.Equal(t, Succeeded, r.State)
		})
	}
}

func TestFile_FailedGrantHoldsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, other := newFile(t, dir), newFile(t, dir)
	failAt(f, "write", syscall.ENOSPC)
	_, err := f.Acquire(t.Context(), testBid("k", "a"))
	require.ErrorIs(t, err, ErrFull)
	require.Empty(t, f.claims)

	r, err := other.Acquire(t.Context(), testBid("k", "b"))
	require.NoError(t, err)
	require.True(t, r.Owned("b"))
}

// A grant that is in place, but not durable, must not be confirmed by its
// repetition: after a power failure nobody would know of it.
func TestFile_RepetitionMakesDurable(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"rename", "dirsync"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			f := newFile(t, t.TempDir())
			b := testBid("k", "a")
			mend, written := failAt(f, point, errDisk)
			for range 2 {
				_, err := f.Acquire(t.Context(), b)
				require.ErrorIs(t, err, errDisk)
			}
			require.Len(t, f.claims, 1, "it may have been granted")
			require.Zero(t, *written)

			mend()
			for range 2 {
				r, err := f.Acquire(t.Context(), b)
				require.NoError(t, err)
				require.True(t, r.Owned("a"))
			}
			require.Equal(t, 1, *written)
		})
	}
}

func TestFile_FullDiskIsNotCertainAboutAnUnsureRecord(t *testing.T) {
	t.Parallel()
	f := newFile(t, t.TempDir())
	failAt(f, "rename", errDisk)
	_, err := f.Acquire(t.Context(), testBid("k", "a"))
	require.ErrorIs(t, err, errDisk)
	failAt(f, "write", syscall.ENOSPC)
	_, err = f.Acquire(t.Context(), testBid("k", "a"))
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NotErrorIs(t, err, ErrFull, "the first call may have been applied")
}

func TestFile_BadRecordIsNeverAbsent(t *testing.T) {
	t.Parallel()
	whole := `{"version":1,"key":"k","state":"succeeded","owner":"a","fence":1,"revision":1,"origin":"first","info":{}}`
	_, err := decodeRecord([]byte(whole))
	require.NoError(t, err)
	for name, c := range map[string]struct {
		content string
		want    error
	}{
		"empty":             {"", ErrCorrupt},
		"cut off":           {whole[:len(whole)/2], ErrCorrupt},
		"zeros":             {strings.Repeat("\x00", 512), ErrCorrupt},
		"null":              {"null", ErrCorrupt},
		"no fields":         {"{}", ErrCorrupt},
		"followed by more":  {whole + whole, ErrCorrupt},
		"no version":        {strings.Replace(whole, `"version":1,`, "", 1), ErrCorrupt},
		"no owner":          {strings.Replace(whole, `"a"`, `""`, 1), ErrCorrupt},
		"no fence":          {strings.Replace(whole, `"fence":1,`, "", 1), ErrCorrupt},
		"no state":          {strings.Replace(whole, `"succeeded"`, `""`, 1), ErrCorrupt},
		"unknown state":     {strings.Replace(whole, "succeeded", "sleeping", 1), ErrCorrupt},
		"another key":       {strings.Replace(whole, `"k"`, `"l"`, 1), ErrCorrupt},
		"another type":      {strings.Replace(whole, `"fence":1`, `"fence":"1"`, 1), ErrCorrupt},
		"newer":             {strings.Replace(whole, `"version":1`, `"version":2`, 1), ErrVersion},
		"newer, other form": {`{"version":2,"key":["k"],"state":7}`, ErrVersion},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f := newFile(t, dir)
			path := locate(dir, "k").path
			require.NoError(t, os.WriteFile(path, []byte(c.content), 0o600))
			good := testBid("good", "a")
			_, err := f.Acquire(t.Context(), good)
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
			require.Empty(t, f.unsure)
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, c.content, string(after))

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

const form = `{
  "version": 1,
  "key": "v1/default/order-7/ChargeCard/1",
  "state": "succeeded",
  "owner": "n2",
  "fence": 1772366400123456,
  "revision": 4,
  "claimed": "2026-03-01T12:00:00.123456789Z",
  "settled": "2026-03-01T12:00:01.123456789Z",
  "expires": "2026-03-01T13:00:00.123456789Z",
  "origin": "taken",
  "info": {
    "activity": "ChargeCard",
    "input": "sha",
    "holder": {
      "namespace": "default",
      "workflow_id": "order-7",
      "attempt": 2
    }
  },
  "outcome": {
    "state": "succeeded",
    "data": "PDQyPg==",
    "context": "json"
  },
  "history": [
    {
      "what": "taken_over",
      "at": "2026-03-01T12:00:00.123456789Z",
      "from": "in_doubt",
      "owner": "n1",
      "fence": 7
    }
  ]
}
`

// What programs have written stays readable.
func TestFile_RecordForm(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	r := Record{
		Key: "v1/default/order-7/ChargeCard/1", State: Succeeded, Owner: "n2", Fence: 1772366400123456, Revision: 4,
		Claimed: at, Settled: at.Add(time.Second), Expires: at.Add(time.Hour), Origin: Taken,
		Info:    Info{Activity: "ChargeCard", Input: "sha", Holder: Holder{Namespace: "default", WorkflowID: "order-7", Attempt: 2}},
		Outcome: Outcome{State: Succeeded, Data: []byte("<42>"), Context: "json"},
		History: []Event{{What: EventTakenOver, At: at, From: InDoubt, Owner: "n1", Fence: 7}},
	}
	data, err := encodeRecord(r)
	require.NoError(t, err)
	require.Equal(t, form, string(data))
	decoded, err := decodeRecord(data)
	require.NoError(t, err)
	require.Equal(t, r, decoded)

	require.Equal(t, "/d/82/8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a.json", locate("/d", "k").path)
}

func FuzzFile_Record(f *testing.F) {
	for _, r := range []Record{
		{Key: "k", State: Running, Owner: "a", Fence: 1, Revision: 1},
		{Key: "\xff", State: Succeeded, Owner: "a", Fence: 1, Revision: 2, Outcome: testSuccess, Kept: &testSuccess},
	} {
		data, err := encodeRecord(r)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeRecord(data)
		if err != nil {
			require.True(t, errors.Is(err, ErrCorrupt) || errors.Is(err, ErrVersion), "%v", err)
			return
		}
		again, err := encodeRecord(r)
		require.NoError(t, err)
		r2, err := decodeRecord(again)
		require.NoError(t, err)
		once, err := encodeRecord(r2)
		require.NoError(t, err)
		require.Equal(t, string(again), string(once))
	})
}

// keysOfOneShard returns n keys whose records are in one directory.
func keysOfOneShard(n int) []string {
	keys := []string{"k"}
	for i := 0; len(keys) < n; i++ {
		if key := fmt.Sprint("k", i); locate("", key).shard == locate("", "k").shard {
			keys = append(keys, key)
		}
	}
	return keys
}

func TestFile_SweepRemovesOnlyWhatIsOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFile(t, dir)
	keys := keysOfOneShard(5 + sweepLimit)
	for i, key := range keys {
		b := testBid(key, "a")
		if i >= 5 {
			b.TTL = time.Millisecond
		}
		_, err := f.Acquire(t.Context(), b)
		require.NoError(t, err)
		if i != 0 {
			_, err = f.Settle(t.Context(), b, Outcome{State: []State{Succeeded, Failed, InDoubt, Pending}[i%4]})
			require.NoError(t, err)
		}
	}
	left := strings.TrimSuffix(locate(dir, "k").path, recordExt)
	for _, name := range []string{left + tempExt, left + ".dead" + claimExt} {
		require.NoError(t, os.WriteFile(name, nil, 0o600))
	}
	corrupt := filepath.Join(filepath.Dir(left), strings.Repeat("f", 64)+recordExt)
	require.NoError(t, os.WriteFile(corrupt, nil, 0o600))

	names := func() int {
		names, err := f.namesOf(locate("", "k").shard)
		require.NoError(t, err)
		return len(names)
	}
	// Five records, one of them running, the corrupt one, the lock and a claim.
	require.Eventually(t, func() bool {
		newFile(t, dir)
		return names() == 5+3
	}, 10*time.Second, time.Millisecond)
	require.FileExists(t, corrupt)
	for _, key := range keys[:5] {
		r, err := f.Load(t.Context(), key)
		require.NoError(t, err)
		require.NotEqual(t, Absent, r.State)
	}
	r, err := newFile(t, dir).Acquire(t.Context(), testBid("k", "b"))
	require.NoError(t, err)
	require.True(t, r.Owned("a"), "the sweep left a live claim alone")
}

func TestFile_WritesSweepTheirShard(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFile(t, dir)
	keys := keysOfOneShard(4 * sweepEvery)
	for _, key := range keys {
		b := testBid(key, "a")
		b.TTL = time.Millisecond
		_, err := f.Settle(t.Context(), b, testSuccess)
		require.NoError(t, err)
	}
	paths, err := f.recordsOf(locate("", "k").shard)
	require.NoError(t, err)
	require.Less(t, len(paths), 2*sweepEvery)
}
