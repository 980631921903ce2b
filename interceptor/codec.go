package interceptor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/store"
)

// converters are those of the client that a call came through.
type converters struct {
	data    converter.DataConverter
	failure converter.FailureConverter
	// rest, if not nil, seals outcomes once more before they are stored: then data
	// does not encrypt.
	rest converter.DataConverter
	own  bool       // data is Options.DataConverter, since the guard has no client
	raw  rawSupport // of data
	// limit is Options.MaxOutcome; 0: its default.
	limit int
}

func newConverters(dc converter.DataConverter, fc converter.FailureConverter) *converters {
	if dc == nil {
		dc = converter.GetDefaultDataConverter()
	}
	if fc == nil {
		fc = temporal.GetDefaultFailureConverter()
	}
	return &converters{data: dc, failure: fc}
}

// same reports whether both are certain to encode alike.
func (c *converters) same(other *converters) bool {
	return equal(c.data, other.data) && equal(c.failure, other.failure)
}

// equal reports whether two values of interfaces are certain to be the same.
func equal(a, b any) bool {
	return reflect.TypeOf(a) == reflect.TypeOf(b) && (a == nil || reflect.ValueOf(a).Comparable() && a == b)
}

// target says what an outcome is encoded for.
type target struct {
	converter.ActivitySerializationContext
	// Nexus is set for a standalone activity that a Nexus operation has started:
	// what goes back to the operation's caller is encoded for it.
	Nexus converter.NexusSerializationContext `json:",omitzero"`
	// Sealed is set where the outcome is sealed by converters.rest; Own where it is
	// encoded by Options.DataConverter, by a guard without a client.
	Sealed, Own bool `json:",omitempty"`
}

func (t target) serialization() converter.SerializationContext {
	if t.Nexus != (converter.NexusSerializationContext{}) {
		return t.Nexus
	}
	return t.ActivitySerializationContext
}

// targetOf returns the target of a call's outcome.
func targetOf(info sdkactivity.Info) target {
	t := target{ActivitySerializationContext: converter.ActivitySerializationContext{
		Namespace: info.Namespace, WorkflowID: info.WorkflowExecution.ID,
		ActivityType: info.ActivityType.Name, TaskQueue: info.TaskQueue, IsLocal: info.IsLocalActivity,
	}}
	if info.WorkflowType != nil {
		t.WorkflowType = info.WorkflowType.Name
	}
	if nexusIndex != nil {
		f := reflect.ValueOf(info).FieldByIndex(nexusIndex)
		if nexus, ok := f.Interface().(*converter.NexusSerializationContext); ok && nexus != nil {
			t.Nexus = *nexus
		}
	}
	return t
}

// nexusIndex is where activity.Info has the field. SDK 1.50 does not have it.
var nexusIndex = func() []int {
	f, _ := reflect.TypeFor[sdkactivity.Info]().FieldByName(nexusField)
	return f.Index
}()

// nexusField is the name of a field in activity.Info, and in the options by which
// a client completes an activity.
const nexusField = "NexusSerializationContext"

// codec encodes outcomes exactly as the worker would for one call, and decodes
// those that another call's codec encoded.
type codec struct {
	*converters
	where target
	// bound, if not nil, is data for where, in the context of the call.
	bound converter.DataConverter
}

// in returns dc as it encodes for sc.
func in(ctx context.Context, dc converter.DataConverter, sc converter.SerializationContext) converter.DataConverter {
	dc = converter.WithDataConverterSerializationContext(dc, sc)
	if aware, ok := dc.(workflow.ContextAware); ok {
		dc = aware.WithContext(ctx)
	}
	return dc
}

// dataIn returns the converter of outcomes for a target.
func (c codec) dataIn(ctx context.Context, where target) converter.DataConverter {
	if c.bound != nil && where == c.where {
		return c.bound
	}
	return in(ctx, c.data, where.serialization())
}

