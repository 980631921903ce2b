//go:build linux || darwin

package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// quotedLine is text of a user that looks like the beginning of a line.
var quotedLine = "see 1 00000740 " + strings.Repeat("a1", 32) + " succeeded 0"

// Text in a record that looks like a line is no line, wherever a reader stops between two
// reads, and wherever the writer was killed.
func TestFile_QuotedLineIsNoLine(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	f := newFile(t, dir)
	const records = 30
	var sizes []int64
	for i := range records { // some lie across the border of what is read at once
		o := testSuccess
		o.Data = bytes.Repeat([]byte{'x'}, readAtOnce/20)
		o.Context = strings.Repeat(quotedLine, 50)
		_, err := f.Settle(t.Context(), testBid(fmt.Sprint("k", i), "a"), o)
		require.NoError(t, err)
		inLog(t, f, func(l *log) { sizes = append(sizes, l.last().size) })
	}
	paths := segmentsIn(t, dir)
	require.NoError(t, f.Close())
	again := newFile(t, dir)
	for i := range records {
		_, err := again.Load(t.Context(), fmt.Sprint("k", i))
		require.NoError(t, err, "k%d", i)
	}
	require.NoError(t, again.Close())

	require.NoError(t, os.Truncate(paths[len(paths)-1], sizes[records-1]-10))
	again = newFile(t, dir)
	for i := range records {
		r, err := again.Load(t.Context(), fmt.Sprint("k", i))
		require.NoError(t, err, "k%d", i)
		require.Equal(t, i == records-1, r.State == Absent)
	}
}

// A line whose end is damaged is none that was cut off, even if one that was follows.
func TestFile_DamagedLineBeforeOneThatWasCutOff(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFile(t, dir)
	requireWorks(t, f, "before")
	requireWorks(t, f, "k")
	path := segmentsIn(t, dir)[0]
	size, err := os.Stat(path)
	require.NoError(t, err)
	requireWorks(t, f, "after")
	require.NoError(t, f.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	whole = whole[:size.Size()+50]
	whole[size.Size()-1] = 'x'
	require.NoError(t, os.WriteFile(path, whole, 0o600))
	f = newFile(t, dir)
	_, err = f.Acquire(t.Context(), testBid("k", "b"))
	require.ErrorIs(t, err, ErrCorrupt)
}

// What is missing at the end of a segment that others follow frees no key.
func TestFile_CutSegmentFreesNoKey(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(content []byte) []byte{
		"a line":          func(content []byte) []byte { return content[:bytes.LastIndexByte(content[:len(content)-1], '\n')+1] },
		"half a line":     func(content []byte) []byte { return content[:len(content)-100] },
		"all of it":       func([]byte) []byte { return nil },
		"all lines":       func(content []byte) []byte { return content[:bytes.IndexByte(content, '\n')+1] },
		"size and end":    damagedEnd,
		"more than lines": func(content []byte) []byte { return append(content[:len(content)-100], make([]byte, 100)...) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f := newFile(t, dir)
			requireWorks(t, f, "k")
			inLog(t, f, func(l *log) { require.NoError(t, l.rotate()) })
			requireWorks(t, f, "after")
			require.NoError(t, f.Close())
			path := segmentsIn(t, dir)[0]
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, damage(content), 0o600))
			for range 2 {
				f = newFile(t, dir)
				for verb, call := range verbsOf(t.Context(), f, testBid("k", "b")) {
					_, err := call()
					require.ErrorIs(t, err, ErrCorrupt, verb)
					require.ErrorContains(t, err, path, verb)
				}
				r, err := f.Load(t.Context(), "after")
				require.NoError(t, err)
				require.Equal(t, testSuccess, r.Outcome)
				require.NoError(t, f.Close())
			}
		})
	}
}

// damagedEnd makes the last line say that it is longer, and damages its line end.
func damagedEnd(content []byte) []byte {
	from := bytes.LastIndexByte(content[:len(content)-1], '\n') + 1
	content[from+len(lineVersion)+1] = '2'
	content[len(content)-1] = 'x'
	return content
}

// What damages the first line of a segment costs no record.
func TestFile_DamagedFirstLineCostsNothing(t *testing.T) {
	t.Parallel()
	keys := []string{"first", "second", "third"}
	for segment := range keys {
		t.Run(fmt.Sprint(segment), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f := newFile(t, dir)
			for i, key := range keys {
				if i > 0 {
					inLog(t, f, func(l *log) { require.NoError(t, l.rotate()) })
				}
				requireWorks(t, f, key)
			}
			path := segmentsIn(t, dir)[segment]
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			at := rand.IntN(bytes.IndexByte(content, '\n'))
			content[at] ^= 1
			require.NoError(t, os.WriteFile(path, content, 0o600))
			for i := range 3 {
				again := newFile(t, dir)
				for _, f := range []*File{again, f} {
					for _, key := range keys {
						r, err := f.Acquire(t.Context(), testBid(key, "b"))
						require.NoError(t, err, "byte %d: %s", at, key)
						require.Equal(t, testSuccess, r.Outcome)
					}
					requireWorks(t, f, fmt.Sprint("new", i))
					require.NoError(t, f.Check(t.Context()))
				}
			}
		})
	}
}

