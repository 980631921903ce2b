//go:build linux || darwin

package store

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// What was written anew after a failed sync is on the disk only when the name of its
// segment is, also for those who waited for the segment before.
func TestFile_WrittenAnewIsDurableWithItsName(t *testing.T) {
	t.Parallel()
	for _, anew := range []string{"by itself", "by another handle"} {
		dir := t.TempDir()
		f, other := newFile(t, dir), newFile(t, dir)
		requireWorks(t, f, "before")
		mend, _ := failAt(f, "fsync", errDisk)
		_, err := f.Acquire(t.Context(), testBid("k", "a"))
		require.ErrorIs(t, err, errDisk)
		mend()
		var old *segment
		var size int64
		inLog(t, f, func(l *log) { // is restated
			old, size = l.segments[0], l.segments[0].size
			require.Len(t, l.segments, 2)
		})
		if anew != "by itself" {
			inLog(t, other, func(*log) {})
			f = other
		}
		mend, _ = failAt(f, "dirsync", errDisk)
		require.ErrorIs(t, f.log.shore.sync(old, size), errDisk, anew)
		mend()
		require.Error(t, f.log.shore.sync(old, size), "not before it is written anew again")
		inLog(t, f, func(*log) {})
		require.NoError(t, f.log.shore.sync(old, size))
	}
}

// Who sees in the middle of a batch that others write at the same time answers nobody.
func TestFile_NothingIsAnsweredOfAForgottenLog(t *testing.T) {
	t.Parallel()
	f := newFile(t, t.TempDir())
	requireWorks(t, f, "before")
	failAt(f, "fsync", errDisk)
	written := func(key string) *request {
		return &request{ctx: t.Context(), done: make(chan error, 1), job: func(l *log) (durable, error) {
			return f.records.write(l, &stored{Record: Record{Key: key, State: Succeeded}})
		}}
	}
	first, second := written("k"), written("l")
	disturb := second.job
	second.job = func(l *log) (durable, error) {
		file, err := os.OpenFile(l.last().path, os.O_WRONLY|os.O_APPEND, 0)
		require.NoError(t, err)
		_, err = file.WriteString("x")
		require.NoError(t, err)
		require.NoError(t, file.Close())
		return disturb(l)
	}
	f.queue.batch([]*request{first, second})
	require.Error(t, <-first.done)
	require.Error(t, <-second.done)
}

// A claim that Close has given up while it was written is not answered as granted.
func TestFile_ClosedHandleGrantsNothing(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"write", "fsync"} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			f, other := newFile(t, dir), newFile(t, dir)
			goOn, _ := hang(f, point)
			granted := make(chan error, 1)
			go func() {
				_, err := f.Acquire(t.Context(), testBid("k"+point, "a"))
				granted <- err
			}()
			synctest.Wait()
			require.NoError(t, f.Close())
			goOn()
			require.ErrorIs(t, <-granted, fs.ErrClosed, point)
			synctest.Wait()
			r, err := other.Acquire(t.Context(), testBid("k"+point, "b"))
			require.NoError(t, err)
			require.Equal(t, InDoubt, r.State)
		})
	}
}

// The kernel does not report a sync that failed to whoever opens the file later: what may
// have been in it is written again before it is synced and believed.
func TestFile_WhoComesLaterBelievesNoSyncOfOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, other := newFile(t, dir), newFile(t, dir)
	requireWorks(t, f, "before")
	inLog(t, f, func(l *log) { require.NoError(t, l.rotate()) })
	_, err := f.Acquire(t.Context(), testBid("k", "a"))
	require.NoError(t, err)
	failAt(f, "fsync", errDisk)
	_, err = f.Settle(t.Context(), testBid("k", "a"), testSuccess)
	require.ErrorIs(t, err, errDisk)
	path := segmentsIn(t, dir)[1]
	past := time.Now().Add(-time.Hour).Truncate(time.Second)

	require.NoError(t, os.Chtimes(path, past, past))
	var points []string
	var mu sync.Mutex
	step := func(point string) error {
		mu.Lock()
		defer mu.Unlock()
		points = append(points, point)
		return nil
	}
	other.dir.step.Store(&step)
	for i, f := range []*File{other, nil} { // one that goes on to it, and one that opens it
		if i > 0 {
			f = newFile(t, dir)
		}
		r, err := f.Load(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, testSuccess, r.Outcome)
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.NotEqual(t, past, info.ModTime())
		require.NoError(t, os.Chtimes(path, past, past))
	}
	require.Equal(t, []string{"rewritten", "fsync"}, points[:2])
}

// Where that cannot be written again, it is written anew.
func TestFile_WhatCannotBeWrittenAgainIsWrittenAnew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, other := newFile(t, dir), newFile(t, dir)
	inLog(t, f, func(l *log) { require.NoError(t, l.rotate()) })
	requireWorks(t, f, "k")
	failAt(other, "rewritten", errDisk)
	r, err := other.Load(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, testSuccess, r.Outcome)
	require.Len(t, segmentsIn(t, dir), 3)
}

// A power failure in the middle of an erasure costs no line that came after what is erased.
func TestFile_PowerFailureWhileErasing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, tool := newFile(t, dir), newFile(t, dir)
	b := testBid("k", "a")
	_, err := f.Acquire(t.Context(), b)
	require.NoError(t, err)
	r, err := f.Settle(t.Context(), b, testSuccess)
	require.NoError(t, err)
	_, err = tool.Resolve(t.Context(), "k", r, Resolution{ID: "1", To: Tombstone, Erase: true, By: ByOperator, Who: "me", TTL: time.Hour})
	require.NoError(t, err)

	path := segmentsIn(t, dir)[0]
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	content = ofAnotherRun(t, content)
	lines := bytes.SplitAfter(content, []byte("\n"))
	at, blanked := 0, 0
	for _, text := range lines {
		if bytes.Contains(text, []byte(strings64)) {
			blanked++
			again := memoryDir(t)
			torn := bytes.Clone(content)
			copy(torn[at+len(text)/2:], "half of it was there before")
			require.NoError(t, os.Mkdir(filepath.Join(again, logName), 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(again, logName, filepath.Base(path)), torn, 0o600))
			r, err := newFile(t, again).Load(t.Context(), "k")
			require.NoError(t, err)
			require.Equal(t, Tombstone, r.State)
		}
		at += len(text)
	}
	require.Equal(t, 2, blanked)
}

// strings64 is in a line that was erased.
const strings64 = "                                                                "
