package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file is the form of a line of the log, and this comment that of the whole store. A
// directory has
//
//	lock            whose kernel lock is held while the log is read or written
//	log/00000001.log and so on: the segments. Only the last one grows
//	claims/<32 hexadecimal digits>.claim: the slots of running claims, locked by their owners
//
// and, while a process writes a segment that is not yet begun, a file of log/ that ends
// in .tmp. A segment begins with
//
//	atmostonce-log 1 7 <boot> 3 81231 0 9a0b1c2d
//
// which are the form, the number of the segment, the run of the host in which it was begun
// (-: not known), the oldest segment that counts, how many bytes of the segment before
// this one count, how often files of the log were found to be removed, and the CRC-32C
// of all of that. Each line after it is one state of a record:
//
//	1 00000740 <digest> succeeded 1772370000 512 - 1:512 {"version":3,"key":…} 9a0b1c2d
//
// These are the version, the size of the line with its line end, the hexadecimal
// SHA-256 of the key, the state, the second in which the record expires (0: never),
// up to which byte the segment was durable when the line was written, the claim of a
// running record, where the line before it of the same key is (segment:byte), the record,
// and the CRC-32C of all of that. The last line of a digest counts. Two states are no
// record's: "forgotten", of one that is past its expiry, and "dropped", which says that
// the segment of that number, and all before it, count no more. JSON has no line ends of
// its own, so that a damaged line hides no other. A line of nothing but spaces says nothing:
// an operator may overwrite one that is damaged.

const (
	lineVersion = "1"
	headFixed   = len(lineVersion) + len(" 00000000 ") // to the digest
	sumSize     = len(" 00000000\n")
	longestLine = maxFile + 512
)

// What a line says if it is no record's state.
const (
	lineForgotten State = "forgotten" // the record is past its expiry, and its lines may go
	lineDropped   State = "dropped"   // so is the segment of that number, in the place of a digest's
)

// id is what the index knows a key by: the first half of its digest.
type id [16]byte

// name is the id as text that is not to be read.
func (k id) name() string { return string(k[:]) }

func idOf(key string) id {
	sum := sha256.Sum256([]byte(key))
	return id(sum[:16])
}

// spot is where a line begins. No line of a record is in segment 0.
type spot struct{ segment, at uint32 }

func (s spot) before(other spot) bool {
	return s.segment < other.segment || s.segment == other.segment && s.at < other.at
}