// Who overwrites a damaged line with spaces forgets its key, and no other.
func TestFile_DamagedLineIsOverwrittenWithSpaces(t *testing.T) {
	t.Parallel()
	for _, ended := range []bool{true, false} {
		dir := memoryDir(t)
		f := newFile(t, dir)
		requireWorks(t, f, "before")
		_, err := f.Settle(t.Context(), testBid("k", "a"), testSuccess)
		require.NoError(t, err)
		last, err := os.ReadFile(segmentsIn(t, dir)[0])
		require.NoError(t, err)
		require.NoError(t, f.Close())
		inTheMiddle := newFile(t, dir)
		requireWorks(t, inTheMiddle, "after")
		inLog(t, inTheMiddle, func(l *log) { require.NoError(t, l.rotate()) })
		requireWorks(t, inTheMiddle, "in the next")
		require.NoError(t, inTheMiddle.Close())
		middle, err := os.ReadFile(segmentsIn(t, dir)[0])
		require.NoError(t, err)
		from := bytes.LastIndexByte(last[:len(last)-1], '\n') + 1
		for _, content := range [][]byte{middle, last, ofAnotherRun(t, last)} {
			content = bytes.Clone(content)
			for i := from; i < len(last); i++ {
				content[i] = ' '
			}
			if ended {
				content[len(last)-1] = '\n'
			}
			if len(content) == len(last) {
				require.NoError(t, os.RemoveAll(filepath.Join(dir, logName)))
				require.NoError(t, os.Mkdir(filepath.Join(dir, logName), 0o700))
			}
			require.NoError(t, os.WriteFile(filepath.Join(dir, logName, segmentName(1)), content, 0o600))
			for range 2 {
				f := newFile(t, dir)
				for _, key := range []string{"before", "after", "in the next"} {
					r, err := f.Load(t.Context(), key)
					require.NoError(t, err)
					require.True(t, r.State == Succeeded || key != "before" && len(content) == len(last), key)
				}
				r, err := f.Load(t.Context(), "k")
				require.NoError(t, err)
				require.Equal(t, Absent, r.State)
				requireWorks(t, f, fmt.Sprint("new", time.Now()))
				require.NoError(t, f.Close())
			}
		}
	}
}

// The first sector of a log takes its first line and a record with it, and does not look
// like what a power failure leaves.
func TestFile_DamagedFirstSectorFreesNoKey(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, 200, 512, 1024, 4096} {
		for _, with := range []byte{0, 'x', '\n'} {
			dir := t.TempDir()
			f := newFile(t, dir)
			requireWorks(t, f, "k")
			require.NoError(t, f.Close())
			path := segmentsIn(t, dir)[0]
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			for i := range min(size, len(content)) {
				content[i] = with
			}
			require.NoError(t, os.WriteFile(path, content, 0o600))
			for range 2 {
				f := newFile(t, dir)
				r, err := f.Acquire(t.Context(), testBid("k", "b"))
				if err == nil {
					require.Equal(t, testSuccess, r.Outcome, "%d bytes", size)
				} else {
					require.ErrorIs(t, err, ErrCorrupt, "%d bytes", size)
				}
				require.NoError(t, f.Close())
			}
		}
	}
}

// Damage in a line that counts no more is forgotten with its segment.
func TestFile_UnknownDamageGoesWithItsSegment(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	f := newFile(t, dir)
	requireWorks(t, f, "k")
	inLog(t, f, func(l *log) { require.NoError(t, l.rotate()) })
	b := testBid("k", "a")
	r, err := f.Load(t.Context(), "k")
	require.NoError(t, err)
	_, err = f.Resolve(t.Context(), "k", r, Resolution{ID: "1", To: Tombstone, By: ByOperator, TTL: time.Hour})
	require.NoError(t, err)
	path := segmentsIn(t, dir)[0]
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	clear(content[bytes.IndexByte(content, '\n')+1:])
	require.NoError(t, os.WriteFile(path, content, 0o600))

	other := newFile(t, dir)
	_, err = other.Acquire(t.Context(), testBid("new", "a"))
	require.ErrorIs(t, err, ErrCorrupt)
	inLog(t, f, func(l *log) { require.NoError(t, l.merge(clock())) }) // for it, all lines were whole
	require.NoFileExists(t, path)
	_, err = other.Acquire(t.Context(), testBid("new", "a"))
	require.NoError(t, err)
	_, err = other.Acquire(t.Context(), b)
	require.NoError(t, err)
}
