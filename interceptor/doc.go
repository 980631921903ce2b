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
// an error that says why it did neither. What it does in which case is written
// in one place, the function decide.
package interceptor
