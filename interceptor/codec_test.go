package interceptor

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
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

// sealing encrypts with a random nonce, bound to the workflow's ID.
type sealing struct{ workflow string }

func (s sealing) WithSerializationContext(sc converter.SerializationContext) converter.PayloadCodec {
	if a, ok := sc.(converter.ActivitySerializationContext); ok {
		s.workflow = a.WorkflowID
	}
	return s
}

func (s sealing) gcm() cipher.AEAD {
	block, err := aes.NewCipher([]byte("0123456789abcdef"))
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return gcm
}

func (s sealing) Encode(ps []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(ps))
	for i, p := range ps {
		plain, err := proto.Marshal(p)
		if err != nil {
			return nil, err
		}
		nonce := make([]byte, s.gcm().NonceSize())
		_, _ = rand.Read(nonce)
		out[i] = &commonpb.Payload{
			Metadata: map[string][]byte{converter.MetadataEncoding: []byte("binary/sealed")},
			Data:     s.gcm().Seal(nonce, nonce, plain, []byte(s.workflow)),
		}
	}
	return out, nil
}

func (s sealing) Decode(ps []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(ps))
	for i, p := range ps {
		n := s.gcm().NonceSize()
		plain, err := s.gcm().Open(nil, p.Data[:n], p.Data[n:], []byte(s.workflow))
		if err != nil {
			return nil, err
		}
		out[i] = &commonpb.Payload{}
		if err := proto.Unmarshal(plain, out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func sealedConverters() *converters {
	dc := converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), sealing{})
	return newConverters(dc, temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{
		DataConverter: dc, EncodeCommonAttributes: true,
	}))
}

func infoOf(workflowID string) sdkactivity.Info {
	return sdkactivity.Info{
		Namespace: "default", WorkflowType: &workflow.Type{Name: "Order"}, TaskQueue: "q",
		WorkflowExecution: workflow.Execution{ID: workflowID}, ActivityType: sdkactivity.Type{Name: "ChargeCard"},
	}
}

func TestCodec_ReplaysTheVeryBytes(t *testing.T) {
	t.Parallel()
	c := codec{converters: sealedConverters(), where: targetOf(infoOf("order-7"))}
	o, answer, err := c.encode(t.Context(), map[string]string{"secret": "plaintext"}, 1<<20)
	require.NoError(t, err)
	require.NotContains(t, string(o.Data), "plaintext")

	result, failure, err := c.replay(t.Context(), o)
	require.NoError(t, err)
	require.NoError(t, failure)
	require.True(t, proto.Equal(answer.(*commonpb.Payloads), result.(*commonpb.Payloads)), "what the first call got")
	var got map[string]string
	require.NoError(t, c.dataIn(t.Context(), c.where).FromPayloads(result.(*commonpb.Payloads), &got))
	require.Equal(t, "plaintext", got["secret"])
}

func TestCodec_MovesAResultToAnotherWorkflow(t *testing.T) {
	t.Parallel()
	conv := sealedConverters()
	first, second := codec{converters: conv, where: targetOf(infoOf("order-7"))}, codec{converters: conv, where: targetOf(infoOf("order-8"))}
	o, answer, err := first.encode(t.Context(), "result", 1<<20)
	require.NoError(t, err)
	var got string
	require.Error(t, second.dataIn(t.Context(), second.where).FromPayloads(answer.(*commonpb.Payloads), &got), "the codec is bound to the workflow")

	result, _, err := second.replay(t.Context(), o)
	require.NoError(t, err)
	require.NoError(t, second.dataIn(t.Context(), second.where).FromPayloads(result.(*commonpb.Payloads), &got))
	require.Equal(t, "result", got)
}

// What is bound to a call saves it from binding it each time, and serves for nothing else.
func TestCodec_WhatIsBoundIsForItsOwnTarget(t *testing.T) {
	t.Parallel()
	conv := sealedConverters()
	first, second := codec{converters: conv, where: targetOf(infoOf("order-7"))}, codec{converters: conv, where: targetOf(infoOf("order-8"))}
	second.bound = second.dataIn(t.Context(), second.where)
	o, _, err := first.encode(t.Context(), "result", 1<<20)
	require.NoError(t, err)
	result, _, err := second.replay(t.Context(), o)
	require.NoError(t, err)
	var got string
	require.NoError(t, second.bound.FromPayloads(result.(*commonpb.Payloads), &got))
	require.Equal(t, "result", got)
	require.Equal(t, second.bound, second.inputs(t.Context()))

	first.where.Nexus.Endpoint = "endpoint" // whose results are encoded for it, but not its input
	first.bound = first.dataIn(t.Context(), first.where)
	wire, err := in(t.Context(), conv.data, first.where.ActivitySerializationContext).ToPayloads("input")
	require.NoError(t, err)
	require.NoError(t, first.inputs(t.Context()).FromPayloads(wire, &got))
	require.Equal(t, "input", got)
}

