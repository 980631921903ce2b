package once

import "fmt"

// Mode says how much the guard does about an activity. The key of a call, and so
// what once.Key returns, is the same in each.
type Mode uint8

// The modes of an activity.
const (
	// Enforce guards.
	Enforce Mode = iota
	// Observe runs every call and changes no result and no error. It records what
	// it can, and reports, as the notice Observed, each call that Enforce would have
	// answered without a run.
	Observe
	// Off runs every call, and asks and records nothing. A worker then starts even
	// if the store is down.
	Off
)

// String returns the mode's name in Go.
func (m Mode) String() string {
	names := [...]string{"Enforce", "Observe", "Off"}
	if int(m) >= len(names) {
		return fmt.Sprintf("Mode(%d)", m)
	}
	return names[m]
}
