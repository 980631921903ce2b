package interceptor

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/keys"
)

// errUnreadable: the input is encrypted anew each time, so that equal inputs do
// not look alike, and nothing here can decrypt it.
var errUnreadable = fmt.Errorf("%w: the client's data converter gives other bytes each time and does not pass converter.RawValue on, so the input of a dynamic activity cannot be compared: let the converter pass it on, or register the activity", engine.ErrArgument)

// digest returns the digest of a call's whole input. wire is the input as it
// came from Temporal, if it was seen; args are what the SDK decoded it to.
func (c codec) digest(ctx context.Context, wire *commonpb.Payloads, args []any) (string, error) {
	payloads, err := c.plain(ctx, wire, args)
	if err != nil {
		return "", fmt.Errorf("input: %w", err)
	}
	return digestOf(payloads), nil
}

// digestOf returns the digest of payloads that are not encrypted.
func digestOf(payloads []*commonpb.Payload) string {
	parts := make([]keys.Arg, 0, 4) // as many as most have; more are allocated
	for _, p := range payloads {
		encoding := converter.MetadataEncodingJSON // a constant need not be copied
		if e := p.GetMetadata()[converter.MetadataEncoding]; string(e) != encoding {
			encoding = string(e)
		}
		parts = append(parts, keys.Arg{Encoding: encoding, Data: canonicalData(p)})
	}
	return keys.Digest(parts)
}

// plain returns the input such that equal inputs look alike.
func (c codec) plain(ctx context.Context, wire *commonpb.Payloads, args []any) ([]*commonpb.Payload, error) {
	dc := c.inputs(ctx)
	var dynamic converter.EncodedValues
	if len(args) == 1 {
		switch arg := args[0].(type) {
		case *commonpb.Payloads:
			if c.where.IsLocal { // the SDK's test environment encodes the arguments of those
				wire = arg
			}
		case converter.EncodedValues:
			dynamic = arg
		}
	}
	switch {
	case wire == nil && dynamic == nil:
		return reencoded(args)
	case wire == nil && !dynamic.HasValues():
		return nil, nil
	case wire != nil && len(wire.GetPayloads()) == 0:
		return nil, nil
	}
	known := args
	if dynamic != nil {
		known = nil
	}
	passes, err := c.passesRaw(dc, known...)
	switch {
	case err != nil:
		return nil, err
	case passes && wire != nil:
		return rawValues(dc, wire)
	case passes:
		return rawsOf(dynamic.Get)
	case wire == nil:
		return jsonOf(dynamic)
	}
	repeatable, err := isRepeatable(dc, known...)
	switch {
	case err != nil:
		return nil, err
	case repeatable:
		return wire.GetPayloads(), nil
	case dynamic != nil || len(known) == 1 && known[0] == any(wire):
		return nil, errUnreadable
	default:
		return reencoded(args)
	}
}

// reencoded encodes decoded arguments without a codec: an encryption gives other
// bytes each time.
func reencoded(args []any) ([]*commonpb.Payload, error) {
	dc := converter.GetDefaultDataConverter()
	payloads := make([]*commonpb.Payload, len(args))
	for i, arg := range args {
		p, err := dc.ToPayload(arg)
		if err != nil {
			return nil, fmt.Errorf("argument %d: %w: %w", i, engine.ErrArgument, err)
		}
		payloads[i] = p
	}
	return payloads, nil
}

// rawValues decrypts payloads without decoding them into Go values.
func rawValues(dc converter.DataConverter, p *commonpb.Payloads) ([]*commonpb.Payload, error) {
	return raws(len(p.GetPayloads()), func(ptrs ...any) error { return dc.FromPayloads(p, ptrs...) })
}

// rawsOf does so with values whose number is not known: those that are not there
// stay nil.
func rawsOf(get func(ptrs ...any) error) ([]*commonpb.Payload, error) {
	for n := 4; ; n *= 4 {
		all, err := raws(n, get)
		if err != nil {
			return nil, err
		}
		for i, p := range all {
			if p == nil {
				return all[:i], nil
			}
		}
	}
}

func raws(n int, get func(ptrs ...any) error) ([]*commonpb.Payload, error) {
	var few struct { // at once, for as many as most have
		values   [4]converter.RawValue
		ptrs     [4]any
		payloads [4]*commonpb.Payload
	}
	values, ptrs, payloads := few.values[:], few.ptrs[:], few.payloads[:]
	if n > len(values) {
		values, ptrs, payloads = make([]converter.RawValue, n), make([]any, n), make([]*commonpb.Payload, n)
	}
	values, ptrs, payloads = values[:n], ptrs[:n], payloads[:n]
	for i := range values {
		ptrs[i] = &values[i]
	}
	if err := get(ptrs...); err != nil {
		return nil, err
	}
	for i, v := range values {
		payloads[i] = v.Payload()
	}
	return payloads, nil
}

