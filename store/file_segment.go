package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
)

// This file is a segment, by itself: its name, its first line, and how it is read and
// overwritten.

const (
	segmentExt = ".log"
	firstLine  = "atmostonce-log"
	logForm    = 1
	readAtOnce = 1 << 20

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
	read, _ := fmt.Sscanf(text, "%s %d", &name, &form)
	if !found || read != 2 || name != firstLine || !isWhole([]byte(text)) {
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
