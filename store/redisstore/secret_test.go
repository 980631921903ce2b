//go:build linux || darwin

package redisstore_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

// The tests of this file, and the benchmarks of all sizes, are of all three stores.

func openFile(tb testing.TB, dir string) *store.File {
	tb.Helper()
	f, err := store.NewFile(dir, store.FileOptions{AnyFileSystem: true})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, f.Close()) })
	return f
}

// aRecordIn returns the path of a record in the directory of a File.
func aRecordIn(tb testing.TB, dir string) string {
	tb.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*", "*.json"))
	require.NoError(tb, err)
	require.NotEmpty(tb, found)
	return found[0]
}

// secret is in every field that a caller fills. An error may show no part of it.
const secret = "hush4711hush-mum0815mum"

var secretParts = []string{
	"hush", "mum0815", "4711", "0815", base64.StdEncoding.EncodeToString([]byte(secret))[:12], base64.StdEncoding.EncodeToString([]byte(secret))[12:24],
}

// requireSilent checks that err, if there is one, shows nothing of a record.
func requireSilent(t *testing.T, err error, about string) {
	t.Helper()
	if err == nil {
		return
	}
	shown := fmt.Sprintf("%v %+v %q", err, err, err)
	for e := err; e != nil; e = errors.Unwrap(e) {
		shown += " " + e.Error()
	}
	for _, part := range secretParts {
		require.NotContains(t, shown, part, about)
	}
}

func secretBid(key, owner string) store.Bid {
	return store.Bid{
		Key: secret + key, Owner: secret + owner, Lease: time.Minute, TTL: time.Hour, Deadline: time.Second, Began: true,
		Info: store.Info{
			Activity: secret, Input: secret, Match: secret, Trace: secret, Ledger: secret,
			Holder: store.Holder{
				Namespace: secret, WorkflowID: secret, RunID: secret, ActivityID: secret, ActivityRunID: secret,
				Worker: secret, OriginalRunID: secret, Scheduled: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
			},
		},
	}
}

var secretOutcome = store.Outcome{State: store.Succeeded, Data: []byte(secret), Context: secret, Missing: secret}

// secretRecord leaves a record that has said something in every field.
func secretRecord(t *testing.T, s store.Store, key string) {
	t.Helper()
	ctx, a, b := t.Context(), secretBid(key, "a"), secretBid(key, "b")
	_, err := s.Acquire(ctx, a)
	require.NoError(t, err)
	r, err := s.Settle(ctx, a, store.Outcome{State: store.InDoubt, Data: []byte(secret), Context: secret})
	require.NoError(t, err)
	_, err = s.Takeover(ctx, b, r)
	require.NoError(t, err)
	_, err = s.Settle(ctx, a, secretOutcome)
	require.ErrorIs(t, err, store.ErrConflict)
	requireSilent(t, err, "conflict")
	r, err = s.Load(ctx, a.Key)
	require.NoError(t, err)
	require.NotNil(t, r.Kept)
	_, err = s.Settle(ctx, b, store.Outcome{State: store.Pending})
	require.NoError(t, err)
}

// secretCalls makes every call about the record of key, and checks what they say.
func secretCalls(ctx context.Context, t *testing.T, s store.Store, key, about string) {
	t.Helper()
	b := secretBid(key, "c")
	silent := func(_ store.Record, err error) { t.Helper(); requireSilent(t, err, about) }
	silent(s.Load(ctx, b.Key))
	silent(s.Acquire(ctx, b))
	silent(s.Renew(ctx, b))
	silent(s.Settle(ctx, b, store.Outcome{State: store.Failed, Data: []byte(secret)}))
	silent(s.Release(ctx, b))
	silent(s.Takeover(ctx, b, store.Record{}))
	silent(s.Resolve(ctx, b.Key, store.Record{}, store.Resolution{
		ID: secret, To: store.Failed, By: secret, Why: secret, TTL: time.Hour, Outcome: secretOutcome,
	}))
	for _, err := range s.List(ctx, store.Query{}) {
		requireSilent(t, err, about)
	}
}