// jsonOf reads the input of a dynamic activity through a converter that knows
// JSON only.
func jsonOf(values converter.EncodedValues) ([]*commonpb.Payload, error) {
	for n := 4; ; n *= 4 {
		texts, ptrs := make([]json.RawMessage, n), make([]any, n)
		for i := range texts {
			ptrs[i] = &texts[i]
		}
		if err := values.Get(ptrs...); err != nil {
			return nil, fmt.Errorf("%w: only a guard that is a plugin of the client can read it: %w", engine.ErrArgument, err)
		}
		var payloads []*commonpb.Payload
		for _, text := range texts {
			if text == nil {
				return payloads, nil
			}
			payloads = append(payloads, &commonpb.Payload{
				Metadata: map[string][]byte{converter.MetadataEncoding: []byte(converter.MetadataEncodingJSON)}, Data: text,
			})
		}
	}
}

// rawSupport says whether a data converter passes converter.RawValue on, as the
// SDK's own do: 0 is not known yet.
type rawSupport struct{ known atomic.Int32 }

const (
	passesRawValues = iota + 1
	keepsRawValues
)

// passesRaw reports whether dc, the client's converter, passes converter.RawValue
// on. It tries that, once for a client. values are some that dc has decoded just
// now. A converter that encodes them, again and again, but no raw value, does not
// know raw values. One that encodes neither is out of order; that is the error. It
// tries often: if a codec that fails now and then passed for one that does not know
// raw values, calls would get other keys from then on.
func (c *converters) passesRaw(dc converter.DataConverter, values ...any) (bool, error) {
	if known := c.raw.known.Load(); known != 0 {
		return known == passesRawValues, nil
	}
	if len(values) == 0 {
		values = []any{""}
	}
	for range 10 {
		if movesRaw(dc) {
			c.raw.known.Store(passesRawValues)
			return true, nil
		}
		if err := inOrder(dc, values); err != nil {
			return false, err
		}
	}
	c.raw.known.Store(keepsRawValues)
	return false, nil
}

// movesRaw reports whether a raw value comes through dc as it was.
func movesRaw(dc converter.DataConverter) bool {
	sent := &commonpb.Payload{Metadata: map[string][]byte{converter.MetadataEncoding: []byte(converter.MetadataEncodingJSON)}, Data: []byte(`"raw"`)}
	var got converter.RawValue
	_, err := attempted(func() (*commonpb.Payloads, error) {
		p, err := dc.ToPayloads(converter.NewRawValue(sent))
		if err != nil {
			return nil, err
		}
		return p, dc.FromPayloads(p, &got)
	})
	return err == nil && proto.Equal(sent, got.Payload())
}

// inOrder reports an error if dc cannot encode values, or cannot decode a text that
// it has encoded.
func inOrder(dc converter.DataConverter, values []any) error {
	if _, err := attempted(func() (*commonpb.Payloads, error) { return dc.ToPayloads(values...) }); err != nil {
		return err
	}
	text, err := attempted(func() (*commonpb.Payloads, error) { return dc.ToPayloads("") })
	if err != nil {
		return nil //nolint:nilerr // it need not know texts
	}
	_, err = attempted(func() (*commonpb.Payloads, error) { return nil, dc.FromPayloads(text, new(string)) })
	return err
}

// isRepeatable reports whether dc gives the same bytes each time; an encryption
// does not. All attempts of a call need the same answer, so it tries that with
// values of its own, and with the call's only if dc cannot encode those: a map, say,
// may by chance come in the same order twice.
func isRepeatable(dc converter.DataConverter, values ...any) (repeatable bool, err error) {
	probes := [][]any{{""}, {&commonpb.Payload{Data: []byte{1}}}}
	if len(values) > 0 {
		probes = append(probes, values)
	}
	for _, probe := range probes {
		encode := func() (*commonpb.Payloads, error) { return dc.ToPayloads(probe...) }
		var first, second *commonpb.Payloads
		if first, err = attempted(encode); err != nil {
			continue
		}
		if second, err = attempted(encode); err == nil {
			return proto.Equal(first, second), nil
		}
	}
	return false, err
}

// attempted calls a converter of the user's, which may panic at what it does not
// know.
func attempted(f func() (*commonpb.Payloads, error)) (p *commonpb.Payloads, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("the data converter panics: %v", problem)
		}
	}()
	return f()
}
