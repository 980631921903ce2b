package store

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// This file is the log: how lines get into it, and onto the disk. See the comment on
// File for the order of things.

const (
	segmentExt  = ".log"
	tempExt     = ".tmp"
	firstLine   = "atmostonce-log"
	logForm     = 1
	smallest    = 1 << 20 // segments grow with the log, so that they stay few
	largest     = 64 << 20
	readAtOnce  = 1 << 20
	segmentsFor = 16

	longestFirst = 128 // shorter than the shortest first line and the shortest line after it
	unknownBoot  = "-"
	unknownEnd   = math.MaxInt64
)

// segment is a file of the log. Only the last one grows.
type segment struct {
	n       uint32
	path    string
	file    *os.File
	info    fs.FileInfo // when it was opened
	size    int64       // of what was read of it, which ends with a line
	first   uint32      // the oldest segment that counted when it was begun
	body    int64       // where its first line of a record is
	boot    string      // the run of the host in which it was begun
	after   int64       // how much of the segment before it counts
	assumed bool        // that is what its first line might have said: it is damaged
	losses  int         // how often files of the log were found to be removed
	certain int64       // how much of it was durable, as its lines say
	live    int64       // bytes of it that are the last lines of their keys
}

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

func segmentName(n uint32) string { return fmt.Sprintf("%08d%s", n, segmentExt) }

// segmentNumber returns the number in a segment's name; 0 if it is none.
func segmentNumber(name string) uint32 {
	digits, isSegment := strings.CutSuffix(name, segmentExt)
	n, err := strconv.ParseUint(digits, 10, 32)
	if !isSegment || err != nil || segmentName(uint32(n)) != name {
		return 0
	}
	return uint32(n)
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
	l.torn = false
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

func (s *segment) readFirst() error {
	head := make([]byte, 256)
	n, err := s.file.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("store: %w", err)
	}
	text, _, found := strings.Cut(string(head[:n]), "\n")
	text += "\n"
	var name string
	var form int
	if _, err := fmt.Sscanf(text, "%s %d", &name, &form); !found || err != nil || name != firstLine || !isWhole([]byte(text)) {
		s.assume(text, found)
		return nil
	}
	if form != logForm {
		return fmt.Errorf("%w: %d (in %s)", ErrVersion, form, s.path)
	}
	var number uint32
	_, err = fmt.Sscanf(text, "%s %d %d %s %d %d %d", &name, &form, &number, &s.boot, &s.first, &s.after, &s.losses)
	if err != nil || number != s.n {
		return fmt.Errorf("%w: it is not the segment that its name says (in %s)", ErrCorrupt, s.path)
	}
	s.size = int64(len(text))
	s.body = s.size
	return nil
}

// assume goes without what a damaged first line said. The segments around it say which
// one is the oldest; that the one before counts to its end brings back only what was
// never answered, and frees no key; that the run of the host is unknown has whoever
// opens the log go on with a new segment. A first line that may hide a line of a record
// is damage of which nobody knows whose it is.
func (s *segment) assume(text string, ended bool) {
	s.boot, s.after, s.assumed = unknownBoot, unknownEnd, true
	if ended && len(text) <= longestFirst {
		s.body = int64(len(text))
	}
	s.size = s.body
}

// firstOf returns the first line of a segment.
func firstOf(n uint32, boot string, first uint32, after int64, losses int) []byte {
	if boot == "" {
		boot = unknownBoot
	}
	return sealed(fmt.Appendf(nil, "%s %d %d %s %d %d %d", firstLine, logForm, n, boot, first, after, losses))
}

// read reads the lines of a segment from where it stopped, up to size.
func (l *log) read(s *segment, size int64) error {
	end, err := s.lines(s.size, size, func(at int64, text []byte) bool {
		l.apply(s, at, text)
		return true
	})
	s.size = max(s.size, end)
	return err
}

// lines calls see for each line between two places of a segment, and returns where the
// last of them ends.
func (s *segment) lines(from, to int64, see func(at int64, text []byte) bool) (end int64, err error) {
	window := int64(readAtOnce)
	for from < to {
		data := make([]byte, min(window, to-from))
		n, err := s.file.ReadAt(data, from)
		if err != nil && !errors.Is(err, io.EOF) {
			return from, fmt.Errorf("store: %w", err)
		}
		data = data[:n]
		used, last := 0, from+int64(n) == to
		for used < n {
			size := lineSize(data[used:], last)
			if size == 0 {
				break
			}
			if !see(from+int64(used), data[used:used+size]) {
				return from + int64(used), nil
			}
			used += size
		}
		if used == 0 {
			if last || n == 0 {
				return from, nil
			}
			if window > longestLine {
				return from, fmt.Errorf("%w: nothing that begins like a line from byte %d on (in %s)", ErrCorrupt, from, s.path)
			}
			window = min(4*window, longestLine+1)
			continue
		}
		from, window = from+int64(used), readAtOnce
	}
	return from, nil
}

// lineSize returns the size of the line that data begins with; 0 if its end is not
// there. Last says that nothing follows data. A damaged line ends where the next one
// begins, or where it says; one that is cut off has no end. What a record quotes of a
// line is none: no line end is before it, and no checksum fits.
func lineSize(data []byte, last bool) int {
	n := statedSize(data)
	switch {
	case n > 0 && n <= len(data) && isWhole(data[:n]):
		return n
	case n > len(data) && n <= longestLine && !last:
		return 0
	}
	for at := 1; at < len(data); at++ { // its line end may be what is damaged
		next := statedSize(data[at:])
		if next > 0 && (data[at-1] == '\n' || next <= len(data)-at && isWhole(data[at:at+next])) {
			return at
		}
	}
	end := bytes.LastIndexByte(data, '\n') + 1
	switch {
	case !last:
		return 0
	case n == len(data) || !beginsLine(data):
		return len(data)
	case end == 0 && n > 0 && n < len(data):
		return n
	default:
		return end
	}
}

// beginsLine reports whether data may be the beginning of a line: what is left of one
// whose writer was killed.
func beginsLine(data []byte) bool {
	form := lineVersion + " 00000000 " + strings.Repeat("0", 2*sha256.Size) + " "
	for i := range min(len(data), len(form)) {
		isHex := data[i] >= '0' && data[i] <= '9' || data[i] >= 'a' && data[i] <= 'f'
		if form[i] == '0' && !isHex || form[i] == ' ' && data[i] != ' ' || form[i] == '1' && data[i] != '1' {
			return false
		}
	}
	return !bytes.Contains(data, []byte{0})
}

// statedSize returns the size that the line which data begins with says it has; 0 if
// no line begins so.
func statedSize(data []byte) int {
	digest := headFixed + 2*sha256.Size
	if len(data) <= digest || data[0] < '1' || data[0] > '9' || data[1] != ' ' || data[headFixed-1] != ' ' ||
		data[digest] != ' ' || !isDigest(data[headFixed:digest]) {
		return 0
	}
	n, err := strconv.Atoi(string(data[len(lineVersion)+1 : headFixed-1]))
	if err != nil || n <= digest {
		return 0
	}
	return n
}

// apply takes note of a line.
func (l *log) apply(s *segment, at int64, text []byte) {
	l.unended = text[len(text)-1] != '\n'
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