func secretMisuse(t *testing.T, s store.Store) {
	t.Helper()
	for about, spoil := range map[string]func(*store.Bid){
		"no owner": func(b *store.Bid) { b.Owner = "" }, "no lease": func(b *store.Bid) { b.Lease = 0 },
		"no TTL": func(b *store.Bid) { b.TTL = 0 }, "fence": func(b *store.Bid) { b.Fence = 1 << 60 },
	} {
		b := secretBid("misuse", "a")
		spoil(&b)
		_, err := s.Acquire(t.Context(), b)
		requireSilent(t, err, about)
		_, err = s.Settle(t.Context(), b, secretOutcome)
		requireSilent(t, err, about)
	}
	for _, res := range []store.Resolution{{By: secret}, {To: store.Failed, ID: secret, Why: secret}, {To: store.Failed, ID: secret, By: secret, Why: secret}} {
		_, err := s.Resolve(t.Context(), secret, store.Record{}, res)
		require.Error(t, err)
		requireSilent(t, err, "resolution")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	secretCalls(ctx, t, s, "canceled", "canceled")
}

func TestMemory_ErrorsShowNoRecord(t *testing.T) {
	t.Parallel()
	s := store.NewMemory(store.MemoryOptions{MaxRecords: 1})
	secretRecord(t, s, "k")
	secretCalls(t.Context(), t, s, "k", "verdicts")
	secretCalls(t.Context(), t, s, "l", "full")
	secretMisuse(t, s)
}

// withValues yields content with each of the JSON values in it replaced by each bad one.
func withValues(content string, bad []string) (all []string) {
	for _, at := range regexp.MustCompile(`(?m)": ("[^"\n]*"|\d+|true)`).FindAllStringSubmatchIndex(content, -1)[1:] { // but the version, which is no secret
		for _, value := range bad {
			all = append(all, content[:at[2]]+value+content[at[3]:])
		}
	}
	return all
}

func TestFile_ErrorsShowNoRecord(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	f := openFile(t, dir)
	secretMisuse(t, f)
	require.NoError(t, f.Clear(ctx))
	secretRecord(t, f, "k")
	secretCalls(ctx, t, f, "k", "verdicts")
	path := aRecordIn(t, dir)
	data, err := os.ReadFile(path)
	require.NoError(t, err)

	// Without a checksum more of it is read.
	old := regexp.MustCompile(`,\n  "sum".*`).ReplaceAllString(string(data), "")
	old = strings.Replace(old, `"version": 2`, `"version": 1`, 1)
	contents := withValues(old, []string{`"` + secret + `"`, "47110815", "4711.0815", "-4711", "[4711]", `{"hush":4711}`, secret, `"\u4711hush`})
	for i := range old {
		contents = append(contents, old[:i]+"h"+old[i:], old[:i])
	}
	for i := range data {
		contents = append(contents, string(data[:i])+"\x01"+string(data[i+1:]))
	}
	seen := map[string]int{}
	for _, content := range contents {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		r, err := f.Load(ctx, secret+"k")
		requireSilent(t, err, content)
		if err != nil {
			require.True(t, errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrVersion), "%v", err)
			seen[regexp.MustCompile(`\d+|field [\w.]+`).ReplaceAllString(err.Error(), "")]++
		} else {
			require.Equal(t, secret+"k", r.Key)
		}
	}
	require.Greater(t, len(seen), 5, "%v", seen)
	for _, content := range []string{old[:7], contents[3], string(data[:99])} {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		secretCalls(ctx, t, f, "k", content)
	}
	// What is not a record at all.
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Mkdir(path, 0o700))
	secretCalls(ctx, t, f, "k", "a directory")
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.WriteFile(path, data, 0o666)) //nolint:gosec // so that it is refused
	require.NoError(t, os.Chmod(path, 0o666))           //nolint:gosec // so that it is refused
	secretCalls(ctx, t, f, "k", "a record that others may write")
	require.NoError(t, os.Rename(path, filepath.Join(filepath.Dir(path), strings.Repeat("f", 64)+".json")))
	secretCalls(ctx, t, f, "k", "a record of another key")
	require.NoError(t, f.Close())
	secretCalls(ctx, t, f, "k", "closed")
}

func TestRedis_ErrorsShowNoRecord(t *testing.T) {
	t.Parallel()
	ctx, client := t.Context(), dialRedis(t, startRedis(t))
	s := newRedis(t, client)
	secretMisuse(t, s)
	secretRecord(t, s, "k")
	secretCalls(ctx, t, s, "k", "verdicts")
	require.NoError(t, s.Clear(ctx))
	secretRecord(t, s, "k")
	name := redisName(secret + "k")
	whole := client.Get(ctx, name).Val()
	failed := 0
	for i := range whole {
		for _, forged := range []string{whole[:i] + "\xff" + whole[i+1:], whole[:i] + secret + whole[i:], whole[:i]} {
			require.NoError(t, client.Set(ctx, name, forged, 0).Err())
			if _, err := s.Load(ctx, secret+"k"); err != nil {
				failed++
			}
			secretCalls(ctx, t, s, "k", fmt.Sprintf("%q", forged))
		}
	}
	require.Greater(t, failed, 300)
	require.NoError(t, client.Del(ctx, name).Err())
	require.NoError(t, client.Set(ctx, name, secret, 0).Err())
	secretCalls(ctx, t, s, "k", "another type")
	require.NoError(t, client.Del(ctx, name).Err())
	require.NoError(t, client.ConfigSet(ctx, "maxmemory", "1").Err())
	secretCalls(ctx, t, s, "k", "full")
	require.NoError(t, client.Close())
	secretCalls(ctx, t, s, "k", "closed")
}
