package interceptor

import (
	"context"
	"sync"

	"go.temporal.io/sdk/converter"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"google.golang.org/protobuf/proto"
)

// heartbeat keeps an attempt alive without changing the progress that the
// activity reported: the server keeps the details of the last heartbeat only.
type heartbeat struct {
	sdkinterceptor.ActivityOutboundInterceptorBase

	mu      sync.Mutex
	details []any // of the body's last heartbeat in this attempt
	seen    bool

	attempt  context.Context // nil: it has not begun
	stopping <-chan struct{} // closed when the worker begins to stop
	stopOnce sync.Once
	stop     chan struct{}
}

// RecordHeartbeat implements the SDK's ActivityOutboundInterceptor: it sees what
// the body records.
func (h *heartbeat) RecordHeartbeat(ctx context.Context, details ...any) {
	h.mu.Lock()
	h.details, h.seen = details, true
	h.mu.Unlock()
	h.Next.RecordHeartbeat(ctx, details...)
}

// GetWorkerStopChannel implements the SDK's ActivityOutboundInterceptor: the
// SDK's own channel is closed only after the guard has waited for its bodies.
func (h *heartbeat) GetWorkerStopChannel(ctx context.Context) <-chan struct{} {
	h.stopOnce.Do(func() {
		h.stop = make(chan struct{})
		var over <-chan struct{}
		if h.attempt != nil {
			over = h.attempt.Done()
		}
		go func() {
			select {
			case <-h.stopping:
			case <-h.Next.GetWorkerStopChannel(ctx):
			case <-over:
				return // nobody listens any more
			}
			close(h.stop)
		}()
	})
	return h.stop
}

// again repeats the last progress: of this attempt, or if it reported none, of
// the one before.
func (h *heartbeat) again(ctx context.Context) {
	// The SDK panics on details that it cannot encode.
	defer func() { _ = recover() }()
	h.mu.Lock()
	details, seen := h.details, h.seen
	h.mu.Unlock()
	if !seen {
		var err error
		if details, err = h.previous(ctx); err != nil {
			return // a heartbeat without them would erase them
		}
	}
	h.Next.RecordHeartbeat(ctx, details...)
}

// previous returns the progress of the attempt before, as it is encoded.
func (h *heartbeat) previous(ctx context.Context) (details []any, err error) {
	if !h.Next.HasHeartbeatDetails(ctx) {
		return nil, nil
	}
	get := func(ptrs ...any) error { return h.Next.GetHeartbeatDetails(ctx, ptrs...) }
	if c := captureOf(ctx); c != nil && c.isBound() {
		var as carrier
		err := get(&as)
		return []any{&as}, err
	}
	payloads, err := rawsOf(get)
	if err != nil {
		return nil, err
	}
	for _, p := range payloads {
		details = append(details, converter.NewRawValue(proto.CloneOf(p)))
	}
	return details, nil
}
