package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// This file is how the log stays small. When less than half of it is remembered, its
// oldest segment is copied to its end, as far as it is, and removed: a little after each
// write, and never more than mergeStep at once. Any handle may do so, each goes on from
// where it has come itself, and what another one has copied is not the last line of its
// key any more.

const (
	mergeStep = 64 << 10
	mergeFrom = 2 << 20 // a log that is smaller is left as it is
)

// tidy does what is due after a write. The caller has the lock, and has read the log.
func (l *log) tidy(now time.Time) error {
	if l.writes < mergeStep/4 {
		return nil
	}
	l.writes = 0
	total := int64(0)
	for _, s := range l.segments {
		total += s.size
	}
	remembered := l.index.remembered(now)
	full := min(max(smallest, total/segmentsFor), largest)
	if a := l.last(); a.size > full {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	if total < mergeFrom || total < 2*remembered || len(l.segments) < 2 {
		return nil
	}
	return l.merge(now)
}

// merge copies a little of the oldest segment, or removes it.
func (l *log) merge(now time.Time) error {
	s := l.segments[0]
	if slices.ContainsFunc(l.index.unknown, func(at spot) bool { return at.segment == s.n }) {
		return nil // it is the evidence, and stays where it is
	}
	if l.merged == 0 {
		l.merged = s.body
	}
	for limit := l.merged + mergeStep; s.live > 0 && l.merged < min(limit, s.size); {
		var failed error
		end, err := s.lines(l.merged, min(l.merged+mergeStep+longestLineOf(s, l.merged), s.size), func(at int64, text []byte) bool {
			if at >= limit {
				return false
			}
			failed = l.keep(s, at, bytes.Clone(text), now)
			return failed == nil
		})
		if err := errors.Join(err, failed); err != nil {
			return err
		}
		if end == l.merged {
			break
		}
		l.merged = end
	}
	if s.live > 0 {
		return nil
	}
	return l.retire(s)
}

// longestLineOf is how much more than a step is read, so that a long line has its end.
func longestLineOf(s *segment, at int64) int64 {
	head := make([]byte, 128)
	n, _ := s.file.ReadAt(head, at)
	return int64(statedSize(head[:n]))
}

// keep copies a line of the oldest segment, if it is the last one of its key and is
// remembered. A running record is, while its owner lives.
func (l *log) keep(s *segment, at int64, text []byte, now time.Time) error {
	where := spot{s.n, uint32(at)}
	ln, err := parseLine(text)
	if err != nil {
		ids, _ := suspects(text)
		for _, k := range ids {
			if l.index.entries[k].at == where {
				return err // it is the evidence, too
			}
		}
		return nil
	}
	if e, found := l.index.entries[ln.id()]; !found || e.at != where {
		return nil
	}
	if over(ln.expires, now) {
		alive := false
		if ln.state == Running && ln.claim != "" {
			if alive, err = l.claims.ownerLives(ln.claim); err != nil {
				return err
			}
		}
		if !alive {
			ln.state, ln.body = lineForgotten, []byte("{}")
		}
	}
	ln.before = where
	_, err = l.append(ln)
	return err
}

// retire removes the oldest segment, of which nothing is the last line of its key, once
// that is durable. Whoever reads that it was dropped relies on that.
func (l *log) retire(s *segment) error {
	if err := l.shore.sync(l.last(), l.last().size); err != nil {
		return err
	}
	dropped := line{digest: strings.Repeat("0", 64), state: lineDropped, before: spot{segment: s.n}, body: []byte("{}")}
	if _, err := l.append(dropped); err != nil {
		return err
	}
	if err := l.shore.sync(l.last(), l.last().size); err != nil {
		return err
	}
	if err := l.dir.at("retire"); err != nil {
		return err
	}
	return l.drop()
}

// confirm has a line say that all lines before it are durable: whatever a power failure
// leaves of one that is being overwritten, it is then no gap.
func (l *log) confirm(k id) error {
	last := l.index.entries[k]
	text, err := l.lineAt(last)
	if err != nil {
		return err
	}
	ln, err := parseLine(text)
	if err != nil {
		return err
	}
	ln.before = last.at
	end, err := l.append(ln)
	if err != nil {
		return err
	}
	return l.shore.sync(l.last(), end.size)
}

// erase overwrites the record in the lines of a key before one that is durable.
func (l *log) erase(k id, last lastLine) error {
	text, err := l.lineAt(last)
	if err == nil {
		err = l.confirm(k)
	}
	for err == nil {
		var ln line
		if ln, err = parseLine(text); err != nil {
			break
		}
		s, at := l.segment(ln.before.segment), ln.before.at
		if s == nil {
			return nil
		}
		head := make([]byte, 128)
		if n, _ := s.file.ReadAt(head, int64(at)); statedSize(head[:n]) == 0 {
			return nil
		}
		older := lastLine{at: ln.before, size: uint32(statedSize(head))}
		if text, err = l.lineAt(older); err != nil {
			break
		}
		err = s.blank(text, int64(at), ln.digest)
	}
	if errors.Is(err, ErrCorrupt) {
		return nil // an old line, which says nothing any more
	}
	return err
}

// blank overwrites the record in a line with spaces. It is about a key with that digest,
// and not its last one.
func (s *segment) blank(text []byte, at int64, digest string) error {
	ln, err := parseLine(text)
	switch {
	case err != nil:
		return err
	case ln.digest != digest:
		return fmt.Errorf("%w: it is about another key", ErrCorrupt)
	case len(bytes.TrimSpace(ln.body)) == 0:
		return nil
	}
	ln.body = bytes.Repeat([]byte(" "), len(ln.body))
	if err := s.overwrite(ln.text(), at, syncData); err != nil {
		return prefixed(err)
	}
	return nil
}

// overwrite writes at a place of a segment, whose file is otherwise opened to append only.
func (s *segment) overwrite(text []byte, at int64, then func(*os.File) error) error {
	file, err := os.OpenFile(s.path, os.O_WRONLY|openPlain, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && !os.SameFile(info, s.info) {
		err = fmt.Errorf("%s was replaced", s.path)
	}
	if err == nil {
		_, err = file.WriteAt(text, at)
	}
	if err == nil {
		err = then(file)
	}
	return err
}
