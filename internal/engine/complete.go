package engine

import (
	"context"
	"fmt"

	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// Ending is what became of a pending call, as somebody reports it from outside.
type Ending struct {
	Identity Identity
	Policy   once.Policy // complete
	Door     Door

	Bid    store.Bid    // under which it ran
	Origin store.Origin // of its claim
	Begun  bool         // the body had called once.Begin

	Result  any
	Failure error // nil: it succeeded
}

// End records what became of a pending call; it tries until ctx
// ends. answer is the error that the caller gets. A nil err says that the outcome
// is recorded.
func (e *Engine) End(ctx context.Context, end Ending) (answer, err error) {
	answer = once.Plain(end.Failure)
	evidence := evidence{says: end.Door.LeavesOpen}
	evidence.begun.Store(end.Begun)
	var outcome store.Outcome
	settle := e.store.Settle
	switch {
	case end.Failure == nil:
		if outcome, _, err = end.Door.Encode(ctx, end.Result); err != nil {
			return answer, fmt.Errorf("atmostonce: the result cannot be encoded: %w", err)
		}
	default:
		switch evidence.verdict(end.Policy.OnFailure, end.Failure, end.Origin, false) {
		case once.Lock:
			outcome, answer = end.Door.EncodeFailure(ctx, answer)
		case once.Unlock:
			settle = func(ctx context.Context, b store.Bid, _ store.Outcome) (store.Record, error) {
				return e.store.Release(ctx, b)
			}
		default:
			outcome = end.Door.EncodeDoubt(ctx, answer)
		}
	}
	r, err := persist(ctx, context.Background(), func(ctx context.Context) (store.Record, error) { return settle(ctx, end.Bid, outcome) })
	e.reporter.open(end.Identity, end.Policy).wrote(ctx, r, err)
	if err != nil {
		return answer, fmt.Errorf("atmostonce: %s [key %s]: the outcome is not recorded: %w", end.Identity.Activity, end.Identity.Digest, err)
	}
	refuse := func(r Refusal) error {
		return e.refuse(ctx, end.Door, &end.Identity, end.Policy.InDoubt, false, r)
	}
	switch {
	case end.Failure == nil, r.State == store.Tombstone, r.State == store.Failed:
		return answer, nil
	case r.State == store.InDoubt:
		s := situation{policy: end.Policy, record: r, settleDelay: e.options.SettleDelay, holdRetry: e.options.HoldRetry, scheduleLeft: -1, unsure: true}
		return refuse(s.doubtful(end.Door, nil, answer)), nil
	}
	// An earlier run's end, which the next attempt replays.
	return refuse(Refusal{Reason: once.InFlight, Record: r, Retryable: true, Delay: minRetry, Cause: answer, Benign: true}), nil
}
