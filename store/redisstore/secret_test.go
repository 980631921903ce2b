//go:build linux || darwin

package redisstore_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
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

// theLogIn returns the path of what a File has in its directory, which is not much.
func theLogIn(tb testing.TB, dir string) string {
	tb.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "log", "*.log"))
	require.NoError(tb, err)
	require.NotEmpty(tb, found)
	return found[len(found)-1]
}

// sealed is a line of a log with another record in it, its size and its checksum put right.
// It is no shorter than before: the log would have been cut off.
func sealed(line, record string) string {
	head, _, _ := strings.Cut(line, "{")
	record += strings.Repeat(" ", max(0, len(line)-len(head)-len(record)-len(" 00000000\n")))
	body := head[:2] + fmt.Sprintf("%08d", len(head)+len(record)+len(" 00000000\n")) + head[10:] + record
	return fmt.Sprintf("%s %08x\n", body, crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli)))
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
	for _, at := range regexp.MustCompile(`(?m)": ?("[^"\n]*"|\d+|true)`).FindAllStringSubmatchIndex(content, -1)[1:] { // but the version, which is no secret
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
	path := theLogIn(t, dir)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	last := strings.LastIndexByte(strings.TrimSuffix(string(data), "\n"), '\n') + 1
	before, line := string(data[:last]), string(data[last:])
	record := line[strings.IndexByte(line, '{') : strings.LastIndexByte(line, '}')+1]
	require.Equal(t, line, sealed(line, record))

	var lines []string
	for _, forged := range withValues(record, []string{`"` + secret + `"`, "47110815", "4711.0815", "-4711", "[4711]", `{"hush":4711}`, secret, `"\u4711hush`}) {
		lines = append(lines, sealed(line, forged))
	}
	for i := 0; i < len(record); i += 5 {
		lines = append(lines, sealed(line, record[:i]+"h"+record[i:]), sealed(line, record[:i]))
	}
	for i := 0; i < len(line); i += 3 {
		lines = append(lines, line[:i]+"\x01"+line[i+1:])
	}
	require.NoError(t, f.Close())
	seen := map[string]int{}
	for _, forged := range lines {
		require.NoError(t, os.WriteFile(path, []byte(before+forged), 0o600))
		f, err := store.NewFile(dir, store.FileOptions{AnyFileSystem: true}) // one that has read nothing else
		require.NoError(t, err)
		r, err := f.Load(ctx, secret+"k")
		requireSilent(t, err, forged)
		require.NoError(t, f.Close())
		if err != nil {
			require.True(t, errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrVersion), "%v", err)
			seen[regexp.MustCompile(`\d+|field [\w.]+`).ReplaceAllString(err.Error(), "")]++
		} else {
			require.Equal(t, secret+"k", r.Key)
		}
	}
	require.Greater(t, len(seen), 5, "%v", seen)
	f = openFile(t, dir)
	for _, content := range []string{before + lines[3], before + line[:99], before + sealed(line, record[:7]), line} {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		secretCalls(ctx, t, f, "k", content)
	}
	require.NoError(t, os.WriteFile(path, data, 0o666)) //nolint:gosec // so that it is refused
	require.NoError(t, os.Chmod(path, 0o666))           //nolint:gosec // so that it is refused
	secretCalls(ctx, t, f, "k", "a log that others may write")
	// What is not a log at all.
	require.NoError(t, os.Remove(path))
	secretCalls(ctx, t, f, "k", "no log")
	require.NoError(t, os.Mkdir(path, 0o700))
	secretCalls(ctx, t, f, "k", "a directory")
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