// inputs returns the converter of the call's input.
func (c codec) inputs(ctx context.Context) converter.DataConverter {
	if c.where.Nexus == (converter.NexusSerializationContext{}) { // else they are not encoded as outcomes are
		return c.dataIn(ctx, c.where)
	}
	return in(ctx, c.data, c.where.ActivitySerializationContext)
}

func (c codec) failuresIn(where target) converter.FailureConverter {
	return converter.WithFailureConverterSerializationContext(c.failure, where.serialization())
}

// encode returns the outcome of a body that succeeded, and what to hand to the
// SDK in place of its result: the very payloads that are recorded.
func (c codec) encode(ctx context.Context, result any, limit int) (o store.Outcome, answer any, err error) {
	o = store.Outcome{State: store.Succeeded}
	if result == nil {
		return c.seal(ctx, o), nil, nil
	}
	payloads, ok := result.(*commonpb.Payloads)
	if !ok {
		if payloads, err = toPayloads(c.dataIn(ctx, c.where), result); err != nil {
			o.Missing = notEncoded
			return c.seal(ctx, o), nil, err
		}
	}
	if o.Data, err = proto.Marshal(payloads); err != nil {
		o.Missing = notEncoded
		return c.seal(ctx, o), nil, err
	}
	if len(o.Data) > limit {
		o.Missing = fmt.Sprintf("its %d bytes are more than the limit of %d", len(o.Data), limit)
		o.Data = nil
	}
	return c.seal(ctx, o), payloads, nil
}

const notEncoded = "it could not be encoded"

// toPayloads encodes one value as the SDK does. The SDK lets a value choose
// another type to be encoded as, and offers that to others only in its failure
// converter, for the details of an error.
func toPayloads(dc converter.DataConverter, value any) (p *commonpb.Payloads, err error) {
	if t := reflect.TypeOf(value); t.NumMethod() > 0 {
		if _, chooses := t.MethodByName("TransferTypeConverter"); chooses {
			defer func() {
				if problem := recover(); problem != nil { // the failure converter's way of saying so
					err = fmt.Errorf("%v", problem)
				}
			}()
			fc := temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{DataConverter: dc})
			failure := fc.ErrorToFailure(temporal.NewApplicationErrorWithOptions("", "", temporal.ApplicationErrorOptions{Details: []any{value}}))
			return failure.GetApplicationFailureInfo().GetDetails(), nil
		}
	}
	return dc.ToPayloads(value)
}

// seal completes an outcome for the store.
func (c codec) seal(ctx context.Context, o store.Outcome) store.Outcome {
	where := c.where
	where.Own = c.own
	if c.rest != nil && len(o.Data) > 0 {
		p, err := in(ctx, c.rest, where.ActivitySerializationContext).ToPayload(o.Data)
		if err == nil {
			o.Data, err = proto.Marshal(p)
		}
		if err != nil {
			o.Data, o.Missing = nil, "Options.DataConverter did not seal it: "+clip(err.Error(), maxMissing)
		} else if err = c.fits(o.Data); err != nil {
			o.Data, o.Missing = nil, "sealed by Options.DataConverter, "+err.Error()
		}
		where.Sealed = true
	}
	text := texts.Get().(*targetText)
	defer texts.Put(text)
	o.Context = string(text.of(where))
	return o
}

// open undoes seal. It returns the outcome's data, the target that it is encoded
// for, and whether the converter of that is rest.
func (c codec) open(ctx context.Context, o store.Outcome) (data []byte, where target, byRest bool, err error) {
	if err := c.fits(o.Data); err != nil {
		return nil, c.where, false, err
	}
	if where, err = c.targetOf(o); err != nil {
		return nil, where, false, err
	}
	sealed := where.Sealed
	byRest = where.Own && c.rest != nil
	where.Sealed, where.Own = false, false
	if !sealed || len(o.Data) == 0 {
		return o.Data, where, byRest, nil
	}
	data, err = c.unseal(ctx, o.Data, where)
	return data, where, byRest, err
}

