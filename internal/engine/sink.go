package engine

import (
	"context"

	"github.com/atmostonce/atmostonce/observe"
)

// Sink takes measurements and log lines where no observer does.
type Sink interface {
	// Destination is where measurements of the call of ctx go: something comparable, nil
	// if ctx itself says so.
	Destination(ctx context.Context) any
	// All are the destinations of what is about no call.
	All() []any
	Measure(ctx context.Context, to any, m observe.Measurement)
	// Logger is that of the call that ctx belongs to; nil if it belongs to none.
	Logger(ctx context.Context) Logger
	// Log is for what is about no call.
	Log() Logger
}

// Logger is a structured logger: that of Temporal, or of log/slog.
type Logger interface {
	Info(msg string, fields ...any)
	Warn(msg string, fields ...any)
}
