// Package telemetry shows what a guard does as OpenTelemetry spans, as metrics
// and in the worker's log.
//
//	guard, err := interceptor.New(s, interceptor.Options{
//		Activities: marks,
//		Observers:  []interceptor.Observer{telemetry.NewOTel(telemetry.Options{})},
//	})
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
// that was not sampled. The parent is the span in the context, or else the one
// in the header that Temporal's tracing interceptors propagate. An attempt whose
// key function skipped the guard has no span.
//
// The status is Error where the attempt ended in an error that is not benign;
// an in-flight refusal is. Attributes, where known: atmostonce.key.digest,
// atmostonce.outcome, atmostonce.policy, atmostonce.wait.result, error.type,
// temporalWorkflowID, temporalRunID, temporalActivityID and
// temporalActivityAttempt. There are no span events.
//
// # Metrics
//
// They go through Temporal's own metrics handler, or to instruments of
// [Options].MeterProvider. Temporal's handler has underscores for dots.
//
//	name                      kind, unit      attributes besides namespace, task_queue and activity_type
//	atmostonce.calls          counter {call}  atmostonce.outcome, error.type
//	atmostonce.notices        counter {notice}  atmostonce.notice
//	atmostonce.wait.duration  histogram s     atmostonce.wait.result
//
// atmostonce.calls counts each guarded attempt once. Its outcome is executed,
// duplicate, failed or skipped. Its error.type is the guard's reason, such as
// in_doubt or store_down; an executed attempt has one too where its effect went
// in doubt. Without a reason there is no error.type, or "none" with Temporal's
// handler, whose back ends need every label every time. A notice is named as in
// package interceptor. The result of a wait is completed, failed, released,
// owner_lost, timeout, cancelled, or the guard's reason.
//
// # Log
//
// What somebody should look into is a warning in the activity's logger: effects
// in doubt, and the notices conflict, lease_lost, observed, other_run, same_run,
// settle_failed, store_forgot, store_lost, store_replaced, store_unsafe, and once
// per activity type no_header and one_attempt.
//
// No span, metric or log line carries a key, an input or a result; keys are
// shown by a short digest. Log lines quote the store's errors.
package telemetry
