//go:build linux || darwin

package store

import (
	"bytes"
	"os"
	"reflect"
	"slices"
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

// lineOf is a line about a record.
func lineOf(tb testing.TB, r Record) []byte {
	tb.Helper()
	body, err := encodeRecord(r)
	require.NoError(tb, err)
	return line{digest: digest(r.Key), state: r.State, expires: seconds(r.Expires), durable: 512, before: spot{1, 512}, body: body}.text()
}

func TestFile_NoByteOfALineChangesUnnoticed(t *testing.T) {
	t.Parallel()
	text := lineOf(t, fullRecord(t, "k", "text"))
	for i := range text {
		for value := range 256 { // each bit is among them
			if byte(value) == text[i] {
				continue
			}
			damaged := bytes.Clone(text)
			damaged[i] = byte(value)
			_, err := parseLine(damaged)
			require.ErrorIs(t, err, ErrCorrupt, "byte %d", i)
			ids, all := suspects(damaged)
			require.Contains(t, ids, idOf("k"), "byte %d: it is still known whose it is", i)
			require.True(t, all, "byte %d", i)
		}
	}
	for n := range text {
		_, err := parseLine(text[:n])
		require.ErrorIs(t, err, ErrCorrupt, "cut off after %d bytes", n)
		_, err = parseLine(append(bytes.Clone(text[:n]), make([]byte, len(text)-n)...))
		require.ErrorIs(t, err, ErrCorrupt, "zeros after %d bytes", n)
		_, err = parseLine(append(bytes.Clone(text[:n]), text[min(n+1, len(text)):]...))
		require.ErrorIs(t, err, ErrCorrupt, "without byte %d", n)
	}
}

// Whatever byte of the log changes, no key is free that was not, and no other key's
// record is another one.
func TestFile_DamageNeverFreesAKey(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	f := newFile(t, dir)
	keys := []string{"first", "k", "last"}
	for _, key := range keys {
		_, err := f.Settle(t.Context(), testBid(key, "a"), testSuccess)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	path := segmentsIn(t, dir)[0]
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	starts := []int{bytes.IndexByte(whole, '\n') + 1}
	for range keys {
		starts = append(starts, starts[len(starts)-1]+statedSize(whole[starts[len(starts)-1]:]))
	}
	for at := range whole {
		for _, value := range []byte{0, '\n', '0', whole[at] ^ 1, whole[at] ^ 0x80} {
			if value == whole[at] {
				continue
			}
			damaged := bytes.Clone(whole)
			damaged[at] = value
			require.NoError(t, os.WriteFile(path, damaged, 0o600))
			f, err := NewFile(dir, FileOptions{AnyFileSystem: true})
			require.NoError(t, err)
			for i, key := range keys {
				r, err := f.Load(t.Context(), key)
				if at >= starts[i] && at < starts[i+1] {
					require.ErrorIs(t, err, ErrCorrupt, "byte %d to %d: %s", at, value, key)
					require.ErrorContains(t, err, path)
					_, err = f.Acquire(t.Context(), testBid(key, "b"))
					require.ErrorIs(t, err, ErrCorrupt)
				} else {
					require.NoError(t, err, "byte %d to %d: %s", at, value, key)
					require.Equal(t, testSuccess, r.Outcome)
				}
			}
			require.NoError(t, f.Close())
		}
	}
}

// What hides even whose record it was is damage for every key of which nothing later is
// known.
func TestFile_UnknownDamageFreesNoKey(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(whole []byte, from, to int) []byte{
		"zeros":            func(whole []byte, from, to int) []byte { clear(whole[from:to]); return whole },
		"zeros to the end": func(whole []byte, from, _ int) []byte { clear(whole[from:]); return whole },
		"other text": func(whole []byte, from, to int) []byte {
			return slices.Concat(whole[:from], []byte("nothing\n"), whole[to:])
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f := newFile(t, dir)
			for _, key := range []string{"before", "k", "after"} {
				_, err := f.Settle(t.Context(), testBid(key, "a"), testSuccess)
				require.NoError(t, err)
			}
			require.NoError(t, f.Close())
			path := segmentsIn(t, dir)[0]
			whole, err := os.ReadFile(path)
			require.NoError(t, err)
			from := bytes.IndexByte(whole, '\n') + 1
			from += statedSize(whole[from:])
			require.NoError(t, os.WriteFile(path, damage(whole, from, from+statedSize(whole[from:])), 0o600))

			for range 2 {
				f = newFile(t, dir)
				for _, key := range []string{"before", "k", "new"} {
					_, err := f.Acquire(t.Context(), testBid(key, "b"))
					require.ErrorIs(t, err, ErrCorrupt, key)
					require.ErrorContains(t, err, "nobody knows whose it is")
				}
				require.NotEmpty(t, errorsOf(t.Context(), f, Query{}))
				if name != "zeros to the end" {
					r, err := f.Load(t.Context(), "after")
					require.NoError(t, err)
					require.Equal(t, testSuccess, r.Outcome)
				}
			}
		})
	}
}
