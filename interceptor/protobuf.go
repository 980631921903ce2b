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
// The library's own deterministic encoding does not do: it writes the fields that
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

// field is one field of a message on the wire: its number and all its bytes.
type field struct {
	number protowire.Number
	bytes  []byte
}

// canonicalMessage returns a message with its fields in the order of their
// numbers, and the entries of its maps in the order of their keys; ok is false if
// data is no message, or of no known type.
func canonicalMessage(t protoreflect.MessageDescriptor, data []byte, depth int) (canonical []byte, ok bool) {
	if t == nil || depth > maxNesting {
		return nil, false
	}
	var fields []field
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
		if d := t.Fields().ByNumber(number); kind == protowire.BytesType && d != nil && d.Message() != nil {
			content, _ := protowire.ConsumeBytes(whole[tag:])
			inner, ok := canonicalMessage(d.Message(), content, depth+1)
			if !ok {
				return nil, false
			}
			whole = protowire.AppendBytes(protowire.AppendTag(nil, number, kind), inner)
		}
		fields = append(fields, field{number, whole})
	}
	slices.SortStableFunc(fields, func(a, b field) int {
		if a.number != b.number {
			return int(a.number) - int(b.number)
		}
		if d := t.Fields().ByNumber(a.number); d != nil && d.IsMap() {
			return bytes.Compare(mapKey(a), mapKey(b))
		}
		return 0
	})
	for _, f := range fields {
		canonical = append(canonical, f.bytes...)
	}
	if t.FullName() == "google.protobuf.Any" {
		canonical = canonicalAny(canonical, depth)
	}
	return canonical, true
}

// mapKey returns the key of a map's entry, whose fields are in order: the key is
// the first one, or is left out where it is the zero value.
func mapKey(entry field) []byte {
	_, kind, tag := protowire.ConsumeTag(entry.bytes)
	if kind != protowire.BytesType {
		return nil // no entry, but the decoder skips it
	}
	content, _ := protowire.ConsumeBytes(entry.bytes[tag:])
	number, kind, tag := protowire.ConsumeTag(content)
	if tag < 0 || number != 1 {
		return nil
	}
	return content[:tag+protowire.ConsumeFieldValue(number, kind, content[tag:])]
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
