package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// This file is how segments begin and end.

// rebuild reads the whole log anew: when the store is opened, and where what this handle
// knows of it is no longer of use.
func (l *log) rebuild() error {
	if err := l.dir.isStill(); err != nil {
		return err
	}
	known := uint32(0)
	if len(l.segments) > 0 {
		known = l.last().n
	}
	numbers, err := l.numbers()
	if err != nil {
		return err
	}
	l.forget()
	if len(numbers) == 0 {
		if known > 0 {
			l.lose()
		}
		l.oldest = known + 1
		return l.begin(known+1, 0, nil)
	}
	losses := l.losses
	if err := l.open(numbers); err != nil {
		l.forget()
		return err
	}
	switch {
	case l.last().n < known:
		l.lose()
		return l.rotate()
	case known > 0 && l.losses != losses:
		l.lost = true
	}
	return l.refresh()
}

// lose takes note that files of the log were removed. The next segment says so to the
// other handles.
func (l *log) lose() {
	l.lost = true
	l.losses++
}

// forget makes this handle one that has read nothing.
func (l *log) forget() {
	l.close()
	l.segments, l.index, l.torn, l.merged = nil, newIndex(), false, 0
	l.notices.sendAll()
}

// numbers returns those of the segments in the directory, in their order.
func (l *log) numbers() (numbers []uint32, err error) {
	made, err := l.dir.owner.makeDirAt(l.dir.logDir())
	if err == nil && made {
		err = syncDir(l.dir.path)
	}
	if err != nil {
		return nil, prefixed(err)
	}
	names, err := l.dir.owner.namesAt(l.dir.logDir())
	for _, name := range names {
		if n := segmentNumber(name); n > 0 {
			numbers = append(numbers, n)
		} else if filepath.Ext(name) == tempExt {
			// Written under the lock only: its writer has died.
			_ = os.Remove(filepath.Join(l.dir.logDir(), name))
		}
	}
	slices.Sort(numbers)
	return numbers, err
}

// open reads the segments of these numbers. Those before the first that counts are gone,
// or would be if the host had not stopped: they are removed.
func (l *log) open(numbers []uint32) error {
	for _, n := range numbers {
		s, err := l.openSegment(n)
		if err != nil {
			return err
		}
		l.segments = append(l.segments, s)
	}
	last := l.last()
	l.oldest, l.losses = numbers[0], 0
	if slices.ContainsFunc(l.segments, func(s *segment) bool { return s.first > 0 }) {
		l.oldest = 0
	}
	for _, s := range l.segments { // the last one knows best, if its first line is not damaged
		l.oldest, l.losses = max(l.oldest, s.first), max(l.losses, s.losses)
	}
	if err := l.drop(); err != nil {
		return err
	}
	l.shore.resume(last)
	for i, s := range l.segments {
		info, err := s.file.Stat()
		if err != nil {
			return fmt.Errorf("store: %w", err)
		}
		if s == last && (s.boot == unknownBoot || s.boot != bootID()) {
			return l.adopt(s, info.Size())
		}
		end := info.Size()
		if s != last && l.segments[i+1].after != unknownEnd {
			end = l.segments[i+1].after
		}
		if err := l.read(s, min(end, info.Size())); err != nil {
			return err
		}
		if s != last && s.size < end { // it was durable
			l.index.unknown = append(l.index.unknown, spot{s.n, uint32(s.size)})
			s.size = end
		}
	}
	l.distrust(last)
	return l.check()
}

// distrust writes again, as it is, what the lines of a segment do not say is durable. If a
// sync of others has failed, the kernel may call it clean, and reports that to nobody who
// opens the file later: a sync of it would say nothing.
func (l *log) distrust(s *segment) {
	from := max(l.shore.trust(s), s.body)
	if from >= s.size {
		return
	}
	text := make([]byte, s.size-from)
	_, err := s.file.ReadAt(text, from)
	if err == nil {
		err = s.overwrite(text, from, func(*os.File) error { return l.dir.at("rewritten") })
	}
	if err != nil {
		l.shore.fail(s, err) // it is written anew, or nobody hears of it
	}
}

// check compares the segments that are there with those that count.
func (l *log) check() error {
	if l.segments[0].n < l.oldest {
		// Lines of them may have come back that nothing later replaces.
		if err := l.drop(); err != nil {
			return err
		}
		numbers, err := l.numbers()
		if err != nil {
			return err
		}
		l.forget()
		return l.open(numbers)
	}
	l.lost = l.lost || int(l.last().n-l.oldest) >= len(l.segments)
	return nil
}

// drop removes the segments that do not count any more. They come back if the host stops
// before that is durable.
func (l *log) drop() error {
	for _, s := range l.segments {
		if s.n >= l.oldest {
			break
		}
		if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("store: %w", err)
		}
	}
	l.leave()
	return nil
}

