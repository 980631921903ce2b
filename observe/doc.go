// Package observe has what a guard reports: events of its calls, notices, and metrics.
//
// An [Observer] in the guard's options gets each [Event]: package telemetry has one
// that makes spans. An observer that is a [Recorder] takes the [Metrics]; without one
// they go to the metrics handler of Temporal's client. What somebody should look into
// is logged with its [Remedy], with or without an observer.
package observe
