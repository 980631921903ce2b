// Package telemetry shows what a guard does as OpenTelemetry spans, and if you
// like as OpenTelemetry metrics and log events.
//
//	guard, err := interceptor.New(s, interceptor.Options{
//		Activities: marks,
//		Observers:  []observe.Observer{telemetry.NewOTel(telemetry.Options{})},
//	})
//
// Without it a guard counts in the metrics handler of Temporal's client, and
// warns in the activity's log; see [observe.Metrics] and
// [observe.Notices]. The page docs/telemetry.md lists all names, and says what
// to watch; folder dashboard has a dashboard and alerts.
//
// # Spans
//
// A guarded attempt is one span of kind internal. It is started as
// "atmostonce.claim {activity type}", which is what samplers see, and named at
// its end after what became of the attempt:
//
//	atmostonce.execute {type}    the body ran; its spans are children of this one
//	atmostonce.duplicate {type}  a recorded outcome was replayed
//	atmostonce.fail {type}       the guard refused
//	atmostonce.wait {type}       a child of one of these: the slot was kept until another call had ended
//
// Each links to the execute span of the run that the record is about, unless
// that was not sampled; then the link's attributes are on the span itself. The
// parent is the span in the context, or else the one in the header that
// Temporal's tracing interceptors propagate. An attempt that the key function or
// the Mode skipped has no span.
//
// The status is Error where the attempt ended in an error that is not benign;
// an in-flight refusal is. There are no span events.
//
// # Metrics and log events
//
// With [Options].MeterProvider the guard's metrics go to native instruments, and
// not to Temporal's handler. With [Options].LoggerProvider what somebody should
// look into is a log event as well.
//
// No span, metric or log event carries a key, an input, a result or an error's
// text; keys are shown by a short digest. The warnings in the activity's log quote
// the store's errors.
package telemetry