type line struct {
	digest  string
	state   State
	expires uint32 // in seconds; 0: never
	durable int64
	claim   string // the name of a running record's claim
	before  spot   // of the line before of the same key, if it is known
	body    []byte // the record
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (l line) id() id {
	var i id
	_, _ = hex.Decode(i[:], []byte(l.digest[:2*len(i)])) // parseLine has seen to it
	return i
}

// text returns the line as it is written.
func (l line) text() []byte {
	claim := l.claim
	if claim == "" {
		claim = "-"
	}
	b := make([]byte, 0, len(l.body)+256)
	b = append(b, lineVersion+" 00000000 "...)
	b = append(b, l.digest...)
	b = append(append(b, ' '), l.state...)
	b = strconv.AppendUint(append(b, ' '), uint64(l.expires), 10)
	b = strconv.AppendInt(append(b, ' '), l.durable, 10)
	b = append(append(b, ' '), claim...)
	b = strconv.AppendUint(append(b, ' '), uint64(l.before.segment), 10)
	b = strconv.AppendUint(append(b, ':'), uint64(l.before.at), 10)
	b = append(append(b, ' '), l.body...)
	size := fmt.Sprintf("%08d", len(b)+sumSize)
	copy(b[len(lineVersion)+1:], size)
	return sealed(b)
}

// sealed appends the checksum of text, and the line's end.
func sealed(text []byte) []byte {
	return fmt.Appendf(text, " %08x\n", crc32.Checksum(text, castagnoli))
}

// isWhole reports whether text ends in its checksum and a line's end.
func isWhole(text []byte) bool {
	n := len(text) - sumSize
	if n <= 0 || text[n] != ' ' || text[len(text)-1] != '\n' {
		return false
	}
	var sum [4]byte
	for _, c := range text[n+1 : len(text)-1] {
		if c >= 'A' && c <= 'F' {
			return false // there is one way to write it
		}
	}
	_, err := hex.Decode(sum[:], text[n+1:len(text)-1])
	return err == nil && binary.BigEndian.Uint32(sum[:]) == crc32.Checksum(text[:n], castagnoli)
}

var errSum = fmt.Errorf("%w: its checksum is wrong: the file was damaged, or changed by hand. Stop the processes of the store, and put "+
	"the line back as it was; or, if its effect may happen again, overwrite it with as many spaces. A decision is made by Resolve, not in the file", ErrCorrupt)

// parseLine undoes text. What it returns shares memory with its argument.
func parseLine(text []byte) (line, error) {
	if !isWhole(text) {
		return line{}, errSum
	}
	version, rest, _ := bytes.Cut(text[:len(text)-sumSize], []byte(" "))
	if string(version) != lineVersion {
		if n, err := strconv.Atoi(string(version)); err == nil && n > 1 {
			return line{}, fmt.Errorf("%w: %d", ErrVersion, n)
		}
		return line{}, errSum
	}
	var head [7][]byte
	found := true
	for i := range head {
		head[i], rest, found = bytes.Cut(rest, []byte(" "))
	}
	size, err := strconv.Atoi(string(head[0]))
	if !found || err != nil || len(head[0]) != 8 || size != len(text) || !isDigest(head[1]) {
		return line{}, errSum
	}
	l := line{digest: string(head[1]), state: stateOf(head[2]), body: rest}
	expires, err1 := strconv.ParseUint(string(head[3]), 10, 32)
	durable, err2 := strconv.ParseInt(string(head[4]), 10, 64)
	segment, at, _ := strings.Cut(string(head[6]), ":")
	beforeSegment, err3 := strconv.ParseUint(segment, 10, 32)
	beforeAt, err4 := strconv.ParseUint(at, 10, 32)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || l.state == Absent {
		return line{}, errSum
	}
	l.expires, l.durable, l.before = uint32(expires), durable, spot{uint32(beforeSegment), uint32(beforeAt)}
	if claim := string(head[5]); claim != "-" {
		if !isClaimName(claim) {
			return line{}, errSum
		}
		l.claim = claim
	}
	return l, nil
}

func isDigest(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(b) == 2*sha256.Size
}

// lineStates are what a line may say; the index has the place of its state.
var lineStates = []State{Absent, Running, InDoubt, Pending, Succeeded, Failed, Tombstone, lineForgotten, lineDropped}

func stateOf(b []byte) State {
	for _, s := range lineStates {
		if string(b) == string(s) {
			return s
		}
	}
	return Absent
}

// suspects returns the digests of the keys that a damaged line may be about: the one it
// names, and that of the key in its record. Any byte that changed leaves one of them. It
// reports whether there are no others: that text is one line, and no more.
func suspects(text []byte) (ids []id, all bool) {
	if len(text) < headFixed+2*sha256.Size {
		return nil, false
	}
	if named := text[headFixed : headFixed+2*sha256.Size]; isDigest(named) {
		ids = append(ids, line{digest: string(named)}.id())
	}
	from, to := bytes.Index(text, []byte(`{"version":`)), bytes.LastIndexByte(text, '}')
	if from >= 0 && to > from {
		if r, err := decodeForm(text[from : to+1]); err == nil && r.Key != "" {
			ids = append(ids, idOf(r.Key))
		}
	}
	size := fmt.Sprintf("%08d", len(text))
	sized := slices.Concat(text[:len(lineVersion)+1], []byte(size), text[headFixed-1:])
	return ids, len(ids) > 0 && (bytes.Equal(sized, text) || isWhole(sized))
}

// seconds returns the second in which a record expires, as a line has it.
func seconds(expires time.Time) uint32 {
	if expires.IsZero() {
		return 0
	}
	return uint32(max(1, min(expires.Unix()+1, math.MaxUint32)))
}

// fileVersion is of the record in a line.
const fileVersion = 3

// fileRecord is the form of a record in a line. The version comes first, so that
// it is known even if a newer form cannot be read to its end.
type fileRecord struct {
	Version int `json:"version"`
	Record
}

func encodeRecord(r Record) ([]byte, error) {
	return json.Marshal(fileRecord{Version: fileVersion, Record: asText(r)})
}

func decodeRecord(data []byte) (Record, error) {
	r, err := decodeForm(data)
	if err != nil {
		return Record{}, err
	}
	return r, r.Validate()
}

// decodeForm undoes encodeRecord. What the record says may still contradict itself.
func decodeForm(data []byte) (Record, error) {
	var form fileRecord
	if err := CheckShape(data); err != nil {
		return Record{}, err
	}
	err := json.Unmarshal(data, &form)
	switch {
	case form.Version > fileVersion:
		return Record{}, fmt.Errorf("%w: %d", ErrVersion, form.Version)
	case err != nil:
		return Record{}, badJSON(err)
	case form.Version < fileVersion:
		return Record{}, fmt.Errorf("%w: no version, or one that was never in a log", ErrCorrupt)
	}
	r := form.Record
	if bytes.Contains(data, []byte(notTextInJSON)) {
		err = fromText(&r)
	}
	return r, err
}
