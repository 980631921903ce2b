package cli

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/api/workflow/v1"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/store"
)

// waiting says whether the call that has a record, or had it last, still waits.
type waiting struct {
	Waits       bool      `json:"waits"`
	Attempt     int32     `json:"attempt,omitempty"`
	MaxAttempts int32     `json:"maximum_attempts,omitempty"` // 0: no limit
	Next        time.Time `json:"next,omitzero"`              // when it is tried again; zero: it is underway
	Paused      bool      `json:"paused,omitempty"`
}

func newWaiting(a *workflow.PendingActivityInfo) *waiting {
	if a == nil {
		return &waiting{}
	}
	w := &waiting{Waits: true, Attempt: a.GetAttempt(), MaxAttempts: a.GetMaximumAttempts(), Paused: a.GetPaused()}
	if at := a.GetNextAttemptScheduleTime(); at != nil {
		w.Next = at.AsTime()
	}
	return w
}

// String is w in a few words; "not asked" of nil.
func (w *waiting) String() string {
	switch {
	case w == nil:
		return "not asked"
	case !w.Waits:
		return "nobody"
	case w.Paused:
		return fmt.Sprintf("attempt %d, paused", w.Attempt)
	case w.Next.IsZero():
		return fmt.Sprintf("attempt %d, underway", w.Attempt)
	}
	return fmt.Sprintf("attempt %d, next in %s", w.Attempt, ops.Age(time.Until(w.Next)+time.Second-1))
}

// waitingFor asks Temporal who waits for r. What Temporal does not say is noted once.
func (t *tool) waitingFor(ctx context.Context, r store.Record) *waiting {
	if !r.State.IsOpen() {
		return nil
	}
	failed := t.temporals != nil && t.temporals.err != nil
	a, known, err := t.pendingOf(ctx, r, false)
	if err != nil && !failed {
		t.note("%s", ops.Text(err.Error(), ops.Long))
	}
	if !known {
		return nil
	}
	return newWaiting(a)
}

// row is a record as lists have it.
type row struct {
	ops.View
	Waiting *waiting `json:"waiting,omitempty"`
	Result  *result  `json:"result,omitempty"`
}
