package interceptor

import (
	"bytes"
	"encoding/gob"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"

	"github.com/atmostonce/atmostonce/internal/engine"
)

// gobs is a payload converter that encodes a map in another order each time.
type gobs struct{}

func (gobs) Encoding() string                    { return "gob" }
func (gobs) ToString(p *commonpb.Payload) string { return string(p.GetData()) }
func (gobs) FromPayload(p *commonpb.Payload, ptr any) error {
	return gob.NewDecoder(bytes.NewReader(p.GetData())).Decode(ptr)
}

func (gobs) ToPayload(v any) (*commonpb.Payload, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(v)
	return &commonpb.Payload{Metadata: map[string][]byte{converter.MetadataEncoding: []byte("gob")}, Data: b.Bytes()}, err
}

// failing is a data converter with calls that fail.
type failing struct {
	converter.DataConverter
	passesRaw      bool
	encode, decode func() bool
}

var errCodec = errors.New("the codec server does not answer")

func (f failing) ToPayloads(values ...any) (*commonpb.Payloads, error) {
	if _, raw := values[0].(converter.RawValue); raw && !f.passesRaw {
		return nil, errors.New("a raw value")
	}
	if f.encode() {
		return nil, errCodec
	}
	return f.DataConverter.ToPayloads(values...)
}

func (f failing) FromPayloads(p *commonpb.Payloads, ptrs ...any) error {
	if f.decode() {
		return errCodec
	}
	return f.DataConverter.FromPayloads(p, ptrs...)
}

func answers() bool { return false }

// The attempts of a call have one digest, whatever fails now and then; those that
// get none are refused, and come again.
func TestDigest_IsOneForAllAttempts(t *testing.T) {
	t.Parallel()
	const attempts = 60
	own := converter.NewCompositeDataConverter(gobs{})
	coded := converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), converter.NewZlibCodec(converter.ZlibCodecOptions{AlwaysEncode: true}))
	for name, tt := range map[string]struct {
		value any
		dc    func(attempt int) failing
	}{
		"a map's order": {map[string]int{"a": 1, "b": 2}, func(int) failing { return failing{own, false, answers, answers} }},
		"an encoding fails": {"order-7", func(attempt int) failing {
			n := 0
			return failing{own, false, func() bool { n++; return n == attempt }, answers}
		}},
		"encodings fail from then on": {"order-7", func(attempt int) failing {
			n := 0
			return failing{own, false, func() bool { n++; return n > attempt }, answers}
		}},
		"decodings fail at first": {"order-7", func(attempt int) failing {
			n := 0
			return failing{coded, true, answers, func() bool { n++; return n <= attempt }}
		}},
		"every other decoding fails": {"order-7", func(attempt int) failing {
			n := attempt
			return failing{coded, true, answers, func() bool { n++; return n%2 == 0 }}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wire, err := tt.dc(attempts + 1).DataConverter.ToPayloads(tt.value)
			require.NoError(t, err)
			digests := map[string]bool{}
			for attempt := range attempts {
				c := codec{converters: newConverters(tt.dc(attempt), nil), where: targetOf(sdkactivity.Info{})}
				digest, err := c.digest(t.Context(), wire, []any{tt.value})
				if err != nil {
					require.ErrorIs(t, err, errCodec)
					require.NotErrorIs(t, err, engine.ErrArgument)
					continue
				}
				digests[digest] = true
			}
			require.Len(t, digests, 1)
		})
	}
}
