package interceptor

import (
	"bytes"
	"context"
	"encoding/gob"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"google.golang.org/protobuf/proto"
)

// beats is the SDK's end of the heartbeats, with a data converter.
type beats struct {
	sdkinterceptor.ActivityOutboundInterceptorBase
	dc       converter.DataConverter
	previous *commonpb.Payloads
	recorded *commonpb.Payloads
}

func (b *beats) HasHeartbeatDetails(context.Context) bool { return b.previous != nil }

func (b *beats) GetHeartbeatDetails(_ context.Context, ptrs ...any) error {
	return b.dc.FromPayloads(b.previous, ptrs...)
}

func (b *beats) RecordHeartbeat(_ context.Context, details ...any) {
	var err error
	if b.recorded, err = b.dc.ToPayloads(details...); err != nil {
		panic(err)
	}
}

// gobOnly is a data converter that knows gob and nothing else.
type gobOnly struct{ converter.DataConverter }

func (gobOnly) ToPayloads(values ...any) (*commonpb.Payloads, error) {
	all := &commonpb.Payloads{}
	for _, v := range values {
		var b bytes.Buffer
		if err := gob.NewEncoder(&b).Encode(v); err != nil {
			return nil, err
		}
		all.Payloads = append(all.Payloads, &commonpb.Payload{Data: b.Bytes()})
	}
	return all, nil
}

func (gobOnly) FromPayloads(ps *commonpb.Payloads, ptrs ...any) error {
	for i, ptr := range ptrs {
		if err := gob.NewDecoder(bytes.NewReader(ps.Payloads[i].Data)).Decode(ptr); err != nil {
			return err
		}
	}
	return nil
}

// A call that waits repeats the progress of the attempt before, of however many
// values, and whatever encodes it.
func TestHeartbeat_RepeatsTheProgressAsItWas(t *testing.T) {
	t.Parallel()
	bound := &capture{}
	bound.bind()
	asPlugin := context.WithValue(t.Context(), captureKey{}, bound)
	sealed := converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), sealing{})
	for name, c := range map[string]struct {
		ctx context.Context
		dc  converter.DataConverter
	}{
		"the SDK's":                        {t.Context(), converter.GetDefaultDataConverter()},
		"the client's, seen by a plugin":   {asPlugin, &watch{DataConverter: sealed}},
		"one that knows no raw values":     {asPlugin, &watch{DataConverter: gobOnly{}}},
		"the client's, seen by the worker": {t.Context(), converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), plainCodec{})},
	} {
		for _, n := range []int{1, 3, 4, 16, 17, 40} {
			t.Run(fmt.Sprint(name, " ", n), func(t *testing.T) {
				t.Parallel()
				values := make([]any, n)
				for i := range values {
					values[i] = i
				}
				previous, err := c.dc.ToPayloads(values...)
				require.NoError(t, err)
				sdk := &beats{dc: c.dc, previous: previous}
				h := &heartbeat{}
				h.Next = sdk
				was := proto.CloneOf(previous)
				for range 2 {
					h.again(c.ctx)
					require.True(t, proto.Equal(was, sdk.recorded))
					// The SDK changes in place what it sends, and may do so while it
					// reads the details again.
					for _, p := range sdk.recorded.GetPayloads() {
						clear(p.Metadata)
					}
					clear(sdk.recorded.GetPayloads())
					sdk.recorded.Payloads = nil
				}
			})
		}
	}
}

// plainCodec is a codec that gives the same bytes each time.
type plainCodec struct{}

func (plainCodec) Encode(ps []*commonpb.Payload) ([]*commonpb.Payload, error) { return ps, nil }
func (plainCodec) Decode(ps []*commonpb.Payload) ([]*commonpb.Payload, error) { return ps, nil }