// targetOf returns the target that the outcome is encoded for.
func (c codec) targetOf(o store.Outcome) (target, error) {
	where := c.where
	switch {
	case len(o.Context) > maxContext:
		return where, fmt.Errorf("serialization context of %d bytes", len(o.Context))
	case o.Context == "", c.isOwn(o, &where):
		return where, nil
	}
	return readTarget(o.Context)
}

func readTarget(text string) (where target, err error) {
	if err := json.Unmarshal([]byte(text), &where); err != nil {
		return where, errContext // err may quote it
	}
	return where, nil
}

func (c codec) unseal(ctx context.Context, sealed []byte, where target) (data []byte, err error) {
	if c.rest == nil {
		return nil, errSealed
	}
	p := &commonpb.Payload{}
	if err := proto.Unmarshal(sealed, p); err != nil {
		return nil, err
	}
	if err = in(ctx, c.rest, where.ActivitySerializationContext).FromPayload(p, &data); err == nil {
		err = c.fits(data)
	}
	return data, err
}

// isOwn reports whether the outcome's context is the text that this codec writes for its
// own target, as it is with most: then there is nothing to read in it. It notes what
// seal did.
func (c codec) isOwn(o store.Outcome, where *target) bool {
	own := c.where
	own.Own, own.Sealed = c.own, c.rest != nil && len(o.Data) > 0
	text := texts.Get().(*targetText)
	defer texts.Put(text)
	if string(text.of(own)) != o.Context {
		return false
	}
	*where = own
	return true
}

// targetText writes targets as JSON.
type targetText struct {
	buffer  bytes.Buffer
	encoder *json.Encoder
	target  target
}

var texts = sync.Pool{New: func() any {
	t := &targetText{}
	t.encoder = json.NewEncoder(&t.buffer)
	return t
}}

// of returns the text of a target, which is overwritten by the next one.
func (t *targetText) of(where target) []byte {
	t.buffer.Reset()
	t.target = where
	_ = t.encoder.Encode(&t.target) // a struct of strings and bools: it cannot fail
	return bytes.TrimSuffix(t.buffer.Bytes(), []byte("\n"))
}

var errContext = errors.New("its serialization context cannot be read")

var errSealed = errors.New("it is sealed: this guard needs the interceptor.Options.DataConverter of the one that recorded it")

// encodeFailure returns the outcome of a body that failed for good, and the
// error in the form in which it is replayed. A failure that cannot be kept as it
// is, is replayed as a plain one: a call without a failure might take the effect
// for granted.
func (c codec) encodeFailure(ctx context.Context, err error) (store.Outcome, error) {
	err = shortened(err)
	failure, data, broken := c.marshalFailure(err)
	if broken != nil {
		failure, data, broken = c.marshalFailure(plain(err, "its details and causes: "+clip(broken.Error(), maxMissing)))
	}
	o := store.Outcome{State: store.Failed, Data: data}
	if broken != nil { // the converter itself makes it so
		o.Data, o.Missing = nil, clip(broken.Error(), maxMissing)
	}
	if failure == nil {
		return c.seal(ctx, o), err
	}
	return c.seal(ctx, o), c.failuresIn(c.where).FailureToError(failure)
}

// marshalFailure encodes an error as a failure that is not retried. It returns no
// failure if that has too many causes to become an error again.
func (c codec) marshalFailure(err error) (*failurepb.Failure, []byte, error) {
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
	if err := fitsCauses(failure); err != nil {
		return nil, nil, err
	}
	data, err := proto.Marshal(failure)
	if err == nil {
		err = c.fits(data)
	}
	return failure, data, err
}

