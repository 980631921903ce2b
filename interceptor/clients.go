package interceptor

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"

	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/observe"
)

// clientInfo is what the guard knows of a client of Temporal.
type clientInfo struct {
	*converters
	*meter
	namespace  string
	surrounded bool // other interceptors of it are around the guard
}

// clients are those that a guard serves.
type clients struct {
	own *converters // of Options.DataConverter; nil: there is none

	mu      sync.Mutex
	last    *clientInfo // nil: there was none
	logger  log.Logger  // the last one's; nil: it has none
	meters  []*meter    // of all, each once
	several struct {    // others have
		converters bool // other converters
		metrics    bool // another namespace or metrics handler
	}
}

// learn gets each client.
func (s *clients) learn(c *clientInfo, logger log.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil {
		s.several.converters = s.several.converters || !s.last.same(c.converters)
		s.several.metrics = s.several.metrics || s.last.namespace != c.namespace || !equal(s.last.handler, c.handler)
	}
	if !slices.ContainsFunc(s.meters, func(other *meter) bool { return equal(other.handler, c.handler) }) {
		s.meters = append(s.meters, c.meter)
	}
	s.last, s.logger = c, logger
}

var (
	// errNoConverter: outcomes must be stored as the client's converter encodes
	// them, for it may be the one that encrypts.
	errNoConverter    = errors.New("the guard does not know the client's data converter: list it in client.Options.Plugins, or set interceptor.Options.DataConverter")
	errManyConverters = errors.New("the guard serves several clients: set interceptor.Options.DataConverter to say whose converter encodes what no worker has run")
)

// outside returns the converters for what is not called by a client.
func (s *clients) outside() (*converters, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.last != nil && !s.several.converters:
		return s.last.converters, nil
	case s.own != nil:
		return s.own, nil
	case s.last == nil:
		return nil, errNoConverter
	}
	return nil, errManyConverters
}

// any reports whether there was a client.
func (s *clients) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last != nil
}

// only returns the client whose metrics are those of all; nil if there is none.
func (s *clients) only() *clientInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.several.metrics {
		return nil
	}
	return s.last
}

// clientLogger returns the last client's logger; nil if it has none.
func (s *clients) clientLogger() log.Logger {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logger
}

// Destination implements engine.Sink: it is the meter of the client that ctx came
// through, or else of the only client.
func (s *clients) Destination(ctx context.Context) any {
	if c := captureOf(ctx); c != nil && c.client != nil {
		return c.client.meter
	}
	if sdkactivity.IsActivity(ctx) {
		return nil
	}
	if c := s.only(); c != nil {
		return c.meter
	}
	return nil
}

// All implements engine.Sink.
func (s *clients) All() (all []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.meters {
		all = append(all, m)
	}
	return all
}

// Measure implements engine.Sink.
func (s *clients) Measure(ctx context.Context, to any, x observe.Measurement) {
	if m, ok := to.(*meter); ok {
		m.record(x)
		return
	}
	if !sdkactivity.IsActivity(ctx) {
		return
	}
	if h := sdkactivity.GetMetricsHandler(ctx); h != client.MetricsNopHandler {
		put(open(h, x), x)
	}
}

// Logger implements engine.Sink.
func (s *clients) Logger(ctx context.Context) engine.Logger {
	if !sdkactivity.IsActivity(ctx) {
		return nil
	}
	return sdkactivity.GetLogger(ctx)
}

// Log implements engine.Sink.
func (s *clients) Log() engine.Logger {
	if logger := s.clientLogger(); logger != nil {
		return logger
	}
	return slog.Default()
}

// learnFrom learns the metrics handler from a call, where the guard is no plugin of
// the client.
func (s *clients) learnFrom(ctx context.Context) {
	if !sdkactivity.IsActivity(ctx) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.meters) == 0 {
		s.meters = append(s.meters, newMeter(sdkactivity.GetMetricsHandler(ctx)))
	}
}
