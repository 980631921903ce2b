package keys

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// Arg is one argument as it is encoded for Temporal, before encryption.
type Arg struct {
	Encoding string // the payload's "encoding", such as "json/plain"
	Data     []byte
}

// Digest returns 64 hexadecimal digits that stand for the arguments: SHA-256
// over each one's encoding and data, with their lengths. JSON counts without
// insignificant white space and with sorted object keys. Its numbers count as
// they are written: unlike RFC 8785, which reads them as IEEE doubles and so
// merges integers above 2^53, 64-bit IDs stay apart.
func Digest(args []Arg) string {
	h := sha256.New()
	var length [8]byte
	field := func(data []byte) {
		binary.BigEndian.PutUint64(length[:], uint64(len(data)))
		h.Write(length[:])
		h.Write(data)
	}
	for _, a := range args {
		data := a.Data
		if strings.HasPrefix(a.Encoding, "json/") {
			if canonical, ok := canonicalJSON(data); ok {
				data = canonical
			}
		}
		field([]byte(a.Encoding))
		field(data)
	}
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return digits(sum)
}

// digits returns a digest in hexadecimal.
func digits(sum [sha256.Size]byte) string {
	var text [2 * sha256.Size]byte
	hex.Encode(text[:], sum[:])
	return string(text[:])
}

// canonicalJSON reports ok only where canonical and original mean the same to
// every reader. Duplicate names and characters that look alike after decoding
// do not; such data counts byte by byte.
func canonicalJSON(data []byte) (canonical []byte, ok bool) {
	// Valid bounds the depth of nesting, and with it the recursion.
	if !json.Valid(data) {
		return nil, false
	}
	var open [16]member // as many as most have; more are allocated
	w := writer{in: data, out: make([]byte, 0, len(data)), open: open[:0]}
	ok = w.value()
	return w.out, ok
}

// writer writes the valid JSON in in to out. Its methods report whether what
// they write is unambiguous.
type writer struct {
	in, out []byte
	open    []member // of the objects that are not written to their end yet
}

// next returns the first byte that is no white space.
func (w *writer) next() byte {
	w.in = bytes.TrimLeft(w.in, " \t\r\n")
	return w.in[0]
}

func (w *writer) copy(n int) {
	w.out = append(w.out, w.in[:n]...)
	w.in = w.in[n:]
}

func (w *writer) value() bool {
	switch w.next() {
	case '{':
		return w.object()
	case '[':
		return w.array()
	case '"':
		_, ok := w.text()
		return ok
	}
	if n := bytes.IndexAny(w.in, " \t\r\n,]}"); n >= 0 {
		w.copy(n) // a number, true, false or null
	} else {
		w.copy(len(w.in))
	}
	return true
}

// text returns the decoded string too.
func (w *writer) text() (decoded []byte, ok bool) {
	end, plain := 1, true
	for ; w.in[end] != '"'; end++ {
		switch c := w.in[end]; {
		case c == '\\':
			plain = false
			end++ // it may be followed by a quote
		case c >= utf8.RuneSelf, c == '<', c == '>', c == '&':
			plain = false
		}
	}
	if plain {
		decoded = w.in[1:end]
		w.copy(end + 1)
		return decoded, true
	}
	var s string
	err := json.Unmarshal(w.in[:end+1], &s)
	quoted, _ := json.Marshal(s) // it cannot fail
	w.in, w.out = w.in[end+1:], append(w.out, quoted...)
	// The decoder puts this character in place of what is not Unicode.
	return []byte(s), err == nil && !strings.ContainsRune(s, '�')
}

func (w *writer) array() bool {
	w.copy(1)
	for w.next() != ']' {
		if w.in[0] == ',' {
			w.copy(1)
		}
		if !w.value() {
			return false
		}
	}
	w.copy(1)
	return true
}

// member is one of an object: its name, and where out has it all.
type member struct {
	name     []byte
	from, to int
}

func (w *writer) object() bool {
	w.copy(1)
	outer := len(w.open)
	for w.next() != '}' {
		if w.in[0] == ',' {
			w.copy(1)
		}
		w.next()
		from := len(w.out)
		name, ok := w.text()
		if w.next(); !ok {
			return false
		}
		w.copy(1) // the colon
		if !w.value() {
			return false
		}
		w.open = append(w.open, member{name, from, len(w.out)})
	}
	ok := w.sort(w.open[outer:])
	w.open = w.open[:outer]
	w.copy(1)
	return ok
}

// sort brings the members of the last object in out into the order of their
// names, which must differ.
func (w *writer) sort(members []member) bool {
	byName := func(a, b member) int { return bytes.Compare(a.name, b.name) }
	if !slices.IsSortedFunc(members, byName) {
		first := members[0].from
		sorted := make([]byte, 0, len(w.out)-first)
		slices.SortFunc(members, byName)
		for i, m := range members {
			if i > 0 {
				sorted = append(sorted, ',')
			}
			sorted = append(sorted, w.out[m.from:m.to]...)
		}
		w.out = append(w.out[:first], sorted...)
	}
	for i := 1; i < len(members); i++ {
		if bytes.Equal(members[i].name, members[i-1].name) {
			return false
		}
	}
	return true
}
