// Package interceptor guards marked Temporal activities: each takes effect at
// most once per key, for as long as its record is remembered and the store
// keeps what it acknowledged.
//
// A [Guard] is installed as a plugin of the client; it then reaches every worker
// of that client:
//
//	guard, err := interceptor.New(s, interceptor.Options{Activities: marks})
//	c, err := client.Dial(client.Options{Plugins: []client.Plugin{guard}})
//
// For each call of a marked activity the guard makes the key, asks the store for
// it, and then runs the activity, replays the recorded outcome, or answers with
// an error that says why it did neither.
//
// What it does is counted in the metrics of Temporal's client ([observe.Metrics]), and
// what somebody should look into is a warning in the activity's log
// ([observe.Remedy]). An [observe.Observer] gets all of it; package telemetry has one
// that makes spans.
//
// Beside the calls: [Guard.Complete] reports the end of an activity that completes
// asynchronously, [Guard.Resolve] writes down what an operator has found out,
// [Workflows] serves workers that only run workflows, and [Options] has what a
// running system needs to take up the guard: Mode, DistrustBefore, Strict.
package interceptor