// leave closes the segments that do not count any more.
func (l *log) leave() {
	for len(l.segments) > 1 && l.segments[0].n < l.oldest {
		_ = l.segments[0].file.Close()
		l.segments, l.merged = l.segments[1:], 0
	}
	// Whoever retired a segment knew that nothing in it counts.
	l.index.unknown = slices.DeleteFunc(l.index.unknown, func(at spot) bool { return at.segment < l.oldest })
}

// adopt goes on with a log whose last segment was written in another run of the host,
// which may have ended with its power. What was durable is whole, and is what lines say
// was. Behind that, any part may be missing: what comes after the first gap was never
// answered, and does not count.
func (l *log) adopt(s *segment, size int64) error {
	certain, gaps := s.body, []int64(nil)
	end, err := s.lines(s.body, size, func(at int64, text []byte) bool {
		switch ln, err := parseLine(text); {
		case isBlank(text):
		case errors.Is(err, ErrCorrupt) && !s.assumed: // or else the power may never have failed
			gaps = append(gaps, at)
		case err == nil:
			certain = max(certain, ln.durable)
		}
		return true
	})
	if err != nil {
		return err
	}
	if i, _ := slices.BinarySearch(gaps, certain); i < len(gaps) {
		end = gaps[i]
	}
	if err := l.read(s, end); err != nil {
		return err
	}
	if err := syncData(s.file); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if err := l.begin(s.n+1, end, nil); err != nil {
		return err
	}
	return l.check()
}

// rotate begins the next segment, once this one is durable.
func (l *log) rotate() error {
	a := l.last()
	if err := l.shore.sync(a, a.size); err != nil {
		return err
	}
	return l.begin(a.n+1, a.size, nil)
}

// restate begins the next segment after a sync of this one failed. Nobody knows what of it
// the disk has beyond what was durable: all of that is written anew.
func (l *log) restate() error {
	a := l.last()
	size, _ := l.shore.upTo(a)
	from := max(size, a.body)
	var again bytes.Buffer
	_, err := a.lines(from, a.size, func(at int64, text []byte) bool {
		ln, err := parseLine(text)
		if err == nil && ln.state != lineForgotten && ln.state != lineDropped {
			if e := l.index.entries[ln.id()]; e.at != (spot{a.n, uint32(at)}) {
				return true
			}
			ln.before, ln.durable = spot{a.n, uint32(at)}, 0
			text = ln.text()
		}
		again.Write(text)
		return true
	})
	if err != nil {
		return err
	}
	if err := l.begin(a.n+1, from, again.Bytes()); err != nil {
		return err
	}
	return l.rebuild()
}

// begin makes segment n durably and goes on to it. The one before counts up to after, and
// is durable, or n restates what is not. The name of n is made durable by whoever
// first answers what is in it.
func (l *log) begin(n uint32, after int64, content []byte) error {
	path := filepath.Join(l.dir.logDir(), segmentName(n))
	temp := fmt.Sprintf("%s.%016x%s", path, rand.Uint64(), tempExt)
	like := ""
	if len(l.segments) > 0 {
		like = l.last().path
	}
	err := l.writeTemp(temp, append(firstOf(n, bootID(), l.oldest, after, l.losses), content...), like)
	if err == nil {
		err = rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp)
		return prefixed(err)
	}
	if err := l.dir.at("rename"); err != nil {
		return prefixed(err)
	}
	s, err := l.openSegment(n)
	if err != nil {
		return err
	}
	l.move(s, s.info.Size())
	return nil
}

// rename gives a file another name, if that is free: somebody who removes the file of
// the lock lets others write meanwhile.
func rename(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, os.ErrExist) {
		_ = os.Remove(from)
		return err
	}
	if _, err := os.Lstat(to); err == nil {
		return &os.PathError{Op: "rename", Path: to, Err: os.ErrExist}
	}
	return os.Rename(from, to) // where there are no links
}

// writeTemp writes data to a new file at path, durably, which has the owner and mode
// of the file at like. The caller has the lock of the store: a file that is there
// already is what a crash left.
func (l *log) writeTemp(path string, data []byte, like string) error {
	flag := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	file, err := os.OpenFile(path, flag, 0o600)
	if errors.Is(err, os.ErrExist) {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("%w: %s is in the way of a file of the store: move it away: %w", ErrUnsafe, path, err)
		}
		file, err = os.OpenFile(path, flag, 0o600)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if err := l.dir.owner.give(file, like); err != nil {
		return err
	}
	if err := l.dir.at("create"); err != nil {
		return err
	}
	if _, err := file.Write(data); err != nil {
		return err
	}
	// Never twice: after a failed fsync the kernel may call lost pages clean.
	if err := file.Sync(); err != nil {
		return err
	}
	if err := l.dir.at("begun"); err != nil {
		return err
	}
	return file.Close()
}
