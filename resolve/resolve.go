// Package resolve has what an operator says about a record: what became of the
// effect ([Finding]), and who says so, and why ([Decision]). A guard writes it down:
// Guard.Resolve and Guard.Forget.
package resolve

import (
	"errors"

	"github.com/atmostonce/atmostonce/store"
)

// Finding is what somebody has found out about an effect. Make it with AsDone,
// AsFailed or AsNotDone.
type Finding struct {
	To     store.State // what the record becomes: Succeeded, Failed or Tombstone
	Result any         // of AsDone
	Err    error       // of AsFailed
}

// AsDone says that the effect took place. result is what the call would have
// returned, of the same type; duplicates get it replayed. It is nil for one that
// returns an error only.
func AsDone(result any) Finding { return Finding{To: store.Succeeded, Result: result} }

// JSON is a result of AsDone that is given as text, by somebody who has no value of its
// type. A guard that knows the function decodes the text into its result type, and
// refuses with ErrResultType what does not fit, fields that the type does not have
// included; any other records the text as it is.
type JSON []byte

// AsFailed says that the effect did not take place, and is not to be tried again: err
// is replayed, and not retried.
func AsFailed(err error) Finding { return Finding{To: store.Failed, Err: err} }

// AsNotDone says that the effect did not take place, or has been undone: the next call
// of the key runs. It covers what the last owner may yet do, too: find out after
// that, or make sure that the owner is gone.
func AsNotDone() Finding { return Finding{To: store.Tombstone} }

// Validate returns what is wrong with f, if anything is.
func (f Finding) Validate() error {
	switch f.To {
	case store.Succeeded, store.Tombstone:
		return nil
	case store.Failed:
		if f.Err == nil {
			return errors.New("AsFailed needs an error")
		}
		return nil
	}
	return errors.New("an empty Finding: use AsDone, AsFailed or AsNotDone")
}

// Decision says who decides about a record, and why. Both are required, and kept in
// the record's history.
type Decision struct {
	By, Why string
	// Force decides about a key that is running, too, and lets another call run
	// although the last owner may still act. That owner may go on, and have its
	// effect.
	Force bool
}

// Validate returns what is missing in d.
func (d Decision) Validate() error {
	switch {
	case d.By == "":
		return errors.New("say who decides, in Decision.By: it is kept in the record")
	case d.Why == "":
		return errors.New("say why, in Decision.Why: it is kept in the record")
	}
	return nil
}

// Why a guard does not decide, or does not find a record.
var (
	// ErrTooEarly is why Guard.Resolve does not take AsNotDone, and Guard.Forget does
	// not erase: the last owner may still have its effect. The message says until when.
	ErrTooEarly = errors.New("too early")
	// ErrResultType is why Guard.Resolve does not take AsDone: its result is of another
	// type than the activity's, and could not be replayed as it. The message names both.
	ErrResultType = errors.New("the result is of the wrong type")
	// ErrDigest: what Guard.Find was given is no digest of a key.
	ErrDigest = errors.New("not the digest of a key")
	// ErrNotFound: no record of the store has the digest.
	ErrNotFound = errors.New("no record has the digest")
	// ErrAmbiguous: the digest begins those of several keys.
	ErrAmbiguous = errors.New("several records have the digest")
)
