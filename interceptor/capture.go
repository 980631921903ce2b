package interceptor

import (
	"context"
	"reflect"
	"sync"
	"sync/atomic"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"
)

// A worker interceptor sees neither the client's converters nor an activity's input
// as it came from Temporal. A context propagator and a wrapped data converter, both
// of the client, bring them in: the propagator puts a capture into each
// activity's context, and the converter leaves in it the input that it decodes. The
// input's bytes do not change when a newer build of the worker decodes them into a
// struct with one more field.

type captureKey struct{}

// capture is what one activity task leaves of its client and its input. It is a context,
// too, which has it as a value.
type capture struct {
	context.Context
	client *clientInfo // nil: the client is not made yet

	mu    sync.Mutex
	views [4]watch // for the task; made of them are taken
	made  int
	bound bool // the worker's data converter is the watch
	seen  bool
	wire  *commonpb.Payloads

	replayed any // the answer that is a replayed outcome, decoded
	recorded *commonpb.Payloads
}

// Value implements context.Context.
func (c *capture) Value(key any) any {
	if key == (captureKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// view returns a watch of dc for the task. The SDK makes several, and each would be
// allocated.
func (c *capture) view(dc converter.DataConverter) *watch {
	if c == nil {
		return &watch{dc, nil}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made == len(c.views) {
		return &watch{dc, c}
	}
	w := &c.views[c.made]
	c.made++
	w.DataConverter, w.capture = dc, c
	return w
}

// captureOf returns the capture of the activity that ctx belongs to, or nil.
func captureOf(ctx context.Context) *capture {
	c, _ := ctx.Value(captureKey{}).(*capture)
	return c
}

// bind notes that the worker decodes and encodes by the watch.
func (c *capture) bind() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bound = true
}

func (c *capture) isBound() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bound
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

// replays notes that the call is answered by value, which recorded was decoded to.
func (c *capture) replays(value any, recorded *commonpb.Payloads) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replayed, c.recorded = value, recorded
}

// asRecorded returns the payloads of a replayed outcome, if value is still what
// they were decoded to: another build of the activity may have recorded more than
// this one decodes.
func (c *capture) asRecorded(value any) *commonpb.Payloads {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.recorded == nil || !reflect.DeepEqual(value, c.replayed) {
		return nil
	}
	return c.recorded
}

// clientLink ties the calls of one client to what is known of it.
type clientLink struct {
	of     *clients // those that the client is one of
	client atomic.Pointer[clientInfo]
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
	return &capture{Context: ctx, client: l.client.Load()}, nil
}

// watch is the client's data converter with an eye on what activities decode. It
// has every optional interface of the SDK, whether or not the client's has it. It
// is a pointer since the SDK compares data converters.
type watch struct {
	converter.DataConverter
	capture *capture // of one activity task; nil outside of one
}

var (
	_ converter.DataConverterWithSerializationContext = (*watch)(nil)
	_ workflow.ContextAware                           = (*watch)(nil)
)

// WithSerializationContext implements the SDK's interface.
func (w *watch) WithSerializationContext(sc converter.SerializationContext) converter.DataConverter {
	bound, ok := w.DataConverter.(converter.DataConverterWithSerializationContext)
	if !ok {
		return w
	}
	return w.capture.view(bound.WithSerializationContext(sc))
}

// WithContext implements the SDK's ContextAware.
func (w *watch) WithContext(ctx context.Context) converter.DataConverter {
	inner := w.DataConverter
	aware, ok := inner.(workflow.ContextAware)
	if ok {
		inner = aware.WithContext(ctx)
	}
	c := captureOf(ctx)
	if c != nil {
		c.bind()
	}
	if !ok && c == w.capture {
		return w
	}
	return c.view(inner)
}

// WithWorkflowContext implements the SDK's ContextAware.
func (w *watch) WithWorkflowContext(ctx workflow.Context) converter.DataConverter {
	if aware, ok := w.DataConverter.(workflow.ContextAware); ok {
		return &watch{aware.WithWorkflowContext(ctx), w.capture}
	}
	return w
}

// Codec implements the PayloadCodecProvider of SDK 1.51: headers are encoded by
// it. Nil says that there is none.
func (w *watch) Codec() converter.PayloadCodec {
	if provider, ok := w.DataConverter.(interface{ Codec() converter.PayloadCodec }); ok {
		return provider.Codec()
	}
	return nil
}

// carrier takes encoded payloads through the SDK and the watch as they are:
// decoded into a carrier they are put into it, and a carrier is encoded to them.
// What is encoded is always a copy: the SDK changes payloads in place before it
// sends them, and from its own goroutine where it batches heartbeats.
type carrier struct{ payloads *commonpb.Payloads }

// ToPayloads implements the SDK's DataConverter.
func (w *watch) ToPayloads(values ...any) (*commonpb.Payloads, error) {
	if len(values) == 1 {
		if c, ok := values[0].(*carrier); ok {
			return proto.CloneOf(c.payloads), nil
		}
		if w.capture != nil {
			if recorded := w.capture.asRecorded(values[0]); recorded != nil {
				return proto.CloneOf(recorded), nil
			}
		}
	}
	return w.DataConverter.ToPayloads(values...)
}

// FromPayloads implements the SDK's DataConverter.
func (w *watch) FromPayloads(p *commonpb.Payloads, ptrs ...any) error {
	if w.capture != nil {
		w.capture.see(p)
	}
	if len(ptrs) == 1 {
		if c, ok := ptrs[0].(*carrier); ok {
			c.payloads = p
			return nil
		}
	}
	return w.DataConverter.FromPayloads(p, ptrs...)
}
