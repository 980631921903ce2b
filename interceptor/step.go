package interceptor

import (
	"context"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/proto"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/store"
)

// DecodeInto implements engine.Door.
func (d *door) DecodeInto(ctx context.Context, o store.Outcome, ptr any) (failure, broken error) {
	if o.State == store.Failed {
		_, failure, broken = d.codec.replay(ctx, o)
		return failure, broken
	}
	return nil, decodeInto(ctx, d.codec, o, ptr)
}

// decodeInto decodes a recorded result as what recorded it had encoded it.
func decodeInto(ctx context.Context, c codec, o store.Outcome, ptr any) (err error) {
	defer func() {
		if problem := recover(); problem != nil { // of a converter's, over bytes that it did not make
			err = fmt.Errorf("result: %v", problem)
		}
	}()
	if o.Missing != "" {
		return engine.ErrNotKept
	}
	data, where, byRest, err := c.open(ctx, o)
	if err != nil {
		return fmt.Errorf("outcome: %w", err)
	}
	if len(data) == 0 {
		return nil
	}
	payloads := &commonpb.Payloads{}
	if err := proto.Unmarshal(data, payloads); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	from := c.dataIn(ctx, where)
	if byRest {
		from = in(ctx, c.rest, where.serialization())
	}
	if err := from.FromPayloads(payloads, ptr); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	return nil
}