// The quick way to read a target gives what the slow one does, or nothing.
func TestCodec_ItsOwnTargetIsWhatItsTextSays(t *testing.T) {
	t.Parallel()
	for _, own := range []bool{false, true} {
		for _, rest := range []converter.DataConverter{nil, converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), sealing{})} {
			for _, data := range [][]byte{nil, []byte("data")} {
				conv := *sealedConverters()
				conv.own, conv.rest = own, rest
				c, other := codec{converters: &conv, where: targetOf(infoOf("order-7"))}, codec{converters: &conv, where: targetOf(infoOf("order-8"))}
				o := c.seal(t.Context(), store.Outcome{State: store.Succeeded, Data: data})
				var where target
				require.True(t, c.isOwn(o, &where))
				read, err := readTarget(o.Context)
				require.NoError(t, err)
				require.Equal(t, read, where)
				require.False(t, other.isOwn(o, &where))
				read, err = other.targetOf(o)
				require.NoError(t, err)
				require.Equal(t, where, read)
			}
		}
	}
}

// A task has a watch for each converter that the SDK asks for, more of them than are made at once.
func TestCapture_HasAViewForEachConverter(t *testing.T) {
	t.Parallel()
	c, views := &capture{}, map[*watch]converter.DataConverter{}
	for range 3 * len(c.views) {
		dc := converter.NewCompositeDataConverter()
		views[c.view(dc)] = dc
	}
	require.Len(t, views, 3*len(c.views))
	for w, dc := range views {
		require.Same(t, dc, w.DataConverter)
		require.Same(t, c, w.capture)
	}
}

func TestGuarding_SaysSoToItsOwnGuard(t *testing.T) {
	t.Parallel()
	type key struct{}
	outer, inner := guardedBy{&Guard{}}, guardedBy{&Guard{}}
	ctx := &guarding{&guarding{context.WithValue(t.Context(), key{}, "value"), outer}, inner}
	require.NotNil(t, ctx.Value(outer))
	require.NotNil(t, ctx.Value(inner))
	require.Nil(t, ctx.Value(guardedBy{&Guard{}}))
	require.Equal(t, "value", ctx.Value(key{}))
}

// A worker's activities may be known to one client's metrics, and then to those of another.
func TestPlaces_AreKnownWhereTheirSeriesWentLast(t *testing.T) {
	t.Parallel()
	var known places
	a, b := engine.Place{Activity: "a"}, engine.Place{Activity: "b"}
	require.False(t, known.has(a, nil))
	known.add(a, nil)
	require.True(t, known.has(a, nil))
	require.False(t, known.has(b, nil))
	require.False(t, known.has(a, "another client's"))
	known.add(a, "another client's")
	require.True(t, known.has(a, "another client's"))
}

func TestCodec_MovesAFailureToAnotherWorkflow(t *testing.T) {
	t.Parallel()
	// The SDK gives the converter the context of each call.
	dc := converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), sealing{})
	conv := newConverters(dc, boundFailures{dc})
	first, second := codec{converters: conv, where: targetOf(infoOf("order-7"))}, codec{converters: conv, where: targetOf(infoOf("order-8"))}
	outcome, _ := first.encodeFailure(t.Context(), temporal.NewApplicationErrorWithOptions("declined", "Declined", temporal.ApplicationErrorOptions{
		Details: []any{"detail"}, Cause: temporal.NewApplicationError("no funds", "Funds", 42),
	}))
	_, replayed, err := second.replay(t.Context(), outcome)
	require.NoError(t, err)
	app := (*temporal.ApplicationError)(nil)
	require.ErrorAs(t, replayed, &app)
	require.Equal(t, "declined", app.Message())
	var detail string
	require.NoError(t, app.Details(&detail))
	require.Equal(t, "detail", detail)
	cause := (*temporal.ApplicationError)(nil)
	require.ErrorAs(t, app.Unwrap(), &cause)
	var n int
	require.NoError(t, cause.Details(&n))
	require.Equal(t, 42, n)
}

// boundFailures is a failure converter that encodes for its context.
type boundFailures struct{ dc converter.DataConverter }

func (b boundFailures) inner() converter.FailureConverter {
	return temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{DataConverter: b.dc, EncodeCommonAttributes: true})
}

func (b boundFailures) ErrorToFailure(err error) *failurepb.Failure {
	return b.inner().ErrorToFailure(err)
}
func (b boundFailures) FailureToError(f *failurepb.Failure) error { return b.inner().FailureToError(f) }

func (b boundFailures) WithSerializationContext(sc converter.SerializationContext) converter.FailureConverter {
	return boundFailures{converter.WithDataConverterSerializationContext(b.dc, sc)}
}

