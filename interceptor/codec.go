package interceptor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

// converters are those of the client that a call came through.
type converters struct {
	data    converter.DataConverter
	failure converter.FailureConverter
}

func newConverters(dc converter.DataConverter, fc converter.FailureConverter) *converters {
	if dc == nil {
		dc = converter.GetDefaultDataConverter()
	}
	if fc == nil {
		fc = temporal.GetDefaultFailureConverter()
	}
	return &converters{dc, fc}
}

// same reports whether both are certain to encode alike.
func (c *converters) same(other *converters) bool {
	return equal(c.data, other.data) && equal(c.failure, other.failure)
}

// equal reports whether two values of interfaces are certain to be the same.
func equal(a, b any) bool {
	return reflect.TypeOf(a) == reflect.TypeOf(b) && (a == nil || reflect.ValueOf(a).Comparable() && a == b)
}

// codec encodes outcomes exactly as the worker would for one call, and decodes
// those that another call's codec encoded.
type codec struct {
	*converters
	ctx   context.Context
	where converter.ActivitySerializationContext
}

func (c *converters) codec(ctx context.Context, info sdkactivity.Info) codec {
	where := converter.ActivitySerializationContext{
		Namespace: info.Namespace, WorkflowID: info.WorkflowExecution.ID,
		ActivityType: info.ActivityType.Name, TaskQueue: info.TaskQueue, IsLocal: info.IsLocalActivity,
	}
	if info.WorkflowType != nil {
		where.WorkflowType = info.WorkflowType.Name
	}
	return codec{c, ctx, where}
}

func (c codec) dataIn(where converter.ActivitySerializationContext) converter.DataConverter {
	dc := converter.WithDataConverterSerializationContext(converter.MakeTransferAware(c.data), where)
	if aware, ok := dc.(workflow.ContextAware); ok {
		dc = aware.WithContext(c.ctx)
	}
	return dc
}

func (c codec) failuresIn(where converter.ActivitySerializationContext) converter.FailureConverter {
	return converter.WithFailureConverterSerializationContext(c.failure, where)
}

func (c codec) context() string {
	// A struct of strings and one bool: it cannot fail.
	text, _ := json.Marshal(c.where)
	return string(text)
}

// encode returns the outcome of a body that succeeded, and what to hand to the
// SDK in place of its result: the very payloads that are recorded.
func (c codec) encode(result any, limit int) (o store.Outcome, answer any, err error) {
	o = store.Outcome{State: store.Succeeded, Context: c.context()}
	if result == nil {
		return o, nil, nil
	}
	payloads, ok := result.(*commonpb.Payloads)
	if !ok {
		if payloads, err = c.dataIn(c.where).ToPayloads(result); err != nil {
			o.Missing = "it could not be encoded"
			return o, nil, err
		}
	}
	if o.Data, err = proto.Marshal(payloads); err != nil {
		o.Missing = "it could not be encoded"
		return o, nil, err
	}
	if len(o.Data) > limit {
		o.Missing = fmt.Sprintf("its %d bytes are more than the limit of %d", len(o.Data), limit)
		o.Data = nil
	}
	return o, payloads, nil
}

// encodeFailure returns the outcome of a body that failed for good, and the
// error in the form in which it is replayed.
func (c codec) encodeFailure(err error) (store.Outcome, error) {
	o := store.Outcome{State: store.Failed, Context: c.context()}
	// An error that came from a failure gives that very failure back.
	failure := proto.Clone(c.failuresIn(c.where).ErrorToFailure(err)).(*failurepb.Failure)
	if app := failure.GetApplicationFailureInfo(); app != nil {
		app.NonRetryable = true
		// A delay has no meaning in a failure that is not retried.
		app.NextRetryDelay = nil
	} else {
		failure = c.failuresIn(c.where).ErrorToFailure(
			temporal.NewNonRetryableApplicationError(err.Error(), "", err))
	}
	data, marshalErr := proto.Marshal(failure)
	if marshalErr != nil {
		o.Missing = "it could not be encoded"
		return o, err
	}
	o.Data = data
	return o, c.failuresIn(c.where).FailureToError(failure)
}

var errNotKept = errors.New("outcome not kept")