// replay returns the recorded outcome as the SDK would have it from the body.
// broken is an error other than the recorded failure itself.
func (c codec) replay(ctx context.Context, o store.Outcome) (result any, failure error, broken error) {
	defer func() {
		if problem := recover(); problem != nil { // of a converter's, over bytes that it did not make
			result, failure, broken = nil, nil, fmt.Errorf("outcome: %v", problem)
		}
	}()
	if o.Missing != "" {
		return nil, nil, engine.ErrNotKept
	}
	data, where, byRest, err := c.open(ctx, o)
	if err != nil {
		return nil, nil, fmt.Errorf("outcome: %w", err)
	}
	if o.State == store.Failed {
		f := &failurepb.Failure{}
		err := proto.Unmarshal(data, f)
		if err == nil {
			err = fitsCauses(f)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("failure: %w", err)
		}
		// The SDK's own failure converter encodes alike for every workflow.
		if _, bound := c.failure.(converter.FailureConverterWithSerializationContext); bound && where != c.where {
			if err := c.transcodeFailure(ctx, f, where); err != nil {
				return nil, nil, fmt.Errorf("failure: %w", err)
			}
		}
		return nil, c.failuresIn(c.where).FailureToError(f), nil
	}
	if len(data) == 0 {
		return nil, nil, nil
	}
	payloads := &commonpb.Payloads{}
	if err := proto.Unmarshal(data, payloads); err != nil {
		return nil, nil, fmt.Errorf("result: %w", err)
	}
	from := c.dataIn(ctx, where)
	switch {
	case byRest:
		from = in(ctx, c.rest, where.serialization())
	case where == c.where:
		return payloads, nil, nil
	}
	moved, err := c.transcode(ctx, payloads, from)
	if err != nil {
		return nil, nil, fmt.Errorf("result: %w", err)
	}
	return moved, nil, nil
}

// decoded returns a replayed result as a value of type t, for interceptors that
// look at it, and nil where it cannot be decoded. The capture keeps another copy of
// it: they may change this one.
func (c codec) decoded(ctx context.Context, result any, t reflect.Type) (value any) {
	payloads, ok := result.(*commonpb.Payloads)
	if !ok || t == nil || len(payloads.GetPayloads()) == 0 {
		return nil
	}
	decode := func() any {
		ptr := reflect.New(t)
		if _, err := attempted(func() (*commonpb.Payloads, error) {
			return nil, c.dataIn(ctx, c.where).FromPayloads(payloads, ptr.Interface())
		}); err != nil {
			return nil
		}
		return ptr.Elem().Interface()
	}
	if value = decode(); value == nil {
		return nil
	}
	if captured := captureOf(ctx); captured != nil {
		captured.replays(decode(), payloads)
	}
	return value
}

// transcode re-encodes what was encoded by another converter: for another workflow,
// say, whose ID an encryption may be bound to. A converter that does not pass raw values on is
// taken to encode alike for all.
func (c codec) transcode(ctx context.Context, p *commonpb.Payloads, from converter.DataConverter) (*commonpb.Payloads, error) {
	if passes, err := c.passesRaw(c.dataIn(ctx, c.where)); err != nil || !passes {
		return p, err
	}
	raws, err := rawValues(from, p)
	if err != nil {
		return nil, err
	}
	values := make([]any, len(raws))
	for i, raw := range raws {
		values[i] = converter.NewRawValue(raw)
	}
	return c.dataIn(ctx, c.where).ToPayloads(values...)
}

// transcodeFailure does so with everything encoded in a failure and its causes.
func (c codec) transcodeFailure(ctx context.Context, f *failurepb.Failure, from target) error {
	for ; f != nil; f = f.GetCause() {
		if p := f.GetEncodedAttributes(); p != nil {
			moved, err := c.transcode(ctx, &commonpb.Payloads{Payloads: []*commonpb.Payload{p}}, c.dataIn(ctx, from))
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
			moved, err := c.transcode(ctx, details, c.dataIn(ctx, from))
			if err != nil {
				return err
			}
			details.Payloads = moved.GetPayloads()
		}
	}
	return nil
}
