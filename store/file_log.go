package store

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// This file is the log: how lines get into it, and onto the disk. See the comment on
// File for the order of things.

const (
	tempExt     = ".tmp"
	smallest    = 1 << 20 // segments grow with the log, so that they stay few
	largest     = 64 << 20
	segmentsFor = 16
)

// log is the log as this handle has read it. Whoever uses it has the lock of the store
// and is the handle's only worker; what is guarded otherwise is marked.
type log struct {
	dir      *directory
	still    func() error // whether the lock of the store is still the one that others take
	claims   *claims
	segments []*segment // those before the last are durable
	index    index
	lost     bool   // somebody has removed files of the log
	losses   int    // how often that was found
	oldest   uint32 // the oldest segment that counts
	torn     bool   // the last write may have left something behind the last line
	unended  bool   // the last line is damaged, and has no line end
	merged   int64  // how far the oldest segment has been copied
	writes   int64  // bytes since the last look at what may go

	notices notices // of those who wait for a key, by its name: sent as its lines are read
	shore   *shore
}

func (l *log) last() *segment { return l.segments[len(l.segments)-1] }

func (l *log) segment(n uint32) *segment {
	i, found := slices.BinarySearchFunc(l.segments, n, func(s *segment, n uint32) int { return cmp.Compare(s.n, n) })
	if !found {
		return nil
	}
	return l.segments[i]
}

// refresh reads what other handles have written since this one looked, and removes the
// end of a line whose writer has died: nobody writes while the caller has the lock.
func (l *log) refresh() error {
	for {
		if len(l.segments) == 0 {
			return l.rebuild()
		}
		a := l.last()
		info, err := os.Lstat(a.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return l.rebuild()
		case err != nil:
			return l.dir.owner.explain(a.path, err, ErrUnsafe)
		}
		if err := l.dir.owner.checkInfo(a.path, info, ErrUnsafe); err != nil {
			return err
		}
		if !os.SameFile(info, a.info) {
			l.lose()
			return l.rebuild()
		}
		if info.Size() < a.size {
			return fmt.Errorf("%w: %s was cut off after %d bytes, of %d: put it back as it was", ErrCorrupt, a.path, info.Size(), a.size)
		}
		if info.Size() > a.size {
			if err := l.read(a, info.Size()); err != nil {
				return err
			}
		}
		next, err := l.openSegment(a.n + 1)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := l.trim(info.Size()); err != nil {
				return err
			}
			l.leave()
			return nil
		case err != nil:
			return err
		case next.after != a.size || next.first > l.oldest || next.losses != l.losses:
			_ = next.file.Close()
			return l.rebuild()
		}
		l.move(next, 0)
		if err := l.read(next, next.info.Size()); err != nil {
			return err
		}
		l.distrust(next)
	}
}

// move goes on to a segment that follows the last one. Whoever began it has made
// durable what is before it.
func (l *log) move(next *segment, size int64) {
	l.segments = append(l.segments, next)
	l.torn, l.unended = false, false
	l.shore.move(next, size)
}

