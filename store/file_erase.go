package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// This file is how a record is erased: the lines of a key that count no more are overwritten
// where they are.

// erase overwrites what the log has of a record in the lines before its last one, once
// that is durable.
func (rs *records) erase(ctx context.Context, key string) error {
	var e lastLine
	k := idOf(key)
	err := rs.queue.ask(&request{ctx: ctx, job: func(l *log) (durable, error) {
		e = l.index.entries[k]
		return e.end(), nil
	}})
	if err != nil {
		return err
	}
	return rs.queue.ask(&request{ctx: ctx, job: func(l *log) (durable, error) { return durable{}, eraseBefore(l, k, e) }})
}

// confirm has a line say that all lines before it are durable: whatever a power failure
// leaves of one that is being overwritten, it is then no gap.
func confirm(l *log, k id) error {
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

// eraseBefore overwrites the record in the lines of a key before one that is durable.
func eraseBefore(l *log, k id, last lastLine) error {
	text, err := l.lineAt(last)
	if err == nil {
		err = confirm(l, k)
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
