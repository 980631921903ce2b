//go:build linux || darwin

package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fullRecord returns a record that says something in every field. Its texts hold
// text.
func fullRecord(tb testing.TB, key, text string) Record {
	tb.Helper()
	r := Record{Kept: new(Outcome), History: make([]Turn, 2)}
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	fillFields(tb, reflect.ValueOf(&r).Elem(), text, at)
	r.Key, r.State, r.Now = key, Succeeded, time.Time{}
	return r
}

func fillFields(tb testing.TB, v reflect.Value, text string, at time.Time) {
	tb.Helper()
	switch x := v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(at))
		return
	case []byte:
		v.SetBytes([]byte(text))
		return
	case *Outcome:
		fillFields(tb, v.Elem(), text, at)
		return
	case []Turn:
		for i := range x {
			fillFields(tb, v.Index(i), text, at)
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32:
		v.SetInt(7)
	case reflect.Uint64:
		v.SetUint(1772366400123456)
	case reflect.Struct:
		for i := range v.NumField() {
			fillFields(tb, v.Field(i), text, at)
		}
	default:
		require.Fail(tb, "a field of a new kind", "%s", v.Type())
	}
}

func TestFile_FormKeepsEveryString(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"\xff", "a\xc3\x28", "\xed\xa0\x80", "\x00", "\x7f\x1b\r\n", "\ufffd", "<&>\u2028\u2029", "\ufeff", "plain",
		notText, notText + "/w==", notText + "\xff", `\u0000base64:`, "",
	} {
		r := fullRecord(t, "k"+text, text)
		r.Owner = "o" + text
		data, err := encodeRecord(r)
		require.NoError(t, err)
		again, err := decodeForm(data)
		require.NoError(t, err, "%q", text)
		if text == "" {
			r.Outcome.Data, r.Kept.Data = nil, nil
		}
		require.Equal(t, r, again, "%q", text)
	}
}

// writtenRecord is a record as it is on disk.
func writtenRecord(tb testing.TB, r Record) []byte {
	tb.Helper()
	data, err := encodeRecord(r)
	require.NoError(tb, err)
	return data
}

func TestFile_NoByteChangesUnnoticed(t *testing.T) {
	t.Parallel()
	data := writtenRecord(t, fullRecord(t, "k", "text"))
	for i := range data {
		for value := range 256 { // each bit is among them
			if byte(value) == data[i] {
				continue
			}
			damaged := bytes.Clone(data)
			damaged[i] = byte(value)
			_, err := decodeForm(damaged)
			require.ErrorIs(t, err, ErrCorrupt, "byte %d: %q", i, damaged[max(0, i-20):min(len(data), i+20)])
		}
	}
	for n := range data {
		_, err := decodeForm(data[:n])
		require.ErrorIs(t, err, ErrCorrupt, "cut off after %d bytes", n)
		_, err = decodeForm(append(bytes.Clone(data[:n]), make([]byte, len(data)-n)...))
		require.ErrorIs(t, err, ErrCorrupt, "zeros after %d bytes", n)
		_, err = decodeForm(append(bytes.Clone(data[:n]), data[min(n+1, len(data)):]...))
		require.ErrorIs(t, err, ErrCorrupt, "without byte %d", n)
	}
	for name, damaged := range map[string]string{
		"doubled": string(data) + string(data), "a line end more": string(data) + "\n", "a space before": " " + string(data),
		"line ends of another system": strings.ReplaceAll(string(data), "\n", "\r\n"),
		"another number":              strings.Replace(string(data), `"expires": "2026-`, `"expires": "2025-`, 1),
		"a field twice":               strings.Replace(string(data), `"marked": true,`, `"marked": true, "marked": true,`, 1),
	} {
		require.NotEqual(t, string(data), damaged)
		_, err := decodeForm([]byte(damaged))
		require.ErrorIs(t, err, ErrCorrupt, name)
	}
}

