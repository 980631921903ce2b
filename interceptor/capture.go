package interceptor

import (
	"context"
	"sync"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"
)

// A client's converters, and an activity's input as it came from Temporal, are
// not to be had from inside a worker interceptor. A context propagator and a
// wrapped data converter, both of the client, bring them there: the propagator
// puts a capture into each activity's context, and the converter leaves in it
// the input that it decodes. The input's bytes do not change when a newer build
// of the worker decodes them into a struct with one more field.

type captureKey struct{}

type capture struct {
	converters *converters
	meter      *meter

	mu   sync.Mutex
	seen bool
	wire *commonpb.Payloads
}

// see keeps the first payloads that are decoded in the call: its input.
func (c *capture) see(p *commonpb.Payloads) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen {
		return
	}
	c.seen, c.wire = true, p
	if p == nil {
		c.wire = &commonpb.Payloads{}
	}
}

func (c *capture) input() *commonpb.Payloads {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wire
}

// clientLink ties the calls of one client to its converters and metrics.
type clientLink struct {
	guard *Guard

	mu         sync.Mutex
	converters *converters
	meter      *meter
}

var _ workflow.ContextPropagator = (*clientLink)(nil)

// Inject implements the SDK's ContextPropagator.
func (l *clientLink) Inject(context.Context, workflow.HeaderWriter) error { return nil }

// InjectFromWorkflow implements the SDK's ContextPropagator.
func (l *clientLink) InjectFromWorkflow(workflow.Context, workflow.HeaderWriter) error { return nil }

// ExtractToWorkflow implements the SDK's ContextPropagator.
func (l *clientLink) ExtractToWorkflow(ctx workflow.Context, _ workflow.HeaderReader) (workflow.Context, error) {
	return ctx, nil
}

// Extract implements the SDK's ContextPropagator.
func (l *clientLink) Extract(ctx context.Context, _ workflow.HeaderReader) (context.Context, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return context.WithValue(ctx, captureKey{}, &capture{converters: l.converters, meter: l.meter}), nil
}

// watchedConverter is the client's data converter with an eye on what
// activities decode.
type watchedConverter struct{ converter.DataConverter }

var (
	_ converter.DataConverterWithSerializationContext = watchedConverter{}
	_ workflow.ContextAware                           = watchedConverter{}
)

// WithSerializationContext implements the SDK's interface.
func (w watchedConverter) WithSerializationContext(sc converter.SerializationContext) converter.DataConverter {
	return watchedConverter{converter.WithDataConverterSerializationContext(w.DataConverter, sc)}
}

// WithContext implements the SDK's ContextAware.
func (w watchedConverter) WithContext(ctx context.Context) converter.DataConverter {
	inner := w.DataConverter
	if aware, ok := inner.(workflow.ContextAware); ok {
		inner = aware.WithContext(ctx)
	}
	if c, ok := ctx.Value(captureKey{}).(*capture); ok {
		return capturingConverter{inner, c}
	}
	return inner
}

// WithWorkflowContext implements the SDK's ContextAware.
func (w watchedConverter) WithWorkflowContext(ctx workflow.Context) converter.DataConverter {
	if aware, ok := w.DataConverter.(workflow.ContextAware); ok {
		return aware.WithWorkflowContext(ctx)
	}
	return w.DataConverter
}

type capturingConverter struct {
	converter.DataConverter
	capture *capture
}

// FromPayloads implements the SDK's DataConverter.
func (c capturingConverter) FromPayloads(p *commonpb.Payloads, ptrs ...any) error {
	c.capture.see(p)
	return c.DataConverter.FromPayloads(p, ptrs...)
}
