package interceptor

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

func protobuf(name string, data []byte) *commonpb.Payload {
	return &commonpb.Payload{Metadata: map[string][]byte{
		converter.MetadataEncoding: []byte(converter.MetadataEncodingProto), converter.MetadataMessageType: []byte(name),
	}, Data: data}
}

func encoded(t *testing.T, m proto.Message) *commonpb.Payload {
	t.Helper()
	data, err := proto.Marshal(m)
	require.NoError(t, err)
	return protobuf(string(m.ProtoReflect().Descriptor().FullName()), data)
}

func digestOne(p *commonpb.Payload) string { return digestOf([]*commonpb.Payload{p}) }

// manyFields has maps in maps, and messages in them.
func manyFields(t *testing.T, n int) *structpb.Struct {
	t.Helper()
	fields := map[string]any{}
	for i := range 20 {
		inner := map[string]any{}
		for j := range 5 {
			inner[fmt.Sprintf("inner-%d", j)] = i * j
		}
		fields[fmt.Sprintf("field-%d", i)] = inner
	}
	fields["n"] = n
	s, err := structpb.NewStruct(fields)
	require.NoError(t, err)
	return s
}

func TestProtobuf_EqualMessagesHaveOneDigest(t *testing.T) {
	t.Parallel()
	wrapped := func(m proto.Message) proto.Message {
		data, err := proto.Marshal(m)
		require.NoError(t, err)
		return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName()), Value: data}
	}
	for name, message := range map[string]func(n int) proto.Message{
		"maps":       func(n int) proto.Message { return manyFields(t, n) },
		"any":        func(n int) proto.Message { return wrapped(manyFields(t, n)) },
		"any in any": func(n int) proto.Message { return wrapped(wrapped(manyFields(t, n))) },
		"repeated": func(n int) proto.Message {
			return &structpb.ListValue{Values: []*structpb.Value{structpb.NewStructValue(manyFields(t, n))}}
		},
		"a map of bytes": func(n int) proto.Message { return encoded(t, manyFields(t, n)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			digests, wires := map[string]bool{}, map[string]bool{}
			for range 50 {
				p := encoded(t, message(7))
				digests[digestOne(p)], wires[string(p.Data)] = true, true
			}
			if name != "a map of bytes" {
				require.Greater(t, len(wires), 1, "the library encodes in another order each time")
				require.Len(t, digests, 1)
			}
			require.NotContains(t, digests, digestOne(encoded(t, message(8))))
		})
	}
}

// Two builds, of which one knows a field that the other does not, make one key.
func TestProtobuf_AFieldThatABuildDoesNotKnowIsInItsPlace(t *testing.T) {
	t.Parallel()
	fields := [][]byte{
		protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "order-7"),
		protowire.AppendString(protowire.AppendTag(nil, 2, protowire.BytesType), "run"),
		protowire.AppendVarint(protowire.AppendTag(nil, 7, protowire.VarintType), 42),
		protowire.AppendString(protowire.AppendTag(nil, 2000, protowire.BytesType), "new"),
	}
	digests := map[string]bool{}
	for range 30 {
		rand.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
		var data []byte
		for _, f := range fields {
			data = append(data, f...)
		}
		digests[digestOne(protobuf("temporal.api.common.v1.WorkflowExecution", data))] = true
	}
	require.Len(t, digests, 1)
}

func TestProtobuf_WhatHasAnOrderKeepsIt(t *testing.T) {
	t.Parallel()
	list := func(values ...string) *commonpb.Payload {
		all := &structpb.ListValue{}
		for _, v := range values {
			all.Values = append(all.Values, structpb.NewStringValue(v))
		}
		return encoded(t, all)
	}
	require.NotEqual(t, digestOne(list("a", "b")), digestOne(list("b", "a")))
}

func TestProtobuf_WhatCannotBeReadCountsByteByByte(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]*commonpb.Payload{
		"an unknown type":  protobuf("no.such.Type", []byte{8, 1}),
		"no type":          protobuf("", []byte{8, 1}),
		"no message":       protobuf("google.protobuf.Struct", []byte{0xff}),
		"cut off":          protobuf("google.protobuf.Struct", []byte{10, 200, 1}),
		"another encoding": {Metadata: map[string][]byte{converter.MetadataEncoding: []byte("binary/plain")}, Data: []byte{16, 1, 8, 1}},
	} {
		require.Equal(t, p.Data, canonicalData(p), name)
	}
}

// Two members of a oneof, or two entries with one key: the last one counts, so their
// order is kept.
func TestProtobuf_WhereTheLastOneCountsTheOrderDoes(t *testing.T) {
	t.Parallel()
	text := func(number protowire.Number, s string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), s)
	}
	number := protowire.AppendFixed64(protowire.AppendTag(nil, 2, protowire.Fixed64Type), 1)
	entry := func(value string, keys ...string) []byte {
		var content []byte
		for _, k := range keys {
			content = append(content, text(1, k)...)
		}
		return text(1, string(content)+string(text(2, string(text(3, value)))))
	}
	for name, c := range map[string]struct {
		message proto.Message
		a, b    []byte
	}{
		"a oneof":                   {&structpb.Value{}, number, text(3, "x")},
		"a key that is implied":     {&structpb.Struct{}, entry("x", ""), entry("y")},
		"a key that is there twice": {&structpb.Struct{}, entry("x", "b", "k"), entry("y", "a", "k")},
	} {
		ab, ba := slices.Concat(c.a, c.b), slices.Concat(c.b, c.a)
		first, second := proto.Clone(c.message), proto.Clone(c.message)
		require.NoError(t, proto.Unmarshal(ab, first), name)
		require.NoError(t, proto.Unmarshal(ba, second), name)
		require.False(t, proto.Equal(first, second), name)
		of := string(c.message.ProtoReflect().Descriptor().FullName())
		require.NotEqual(t, digestOne(protobuf(of, ab)), digestOne(protobuf(of, ba)), name)
	}
}

// Canonical data is a message still, and it is the same one.
func FuzzCanonicalData(f *testing.F) {
	for _, name := range []string{"google.protobuf.Struct", "google.protobuf.Any", "temporal.api.common.v1.Payloads"} {
		f.Add(name, []byte{10, 2, 8, 1})
		f.Add(name, []byte{10, 4, 18, 2, 8, 1, 10, 4, 18, 2, 8, 0})
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		canonical := canonicalData(protobuf(name, data))
		require.Equal(t, canonical, canonicalData(protobuf(name, canonical)), "once more changes nothing")
		d := messageType(name)
		if d == nil {
			require.Equal(t, data, canonical)
		}
	})
}