// Another program's JSON is no record: it has no checksum that says it is whole.
func TestFile_RecordChangedByHandSaysWhatToDo(t *testing.T) {
	t.Parallel()
	data := writtenRecord(t, fullRecord(t, "k", "text"))
	edited := bytes.Replace(data, []byte(`"state": "succeeded"`), []byte(`"state": "tombstone"`), 1)
	var compact bytes.Buffer
	require.NoError(t, json.Compact(&compact, data))
	lines := strings.SplitAfter(string(data), "\n")
	unsummed := strings.TrimSuffix(strings.Join(lines[:len(lines)-3], ""), ",\n") + "\n}\n"
	require.True(t, json.Valid([]byte(unsummed)))

	dir := t.TempDir()
	f := newFile(t, dir)
	for name, content := range map[string]string{"edited": string(edited), "compact": compact.String(), "without its sum": unsummed} {
		require.NoError(t, os.WriteFile(locate(dir, "k").path, []byte(content), 0o600))
		_, err := f.Acquire(t.Context(), testBid("k", "b"))
		require.ErrorIs(t, err, ErrCorrupt, name)
		require.ErrorContains(t, err, "changed by hand. Put it back as it was", name)
		require.ErrorContains(t, err, locate(dir, "k").path, name)
	}
}

func TestFile_DamageNeverFreesAKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFile(t, dir)
	_, err := f.Settle(t.Context(), testBid("k", "a"), testSuccess)
	require.NoError(t, err)
	path := locate(dir, "k").path
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	year := fmt.Sprintf(`"expires": "%d`, time.Now().Year())
	for name, damaged := range map[string][]byte{
		"expired":            bytes.Replace(data, []byte(year), []byte(`"expires": "1999`), 1),
		"given back":         bytes.Replace(data, []byte(`"succeeded"`), []byte(`"tombstone"`), 1),
		"of another key":     bytes.Replace(data, []byte(`"key": "k"`), []byte(`"key": "l"`), 1),
		"written by nobody":  bytes.Replace(data, []byte(`"owner": "a"`), []byte(`"owner": "b"`), 1),
		"empty":              {},
		"zeros":              make([]byte, len(data)),
		"another key's file": writtenRecord(t, fullRecord(t, "l", "text")),
	} {
		require.NotEqual(t, data, damaged, name)
		require.NoError(t, os.WriteFile(path, damaged, 0o600))
		r, err := f.Acquire(t.Context(), testBid("k", "b"))
		require.ErrorIs(t, err, ErrCorrupt, name)
		require.Empty(t, r.State)
		f.sweeper.sweep(locate("", "k").shard, clock())
		require.FileExists(t, path, name)
	}
	require.NoError(t, os.WriteFile(path, data, 0o600))
	r, err := f.Acquire(t.Context(), testBid("k", "b"))
	require.NoError(t, err)
	require.Equal(t, testSuccess, r.Outcome)
}

// What a program of version 1 has written is read, and has a checksum from the next
// write on.
func TestFile_ReadsVersion1(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFile(t, dir)
	claimed := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for key, old := range map[string]string{
		"k":    `{"version":1,"key":"k","state":"running","owner":"a","fence":7,"revision":3,"claimed":"2026-03-01T12:00:00Z","lease_end":"2026-03-01T12:01:00Z","origin":"first","info":{"match":"\u0000base64:/w=="}}`,
		"\xff": `{"version":1,"key_bytes":"/w==","key":"\ufffd","state":"running","owner":"a","fence":7,"revision":3,"claimed":"2026-03-01T12:00:00Z","lease_end":"2026-03-01T12:01:00Z","origin":"first","info":{"match":"\u0000base64:/w=="}}`,
	} {
		path := locate(dir, key).path
		require.NoError(t, os.WriteFile(path, []byte(old), 0o600))
		r, err := f.Load(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, Record{
			Key: key, State: Running, Owner: "a", Fence: 7, Revision: 3, Now: r.Now, Origin: First,
			Claimed: claimed, LeaseEnd: claimed.Add(time.Minute), Info: Info{Match: notText + "/w=="},
		}, r)
		settled, err := f.Settle(t.Context(), testBid(key, "a"), testSuccess)
		require.NoError(t, err)
		require.Equal(t, r.Info, settled.Info)
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		found, right := checkSum(data)
		require.True(t, found && right)
		again, err := f.Load(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, r.Info, again.Info)
		require.Equal(t, testSuccess, again.Outcome)
	}
}
