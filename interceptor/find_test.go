package interceptor_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// settled writes a record of each key.
func settled(t *testing.T, s store.Store, all ...string) {
	t.Helper()
	for _, key := range all {
		b := store.Bid{Key: key, Owner: "a", Lease: time.Minute, TTL: time.Hour, Info: store.Info{Activity: "ChargeCard"}}
		_, err := s.Settle(t.Context(), b, store.Outcome{State: store.Succeeded})
		require.NoError(t, err)
	}
}

func TestFind_IsTheOneRecordOfADigest(t *testing.T) {
	t.Parallel()
	s := memory()
	g, p := guarded(t, s, once.Policy{}), &payments{fail: once.MaybeDone(errors.New("no answer"))}
	_, err := execute(t, g, p.ChargeCard, order(7))
	why, ok := once.Why(err)
	require.True(t, ok)
	want := only(t, s)
	settled(t, s, "another", "and another")
	full := keys.Downstream(want.Key)
	for _, digest := range []string{why.Key, full, full[:8], full[:9], full[:63], strings.ToUpper(why.Key)} {
		r, err := g.Find(t.Context(), digest)
		require.NoError(t, err)
		require.Equal(t, want.Key, r.Key)
		require.Equal(t, store.InDoubt, r.State)
		require.False(t, r.Now.IsZero())
	}
	// A run, a settled and a free key are found as well.
	for _, f := range []resolve.Finding{resolve.AsFailed(errors.New("no")), resolve.AsNotDone()} {
		r, err := g.Find(t.Context(), why.Key)
		require.NoError(t, err)
		_, err = g.Resolve(t.Context(), r, f, forced("why"))
		require.NoError(t, err)
	}
	r, err := g.Find(t.Context(), why.Key)
	require.NoError(t, err)
	require.Equal(t, store.Tombstone, r.State)
}

func TestFind_RefusesWhatIsNoDigest(t *testing.T) {
	t.Parallel()
	s := memory()
	settled(t, s, "a stranger's")
	g := guarded(t, s, once.Policy{})
	full := keys.Downstream("a stranger's")
	for digest, complaint := range map[string]string{
		"":                        "it is empty",
		" ":                       "hexadecimal",
		full[:1]:                  "give at least 8 digits",
		full[:7]:                  "give at least 8 digits",
		full + "0":                "up to 64",
		full[:15] + "g":           "hexadecimal",
		full[:8] + "*":            "hexadecimal",
		"[key " + full[:16] + "]": "hexadecimal",
		"a stranger's":            "hexadecimal",
	} {
		r, err := g.Find(t.Context(), digest)
		require.ErrorIs(t, err, resolve.ErrDigest, digest)
		require.ErrorContains(t, err, complaint)
		require.ErrorContains(t, err, fmt.Sprintf("find %q", digest))
		require.Equal(t, store.Absent, r.State)
	}
}

func TestFind_SaysSoIfThereIsNone(t *testing.T) {
	t.Parallel()
	s := memory()
	settled(t, s, "another")
	_, err := guarded(t, s, once.Policy{}).Find(t.Context(), keys.Downstream("this")[:16])
	require.ErrorIs(t, err, resolve.ErrNotFound)
	require.ErrorContains(t, err, "then the next call runs")
}

// alike are two keys whose digests begin with the same eight digits.
var alike = []string{"key-8337", "key-15029"}

func TestFind_SaysSoIfThereAreSeveral(t *testing.T) {
	t.Parallel()
	s := memory()
	settled(t, s, alike...)
	first, second := keys.Downstream(alike[0]), keys.Downstream(alike[1])
	require.Equal(t, first[:8], second[:8])
	g := guarded(t, s, once.Policy{})
	r, err := g.Find(t.Context(), first[:8])
	require.ErrorIs(t, err, resolve.ErrAmbiguous)
	require.ErrorContains(t, err, first)
	require.ErrorContains(t, err, second)
	require.Equal(t, store.Absent, r.State)
	r, err = g.Find(t.Context(), second[:16])
	require.NoError(t, err)
	require.Equal(t, alike[1], r.Key)
}

func TestFind_ReportsARecordThatCannotBeRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := store.NewFile(dir, store.FileOptions{})
	require.NoError(t, err)
	settled(t, s, "damaged")
	digest := keys.Downstream("damaged")
	log := filepath.Join(dir, "log", "00000001.log")
	content, err := os.ReadFile(log)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(log, bytes.ReplaceAll(content, []byte("damaged"), []byte("dbmaged")), 0o600))
	g := guarded(t, s, once.Policy{})
	_, err = g.Find(t.Context(), digest[:16])
	require.ErrorIs(t, err, store.ErrCorrupt)
	require.NotErrorIs(t, err, resolve.ErrNotFound)
}

// stammering lists each record twice, the first time as it was before.
type stammering struct{ *store.Memory }

func (s stammering) List(ctx context.Context, q store.Query) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		for r, err := range s.Memory.List(ctx, q) {
			before := r
			before.State, before.Revision = store.Running, r.Revision-1
			if !yield(r, err) || !yield(before, err) {
				return
			}
		}
	}
}

func TestFind_TakesARecordThatIsListedTwiceForOne(t *testing.T) {
	t.Parallel()
	s := stammering{memory()}
	settled(t, s, "this")
	r, err := guarded(t, s, once.Policy{}).Find(t.Context(), keys.Downstream("this"))
	require.NoError(t, err)
	require.Equal(t, store.Succeeded, r.State)
}