// trim removes what is behind the last line.
func (l *log) trim(size int64) error {
	a := l.last()
	if size == a.size {
		l.torn = false
		return nil
	}
	// Whoever wrote what is there has died, or has a new lock since ours was removed.
	if err := l.still(); err != nil {
		return err
	}
	err := a.file.Truncate(a.size)
	if err == nil {
		err = l.dir.at("truncate")
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	l.torn = false
	return nil
}

// openSegment opens a segment and reads its first line.
func (l *log) openSegment(n uint32) (*segment, error) {
	path := filepath.Join(l.dir.logDir(), segmentName(n))
	file, info, err := l.dir.owner.openAt(path, os.O_RDWR|os.O_APPEND)
	if err != nil {
		return nil, err
	}
	s := &segment{n: n, path: path, file: file, info: info}
	if err := s.readFirst(); err != nil {
		_ = file.Close()
		return nil, err
	}
	return s, nil
}

// read reads the lines of a segment from where it stopped, up to size.
func (l *log) read(s *segment, size int64) error {
	if s.size == s.body {
		l.unended = false // it is not about the segment before
	}
	end, err := s.lines(s.size, size, func(at int64, text []byte) bool {
		l.apply(s, at, text)
		return true
	})
	s.size = max(s.size, end)
	return err
}

// apply takes note of a line.
func (l *log) apply(s *segment, at int64, text []byte) {
	l.unended = text[len(text)-1] != '\n'
	if isBlank(text) {
		return
	}
	where := lastLine{at: spot{s.n, uint32(at)}, size: uint32(len(text))}
	ln, err := parseLine(text)
	if err != nil {
		ids, all := suspects(text)
		if !all {
			l.index.unknown = append(l.index.unknown, where.at)
		}
		for _, k := range ids {
			l.put(s, k, where)
		}
		return
	}
	s.certain = max(s.certain, min(ln.durable, at))
	switch ln.state {
	case lineDropped:
		l.oldest = max(l.oldest, ln.before.segment+1)
	case lineForgotten:
		if before, found := l.index.remove(ln.id()); found {
			l.unlive(before)
			l.notices.send(ln.id().name())
		}
	default:
		where.expires, where.state = ln.expires, uint8(slices.Index(lineStates, ln.state))
		l.put(s, ln.id(), where)
	}
}

func (l *log) put(s *segment, k id, e lastLine) {
	before, found := l.index.put(k, e)
	if found {
		l.unlive(before)
	}
	if mayEndAWait(lineStates[before.state], lineStates[e.state]) {
		l.notices.send(k.name())
	}
	s.live += int64(e.size)
}

func (l *log) unlive(e lastLine) {
	if s := l.segment(e.at.segment); s != nil {
		s.live -= int64(e.size)
	}
}

// append writes a line, or leaves the log as it was. If it can do neither, the error
// is none of ErrFull.
func (l *log) append(ln line) (end durable, err error) {
	a := l.last()
	if l.torn {
		if err := l.trim(-1); err != nil {
			return durable{}, err
		}
	}
	if ln.durable, err = l.shore.upTo(a); err != nil {
		return durable{}, err
	}
	text := ln.text()
	if len(text) > longestLine {
		return durable{}, fmt.Errorf("%w: a record of %d bytes", ErrInvalid, len(ln.body))
	}
	gap := 0
	if l.unended {
		gap = 1
		text = append([]byte("\n"), text...)
	}
	_, err = a.file.Write(text)
	if err == nil {
		err = l.dir.at("write")
	}
	if err != nil {
		l.torn = true
		if l.trim(-1) == nil && isFull(err) {
			return durable{}, fmt.Errorf("%w: %w", ErrFull, err)
		}
		return durable{}, fmt.Errorf("store: %w", err)
	}
	at := a.size + int64(gap)
	a.size += int64(len(text))
	if info, err := a.file.Stat(); err != nil || info.Size() != a.size {
		l.forget() // somebody has written under another lock
		return durable{}, cmp.Or(err, errRemoved)
	}
	l.writes += int64(len(text))
	l.apply(a, at, text[gap:])
	return durable{segment: a.n, size: a.size}, nil
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// lineAt reads the line that a lastLine is about.
func (l *log) lineAt(e lastLine) ([]byte, error) {
	s := l.segment(e.at.segment)
	if s == nil {
		return nil, fmt.Errorf("%w: a segment of the log is gone", ErrCorrupt)
	}
	if info, err := s.file.Stat(); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	} else if err := l.dir.owner.checkInfo(s.path, info, ErrUnsafe); err != nil {
		return nil, err
	}
	text := make([]byte, e.size)
	n, err := s.file.ReadAt(text, int64(e.at.at))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("store: %w", err)
	}
	return text[:n], nil
}

// close closes the files.
func (l *log) close() {
	for _, s := range l.segments {
		_ = s.file.Close()
	}
}
