package keys

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
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
	return hex.EncodeToString(h.Sum(nil))
}

// canonicalJSON reports ok only where canonical and original mean the same to
// every reader. Duplicate names and characters that cannot be told apart after
// decoding are not; such data counts byte by byte.
func canonicalJSON(data []byte) (canonical []byte, ok bool) {
	// Valid bounds the depth of nesting, and with it the recursion.
	if !json.Valid(data) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var b bytes.Buffer
	if err := writeValue(&b, d); err != nil {
		return nil, false
	}
	return b.Bytes(), true
}

var errAmbiguous = errors.New("keys: ambiguous JSON")

func writeValue(b *bytes.Buffer, d *json.Decoder) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return writeObject(b, d)
		}
		return writeArray(b, d)
	case json.Number:
		b.WriteString(t.String())
		return nil
	case string:
		return writeString(b, t)
	case bool:
		if t {
			b.WriteString("true")
		} else {
			b.WriteString("false")
		}
		return nil
	default:
		b.WriteString("null")
		return nil
	}
}

func writeString(b *bytes.Buffer, s string) error {
	// The decoder puts this character in place of what is not Unicode.
	if strings.ContainsRune(s, '�') {
		return errAmbiguous
	}
	quoted, err := json.Marshal(s)
	b.Write(quoted)
	return err
}

func writeArray(b *bytes.Buffer, d *json.Decoder) error {
	b.WriteByte('[')
	for first := true; d.More(); first = false {
		if !first {
			b.WriteByte(',')
		}
		if err := writeValue(b, d); err != nil {
			return err
		}
	}
	b.WriteByte(']')
	_, err := d.Token()
	return err
}

func writeObject(b *bytes.Buffer, d *json.Decoder) error {
	type member struct{ name, value string }
	var members []member
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		var value bytes.Buffer
		if err := writeValue(&value, d); err != nil {
			return err
		}
		members = append(members, member{token.(string), value.String()})
	}
	if _, err := d.Token(); err != nil {
		return err
	}
	slices.SortFunc(members, func(x, y member) int { return strings.Compare(x.name, y.name) })
	b.WriteByte('{')
	for i, m := range members {
		if i > 0 {
			if m.name == members[i-1].name {
				return errAmbiguous
			}
			b.WriteByte(',')
		}
		if err := writeString(b, m.name); err != nil {
			return err
		}
		b.WriteByte(':')
		b.WriteString(m.value)
	}
	b.WriteByte('}')
	return nil
}
