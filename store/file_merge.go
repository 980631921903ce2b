package store

import (
	"bytes"
	"errors"
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
