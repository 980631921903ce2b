package observe

import "context"

// Observer gets what the guard does. It cannot change an answer: a panic in it is
// swallowed. If it does not return within a second, or a tenth of the time that is
// left to the call, the guard goes on without it until it has returned.
type Observer interface {
	// Begin is called when something starts, with the context of the call. The
	// body's context takes the values of the context that it returns, and nothing
	// else. The returned function is called once at the end, with what is known
	// then, unless the guard went on without Begin.
	//
	// Every guarded call begins with Kind Claim and ends with another. Wait and
	// Notice begin and end within it, or in the background after it.
	Begin(ctx context.Context, e Event) (context.Context, func(Event))
}

// Traceparenter is implemented by observers that trace. The W3C traceparent that it
// gives for the context of a call is kept in the record, for later calls to link to.
type Traceparenter interface {
	Traceparent(ctx context.Context) string
}

// Selector is implemented by observers that have no use for some events: the guard does not
// go to them with these.
type Selector interface {
	// Selects reports whether the observer is told of what begins as that kind: Claim,
	// which is each call, Wait or Notice. It is asked once, when the guard is made.
	Selects(k Kind) bool
}

// Recorder is implemented by observers that take the guard's metrics. Without one
// they go to the metrics handler of Temporal's client; they never go to both.
type Recorder interface {
	// Recorder returns what is called with each measurement, from any number of
	// goroutines; nil leaves the metrics to Temporal's handler. It is called in the
	// middle of a call, as Temporal's handler is: it must not block, as the
	// instruments of OpenTelemetry do not. A panic in it is swallowed.
	Recorder() func(context.Context, Measurement)
}
