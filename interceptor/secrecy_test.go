//go:build linux || darwin

package interceptor_test

import (
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

// What a store says about a record that it cannot use goes to Temporal as the cause:
// it shows nothing that the activity's input, or another record, has.
func TestBadRecord_ShowsNoKey(t *testing.T) {
	t.Parallel()
	const secret = "hush"
	p := once.Policy{Key: keys.From(byOrder), Scope: keys.PerNamespace}
	call := charge{Order: secret + "4711"}

	other := func(content string) string { return strings.ReplaceAll(content, secret+"4711", secret+"4712") }
	for name, damage := range map[string]func(content string) string{
		"damaged":     other,
		"another key": func(content string) string { return summed(other(content)) },
		"zeros": func(content string) string {
			return content[:len(content)/2] + strings.Repeat("\x00", len(content)-len(content)/2)
		},
		"a wrong type": func(content string) string {
			return summed(strings.ReplaceAll(content, `"fence":`, `"fence":"hush4711","x":`))
		},
		"a wrong time": func(content string) string {
			return summed(strings.ReplaceAll(content, `"claimed":"`, `"claimed":"hush4711`))
		},
		"an unknown state": func(content string) string { return summed(strings.ReplaceAll(content, "succeeded", "hushhushh")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, path := recorded(t, p, call)
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, []byte(damage(string(content))), 0o600))
			_, err = execute(t, guarded(t, s, p), (&payments{}).ChargeCard, call)
			requireReason(t, err, once.BadRecord, true)
			requireSecrecy(t, err, secret)
		})
	}
	t.Run("a context", func(t *testing.T) {
		t.Parallel()
		s, _ := recorded(t, p, call)
		r := only(t, s)
		r, err := s.Resolve(t.Context(), r.Key, r, store.Resolution{ID: "1", To: store.Tombstone, By: store.ByOperator, TTL: time.Hour})
		require.NoError(t, err)
		bid := store.Bid{Key: r.Key, Owner: "n", Lease: time.Minute, TTL: time.Hour, Info: r.Info}
		_, err = s.Acquire(t.Context(), bid)
		require.NoError(t, err)
		_, err = s.Settle(t.Context(), bid, store.Outcome{State: store.Succeeded, Context: `{"WorkflowID": 4711, "hush": hush}`})
		require.NoError(t, err)
		_, err = execute(t, guarded(t, s, p), (&payments{}).ChargeCard, call)
		requireReason(t, err, once.BadRecord, true)
		requireSecrecy(t, err, secret)
	})
	t.Run("a record that others may write", func(t *testing.T) {
		t.Parallel()
		s, path := recorded(t, p, call)
		require.NoError(t, os.Chmod(path, 0o666)) //nolint:gosec // so that it is refused
		_, err := execute(t, guarded(t, s, p), (&payments{}).ChargeCard, call)
		require.ErrorContains(t, err, "the worker does not start: store: unsafe set-up")
		require.ErrorContains(t, err, "chmod -R go-w")
		requireSecrecy(t, err, secret)
	})
}

// recorded returns a store with the outcome of one call, and its file.
func recorded(t *testing.T, p once.Policy, call charge) (*store.File, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	s, err := store.NewFile(dir, store.FileOptions{AnyFileSystem: true})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	_, err = execute(t, guarded(t, s, p), (&payments{}).ChargeCard, call)
	require.NoError(t, err)
	var found string
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".log" {
			found = path
		}
		return err
	}))
	return s, found
}

// summed is a log as a program wrote it that sees to its sizes and checksums.
func summed(content string) string {
	lines := slices.Collect(strings.Lines(content))
	for n, line := range lines[1:] {
		lines[n+1] = sealed(line[:2] + fmt.Sprintf("%08d", len(line)) + line[10:])
	}
	return strings.Join(lines, "")
}

// sealed returns a line of a log with its checksum.
func sealed(line string) string {
	text := line[:len(line)-len(" 00000000\n")]
	return fmt.Sprintf("%s %08x\n", text, crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
}

func requireSecrecy(t *testing.T, err error, secret string) {
	t.Helper()
	failure := temporal.GetDefaultFailureConverter().ErrorToFailure(err)
	shown := fmt.Sprintf("%v %+v %v", err, err, failure)
	require.NotContains(t, shown, secret)
	require.NotContains(t, shown, "4711")
}