// replay returns the recorded outcome as the SDK would have it from the body.
// An error that is not the recorded failure itself comes as broken.
func (c codec) replay(o store.Outcome) (result any, failure error, broken error) {
	if o.Missing != "" {
		return nil, nil, errNotKept
	}
	where := c.where
	if o.Context != "" {
		if err := json.Unmarshal([]byte(o.Context), &where); err != nil {
			return nil, nil, fmt.Errorf("serialization context: %w", err)
		}
	}
	if o.State == store.Failed {
		f := &failurepb.Failure{}
		if err := proto.Unmarshal(o.Data, f); err != nil {
			return nil, nil, fmt.Errorf("failure: %w", err)
		}
		// The SDK's own failure converter encodes alike for every workflow.
		if _, bound := c.failure.(converter.FailureConverterWithSerializationContext); bound && where != c.where {
			if err := c.transcodeFailure(f, where); err != nil {
				return nil, nil, fmt.Errorf("failure: %w", err)
			}
		}
		return nil, c.failuresIn(c.where).FailureToError(f), nil
	}
	if len(o.Data) == 0 {
		return nil, nil, nil
	}
	payloads := &commonpb.Payloads{}
	if err := proto.Unmarshal(o.Data, payloads); err != nil {
		return nil, nil, fmt.Errorf("result: %w", err)
	}
	if where == c.where {
		return payloads, nil, nil
	}
	moved, err := c.transcode(payloads, where)
	if err != nil {
		return nil, nil, fmt.Errorf("result: %w", err)
	}
	return moved, nil, nil
}

// transcode re-encodes what was encoded for another workflow, whose ID an
// encryption may be bound to.
func (c codec) transcode(p *commonpb.Payloads, from converter.ActivitySerializationContext) (*commonpb.Payloads, error) {
	raws, err := rawValues(c.dataIn(from), p)
	if err != nil {
		return nil, err
	}
	return c.dataIn(c.where).ToPayloads(raws...)
}

// transcodeFailure does so with everything encoded in a failure and its causes.
func (c codec) transcodeFailure(f *failurepb.Failure, from converter.ActivitySerializationContext) error {
	for ; f != nil; f = f.GetCause() {
		if p := f.GetEncodedAttributes(); p != nil {
			moved, err := c.transcode(&commonpb.Payloads{Payloads: []*commonpb.Payload{p}}, from)
			if err != nil {
				return err
			}
			f.EncodedAttributes = moved.GetPayloads()[0]
		}
		for _, details := range []*commonpb.Payloads{
			f.GetApplicationFailureInfo().GetDetails(), f.GetCanceledFailureInfo().GetDetails(),
			f.GetTimeoutFailureInfo().GetLastHeartbeatDetails(),
		} {
			if details == nil {
				continue
			}
			moved, err := c.transcode(details, from)
			if err != nil {
				return err
			}
			details.Payloads = moved.GetPayloads()
		}
	}
	return nil
}

// rawValues decrypts payloads without decoding them into Go values.
func rawValues(dc converter.DataConverter, p *commonpb.Payloads) ([]any, error) {
	raws := make([]converter.RawValue, len(p.GetPayloads()))
	ptrs, values := make([]any, len(raws)), make([]any, len(raws))
	for i := range raws {
		ptrs[i] = &raws[i]
	}
	if err := dc.FromPayloads(p, ptrs...); err != nil {
		return nil, err
	}
	for i := range raws {
		values[i] = raws[i]
	}
	return values, nil
}

// errArgument: no later attempt will encode it either.
var errArgument = errors.New("it cannot be encoded")

// digest returns the digest of a call's whole input. wire is the input as it
// came from Temporal, if it was seen; args are what the SDK decoded it to.
func (c codec) digest(wire *commonpb.Payloads, args []any) (string, error) {
	if wire != nil {
		args = []any{wire}
	}
	var parts []keys.Arg
	add := func(p *commonpb.Payload) {
		parts = append(parts, keys.Arg{Encoding: string(p.GetMetadata()[converter.MetadataEncoding]), Data: p.GetData()})
	}
	// Without a codec: an encryption gives other bytes each time.
	dc := converter.GetDefaultDataConverter()
	for i, arg := range args {
		switch arg := arg.(type) {
		case *commonpb.Payloads: // the wire, or a local activity in the SDK's test environment
			raws, err := rawValues(c.dataIn(c.where), arg)
			if err != nil {
				return "", fmt.Errorf("input: %w", err)
			}
			for _, raw := range raws {
				add(raw.(converter.RawValue).Payload())
			}
			continue
		case converter.EncodedValues:
			if !arg.HasValues() {
				continue
			}
			return "", fmt.Errorf("input: argument %d of a dynamic activity can only be read by a guard that is a plugin of the client", i)
		}
		p, err := dc.ToPayload(arg)
		if err != nil {
			return "", fmt.Errorf("input: argument %d: %w: %w", i, errArgument, err)
		}
		add(p)
	}
	return keys.Digest(parts), nil
}
