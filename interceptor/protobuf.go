package interceptor

import (
	"bytes"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// canonicalData returns the data of p such that equal messages of Protocol
// Buffers have equal data: a map's entries and a message's fields have no order on
// the wire. A message whose type this program does not know, and everything else,
// stays as it is.
//
// The library's own deterministic encoding is not enough: it writes the fields that
// a build does not know behind those that it knows, so two builds would give
// two keys.
func canonicalData(p *commonpb.Payload) []byte {
	data := p.GetData()
	if string(p.GetMetadata()[converter.MetadataEncoding]) != converter.MetadataEncodingProto {
		return data
	}
	if canonical, ok := canonicalMessage(messageType(string(p.GetMetadata()[converter.MetadataMessageType])), data, 0); ok {
		return canonical
	}
	return data
}

// messageType returns the registered type of that name, or nil.
func messageType(name string) protoreflect.MessageDescriptor {
	t, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
	if err != nil {
		return nil
	}
	return t.Descriptor()
}

// maxNesting bounds the recursion into messages, as the library does when it
// decodes.
const maxNesting = 10_000

// field is one field of a message on the wire: its number, all its bytes, and of a
// map's entry the key.
type field struct {
	number protowire.Number
	bytes  []byte
	key    []byte
}

// canonicalMessage returns a message with its fields in the order of their
// numbers, and the entries of its maps in the order of their keys; ok is false if
// data is no message, or of no known type, or if the order decides what it means.
func canonicalMessage(t protoreflect.MessageDescriptor, data []byte, depth int) (canonical []byte, ok bool) {
	if t == nil || depth > maxNesting {
		return nil, false
	}
	var fields []field
	chosen := map[protoreflect.OneofDescriptor]protowire.Number{}
	for len(data) > 0 {
		number, kind, tag := protowire.ConsumeTag(data)
		if tag < 0 {
			return nil, false
		}
		length := protowire.ConsumeFieldValue(number, kind, data[tag:])
		if length < 0 {
			return nil, false
		}
		whole := data[:tag+length]
		data = data[tag+length:]
		d := t.Fields().ByNumber(number)
		if d != nil && d.ContainingOneof() != nil {
			if other, again := chosen[d.ContainingOneof()]; again && other != number {
				return nil, false // the last one counts
			}
			chosen[d.ContainingOneof()] = number
		}
		var key []byte
		if kind == protowire.BytesType && d != nil && d.Message() != nil {
			content, _ := protowire.ConsumeBytes(whole[tag:])
			inner, ok := canonicalMessage(d.Message(), content, depth+1)
			if !ok {
				return nil, false
			}
			whole = protowire.AppendBytes(protowire.AppendTag(nil, number, kind), inner)
			if d.IsMap() {
				if key, ok = mapKey(inner); !ok {
					return nil, false
				}
			}
		}
		fields = append(fields, field{number, whole, key})
	}
	slices.SortStableFunc(fields, func(a, b field) int {
		if a.number != b.number {
			return int(a.number) - int(b.number)
		}
		return bytes.Compare(a.key, b.key) // the last of two entries with one key counts
	})
	for _, f := range fields {
		canonical = append(canonical, f.bytes...)
	}
	if t.FullName() == "google.protobuf.Any" {
		canonical = canonicalAny(canonical, depth)
	}
	return canonical, true
}

// mapKey returns the key of a map's entry, whose fields are in order; nil is the
// zero value, which may be left out. Equal keys have equal bytes. ok is false if
// the key is there twice.
func mapKey(entry []byte) (key []byte, ok bool) {
	number, kind, tag := protowire.ConsumeTag(entry)
	if tag < 0 || number != 1 {
		return nil, true
	}
	length := protowire.ConsumeFieldValue(number, kind, entry[tag:])
	if next, _, n := protowire.ConsumeTag(entry[tag+length:]); n > 0 && next == 1 {
		return nil, false
	}
	key = protowire.AppendTag(nil, number, kind)
	switch value := entry[tag:]; kind {
	case protowire.VarintType:
		v, _ := protowire.ConsumeVarint(value)
		return nonzero(v != 0, protowire.AppendVarint(key, v)), true
	case protowire.BytesType:
		v, _ := protowire.ConsumeBytes(value)
		return nonzero(len(v) > 0, protowire.AppendBytes(key, v)), true
	default:
		v := value[:length]
		return nonzero(len(bytes.Trim(v, "\x00")) > 0, append(key, v...)), true
	}
}

func nonzero(is bool, key []byte) []byte {
	if is {
		return key
	}
	return nil
}

// canonicalAny does so with the message inside of an Any, whose fields are in
// order: the type's URL, then the message.
func canonicalAny(data []byte, depth int) []byte {
	number, kind, tag := protowire.ConsumeTag(data)
	if tag < 0 || number != 1 || kind != protowire.BytesType {
		return data
	}
	url, n := protowire.ConsumeBytes(data[tag:])
	rest := data[tag+n:]
	number, kind, valueTag := protowire.ConsumeTag(rest)
	if valueTag < 0 || number != 2 || kind != protowire.BytesType {
		return data
	}
	value, m := protowire.ConsumeBytes(rest[valueTag:])
	if valueTag+m != len(rest) {
		return data // a field is there twice, or one is not known
	}
	t, err := protoregistry.GlobalTypes.FindMessageByURL(string(url))
	if err != nil {
		return data
	}
	inner, ok := canonicalMessage(t.Descriptor(), value, depth+1)
	if !ok {
		return data
	}
	return protowire.AppendBytes(protowire.AppendTag(slices.Clone(data[:tag+n]), 2, protowire.BytesType), inner)
}
