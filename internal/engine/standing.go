package engine

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// This file has the answers to an operator whose decision is refused: how things
// stand, and what there is to do.

var (
	errNoRecord = errors.New("there is no record: the next call runs")
	errErased   = errors.New("it is erased already: the next call runs")
	errFree     = errors.New("it is free already: the next call runs")
	errRuns     = errors.New("it is free: the next call runs, and what that writes can be corrected")
	errRunning  = errors.New("it is running, and may have its effect yet: wait until it has ended, or decide in spite of that with Decision.Force")
)

// undecidable says why there is nothing to decide about r.
func undecidable(r store.Record, f resolve.Finding, d resolve.Decision) error {
	switch {
	case r.State == store.Absent:
		return errNoRecord
	case r.State == store.Tombstone && f.To == store.Tombstone:
		return errFree
	case r.State == store.Tombstone:
		return errRuns
	case r.State == store.Running && !d.Force:
		return errRunning
	}
	return nil
}

// unforgettable says why r is not erased.
func unforgettable(r store.Record, d resolve.Decision) error {
	switch {
	case r.State == store.Absent:
		return errNoRecord
	case isErased(r):
		return errErased
	case r.State == store.Running && !d.Force:
		return errRunning
	case (r.State == store.InDoubt || r.State == store.Pending) && !d.Force:
		return fmt.Errorf("it is %s, and its record is the only evidence: find out what happened, write it down with Guard.Resolve, then forget; or erase in spite of that with Decision.Force", name(r.State))
	}
	return nil
}

func isErased(r store.Record) bool {
	last := len(r.History) - 1
	return r.State == store.Tombstone && last >= 0 && r.History[last].What == store.TurnErased && r.By != ""
}

// unchanged says so if the record has that outcome already.
func unchanged(r store.Record, to store.State, o store.Outcome) error {
	if r.State != to || !bytes.Equal(r.Outcome.Data, o.Data) || r.Outcome.Missing != o.Missing {
		return nil
	}
	with := "AsDone with another result"
	if to == store.Failed {
		with = "AsFailed with another error"
	}
	return fmt.Errorf("it is settled as %s already, %s: %s corrects it", to, Author(r), with)
}

// moved is store.ErrMoved, with what the record is now.
func moved(now store.Record) error {
	return fmt.Errorf("%w: read it again: %s", store.ErrMoved, standing(now))
}

// standing says what a record is, and what can be done about it.
func standing(r store.Record) string {
	switch r.State {
	case store.Absent:
		return errNoRecord.Error()
	case store.Tombstone:
		if isErased(r) {
			return errErased.Error()
		}
		return errFree.Error()
	case store.Running:
		return errRunning.Error()
	case store.InDoubt, store.Pending:
		return fmt.Sprintf("it is %s: AsDone, AsFailed or AsNotDone decides", name(r.State))
	default:
		return fmt.Sprintf("it is settled as %s, %s: AsDone or AsFailed corrects it, AsNotDone lets the next call run", r.State, Author(r))
	}
}

// Author says who wrote the state of a settled record.
func Author(r store.Record) string {
	switch r.By {
	case "":
		return "by its owner"
	case store.BySuperseded:
		return "by an owner that had been superseded"
	case store.ByReconcile:
		return "by the Reconcile function"
	}
	for i := len(r.History) - 1; i >= 0; i-- {
		if e := r.History[i]; e.What == store.TurnResolved {
			if e.Who != "" {
				return fmt.Sprintf("by the operator %s", e.Who)
			}
			break // Store.Resolve may be given no name
		}
	}
	return "by an operator"
}

// name is a state as people read it.
func name(s store.State) string {
	if s == store.InDoubt {
		return "in doubt"
	}
	return string(s)
}
