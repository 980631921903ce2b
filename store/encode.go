package store

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
)

// This file is the form of a record for stores that keep bytes. It is
//
//	version, CRC-32C of the rest (4 bytes), length of the head, head, data, kept data
//
// The head is the record as JSON without the data of its outcomes, of which it has the
// lengths. Lengths are varints.

// encodedVersion is a byte, and the first.
const encodedVersion = 1

// encodedHead is the head.
type encodedHead struct {
	Record
	Data     int `json:"data,omitempty"`
	KeptData int `json:"kept_data,omitempty"`
}

// EncodeRecord returns r as bytes, for a store that keeps bytes: the data of outcomes as
// it is, the rest as JSON, with a version and a checksum. Record.Now is left out.
func EncodeRecord(r Record) ([]byte, error) {
	data, kept := r.Outcome.Data, []byte(nil)
	r = asText(r)
	r.Outcome.Data = nil
	if r.Kept != nil {
		o := *r.Kept
		kept, o.Data = o.Data, nil
		r.Kept = &o
	}
	head, err := json.Marshal(encodedHead{r, len(data), len(kept)})
	if err != nil {
		return nil, err
	}
	b := make([]byte, 5, 16+len(head)+len(data)+len(kept))
	b[0] = encodedVersion
	b = binary.AppendUvarint(b, uint64(len(head)))
	b = append(append(append(b, head...), data...), kept...)
	binary.BigEndian.PutUint32(b[1:], crc32.Checksum(b[5:], castagnoli))
	return b, nil
}

// DecodeRecord undoes [EncodeRecord]. A newer form is ErrVersion, and bytes that are
// damaged ErrCorrupt. What the record says is left to [Record.Validate]. The record
// shares memory with b.
func DecodeRecord(b []byte) (Record, error) {
	switch {
	case len(b) > 0 && b[0] > encodedVersion:
		return Record{}, fmt.Errorf("%w: %d", ErrVersion, b[0])
	case len(b) < 6 || b[0] != encodedVersion:
		return Record{}, fmt.Errorf("%w: no version, or no record", ErrCorrupt)
	case binary.BigEndian.Uint32(b[1:]) != crc32.Checksum(b[5:], castagnoli):
		return Record{}, fmt.Errorf("%w: its checksum is wrong", ErrCorrupt)
	}
	size, n := binary.Uvarint(b[5:])
	rest := b[5+max(n, 0):]
	if n <= 0 || size > uint64(len(rest)) {
		return Record{}, fmt.Errorf("%w: it is cut short", ErrCorrupt)
	}
	text, data := rest[:size], rest[size:]
	if err := CheckShape(text); err != nil {
		return Record{}, err
	}
	var head encodedHead
	if err := json.Unmarshal(text, &head); err != nil {
		return Record{}, badJSON(err)
	}
	r := head.Record
	if err := fromText(&r); err != nil {
		return Record{}, err
	}
	if head.Data < 0 || head.KeptData < 0 || head.Data > len(data) || head.Data+head.KeptData != len(data) || head.KeptData > 0 && r.Kept == nil {
		return Record{}, fmt.Errorf("%w: its data has another size", ErrCorrupt)
	}
	if head.Data > 0 {
		r.Outcome.Data = data[:head.Data:head.Data]
	}
	if head.KeptData > 0 {
		r.Kept.Data = data[head.Data:]
	}
	return r, nil
}