func TestCodec_FailureKeepsEverything(t *testing.T) {
	t.Parallel()
	c := codec{converters: sealedConverters(), where: targetOf(infoOf("order-7"))}
	original := temporal.NewApplicationErrorWithOptions("declined", "Declined", temporal.ApplicationErrorOptions{
		Cause: errors.New("no funds"), Details: []any{"detail"},
	})
	outcome, first := c.encodeFailure(t.Context(), original)
	require.False(t, bytes.Contains(outcome.Data, []byte("declined")), "encoded attributes stay encoded")
	_, replayed, err := c.replay(t.Context(), outcome)
	require.NoError(t, err)
	fc := c.failuresIn(c.where)
	require.True(t, proto.Equal(fc.ErrorToFailure(first), fc.ErrorToFailure(replayed)))
	app := (*temporal.ApplicationError)(nil)
	require.ErrorAs(t, replayed, &app)
	require.Equal(t, "declined", app.Message())
	require.True(t, app.NonRetryable())
	require.ErrorContains(t, app.Unwrap(), "no funds")
	require.ErrorAs(t, original, &app)
	require.False(t, app.NonRetryable(), "the body's error is left as it was")
}

func TestCodec_DigestIsOfThePlainInput(t *testing.T) {
	t.Parallel()
	type before struct{ A int }
	type after struct {
		A int
		B string
	}
	c := codec{converters: sealedConverters(), where: targetOf(infoOf("order-7"))}
	encode := func(args ...any) *commonpb.Payloads {
		p, err := c.dataIn(t.Context(), c.where).ToPayloads(args...)
		require.NoError(t, err)
		return p
	}
	digest := func(wire *commonpb.Payloads, args ...any) string {
		d, err := c.digest(t.Context(), wire, args)
		require.NoError(t, err)
		return d
	}
	one := digest(encode(before{1}), before{1})
	require.Equal(t, one, digest(encode(before{1}), before{1}), "another nonce, the same input")
	require.Equal(t, one, digest(encode(before{1}), after{1, ""}), "a build with one more field")
	require.Equal(t, one, digest(nil, before{1}), "without the wire")
	require.NotEqual(t, one, digest(encode(after{1, ""}), after{1, ""}), "the workflow itself sends one more field")
	require.NotEqual(t, digest(&commonpb.Payloads{}, nil), digest(encode(nil), nil), "no argument, and one that is nil")
	require.NotEqual(t, digest(encode(map[string]any{"id": uint64(1234567890123456789)})), digest(encode(map[string]any{"id": uint64(1234567890123456788)})))
	local := infoOf("order-7")
	local.IsLocalActivity = true
	given, err := codec{converters: sealedConverters(), where: targetOf(local)}.digest(t.Context(), nil, []any{encode("x")})
	require.NoError(t, err)
	require.Equal(t, digest(encode("x")), given, "local activities of the test suite hand over payloads")
	require.NotEqual(t, digest(encode("x")), digest(nil, encode("x")), "others may take them as their argument")
	require.Equal(t, given, digest(nil, undecoded{c.inputs(t.Context()), encode("x")}), "a dynamic activity without the wire")
	require.Equal(t, digest(&commonpb.Payloads{}), digest(nil, undecoded{c.inputs(t.Context()), nil}), "without arguments")
	many := make([]any, 30)
	require.Equal(t, digest(encode(many...)), digest(nil, undecoded{c.inputs(t.Context()), encode(many...)}))
}

// undecoded is the input of a dynamic activity, as the SDK hands it over.
type undecoded struct {
	dc     converter.DataConverter
	values *commonpb.Payloads
}

func (u undecoded) HasValues() bool       { return u.values != nil }
func (u undecoded) Get(ptrs ...any) error { return u.dc.FromPayloads(u.values, ptrs...) }

func TestCodec_SaysWhatItCannotRead(t *testing.T) {
	t.Parallel()
	c := codec{converters: newConverters(nil, nil), where: targetOf(infoOf("order-7"))}
	for name, o := range map[string]store.Outcome{
		"result":  {State: store.Succeeded, Data: []byte{0xff}},
		"failure": {State: store.Failed, Data: []byte{0xff}},
		"context": {State: store.Succeeded, Context: "{"},
	} {
		_, _, err := c.replay(t.Context(), o)
		require.Error(t, err, name)
	}
	_, _, err := c.replay(t.Context(), store.Outcome{State: store.Succeeded, Missing: "too large"})
	require.ErrorIs(t, err, engine.ErrNotKept)
}

func TestCapture_SeesTheInputOfItsOwnCall(t *testing.T) {
	t.Parallel()
	conv := newConverters(nil, nil)
	link := &clientLink{}
	link.client.Store(&clientInfo{converters: conv})
	ctx, err := link.Extract(context.Background(), nil)
	require.NoError(t, err)
	dc := converter.WithDataConverterSerializationContext(&watch{DataConverter: conv.data}, converter.ActivitySerializationContext{})
	dc = dc.(workflow.ContextAware).WithContext(ctx)

	input, err := dc.ToPayloads("input")
	require.NoError(t, err)
	other, err := dc.ToPayloads("heartbeat details")
	require.NoError(t, err)
	var got string
	require.NoError(t, dc.FromPayloads(input, &got))
	require.NoError(t, dc.FromPayloads(other, &got))
	seen := ctx.Value(captureKey{}).(*capture)
	require.Same(t, conv, seen.client.converters)
	require.True(t, proto.Equal(input, seen.input()), "only what is decoded first is the input")
}
