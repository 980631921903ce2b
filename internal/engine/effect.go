package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/atmostonce/atmostonce/internal/effect"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// testimony is what the body of a call says of its effect, by way of a package that writes
// it down in a ledger, and what that ledger knows.
type testimony struct {
	call *call

	mu      sync.Mutex
	over    bool           // the body has ended
	wrote   bool           // the ledger may have something of this run
	outcome *store.Outcome // of the effect; nil: it was not said to have taken place
}

var (
	errEnded  = errors.New("the guarded call has ended: let it wait for its transactions")
	errSecond = errors.New("a guarded call has one effect: give each further one a step of its own, with atmostonce.Step")
	// errUncommitted is the error of a body that returns a result without its effect.
	errUncommitted = once.NotDone(errors.New("atmostonce: a result was returned, but the effect that it is of is not in the ledger: commit the transaction before you return"))
)

// begin notes that something is to be written.
func (t *testimony) begin() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return errEnded
	}
	t.wrote = true
	return nil
}

// commit notes that the effect took place.
func (t *testimony) commit(o store.Outcome) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.over:
		return errEnded
	case t.outcome != nil:
		return errSecond
	}
	t.outcome = &o
	return nil
}

// end notes that the body has ended, and returns the outcome if it has said one. wrote
// reports whether the ledger may have more.
func (t *testimony) end() (o *store.Outcome, wrote bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	return t.outcome, t.wrote
}

// ledger returns what knows whether the effect of the call took place; nil if nothing
// does.
func (t *testimony) ledger() effect.Ledger {
	if !t.call.enforced { // then nothing is written down
		return nil
	}
	return t.call.Policy.InDoubt.Ledger()
}

// effect is what the body's context has of the call.
func (t *testimony) effect() *effect.Call {
	e := &effect.Call{
		Key: t.call.Downstream, Generation: t.call.claim.generation, Owner: t.call.claim.bid.Owner, Match: t.call.Match, Ledger: t.call.claim.bid.Info.Ledger,
		Out: t.call.Out, Guarded: t.call.enforced, Encode: t.encode, Decode: t.decode,
	}
	e.Committed = func(o effect.Outcome) error { return t.commit(inLedger(o, e.Ledger)) }
	return e
}

func inLedger(o effect.Outcome, ledger string) store.Outcome {
	return store.Outcome{State: store.Succeeded, Data: o.Data, Context: o.Context, InLedger: ledger != ""}
}

func (t *testimony) encode(ctx context.Context, result any) (effect.Outcome, error) {
	o, _, err := t.call.Door.Encode(ctx, result)
	if err == nil && o.Missing != "" {
		err = errors.New("the result cannot be kept: " + o.Missing)
	}
	if err == nil {
		err = t.begin()
	}
	if err != nil {
		return effect.Outcome{}, err
	}
	if o.Data == nil {
		o.Data = []byte{}
	}
	return effect.Outcome{Data: o.Data, Context: o.Context}, nil
}

func (t *testimony) decode(ctx context.Context, o effect.Outcome, ptr any) error {
	failure, broken := t.call.Door.DecodeInto(ctx, inLedger(o, ""), ptr)
	return errors.Join(failure, broken)
}

// runOf is the run that r is about, as a ledger knows it.
func (t *testimony) runOf(r store.Record) effect.Run {
	return effect.Run{Key: t.call.Downstream, Generation: r.Generation, Owner: r.Owner, Match: r.Info.Match, At: r.Claimed}
}

// decideIn asks the ledger about a run.
func decideIn(ctx context.Context, l effect.Ledger, r effect.Run) (store.Outcome, error) {
	o, err := l.Decide(ctx, r)
	if errors.Is(err, effect.ErrNotDone) {
		err = once.ErrNotDone
	}
	return inLedger(o, l.ID()), err
}

// findOwn asks the ledger what came of a run that has ended just now. An attempt that is
// over is given a moment: whoever has its record is better off with the answer.
func (t *testimony) findOwn(ctx context.Context, l effect.Ledger) (o store.Outcome, err error) {
	wait := min(max(time.Until(t.call.Answer), minMargin), maxForeground)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wait)
	defer cancel()
	c := t.call
	run := effect.Run{
		Key: c.Downstream, Generation: c.claim.generation, Owner: c.claim.bid.Owner, Match: c.Match,
		At: c.account.report.Record.Claimed,
	}
	c.beating(ctx, func() { o, err = decideIn(ctx, l, run) })
	return o, err
}

// vouched answers with the outcome of an effect that took place, whatever the body has
// returned after it.
func (t *testimony) vouched(ctx context.Context, l *lease, o store.Outcome, after error) (any, error) {
	t.call.claim.settle(ctx, l, o)
	r := t.call.account.report.Record
	if after != nil {
		t.call.account.notice(ctx, observe.Overruled, r, after)
	}
	result, failure, broken := t.call.Door.Decode(ctx, o)
	if broken != nil {
		r.State, r.Outcome = o.State, o
		return t.call.account.ran(t.call.fail(ctx, Refusal{Reason: once.BadRecord, Record: r, Retryable: true, Delay: maxRetry, Cause: broken}))
	}
	return result, failure
}

// paniced is what is reported of a panic that came after the effect. Its value may show
// input.
func paniced(value any) error {
	if value == nil {
		return errors.New("the goroutine of the body ended")
	}
	return fmt.Errorf("panic with a value of type %T", value)
}

// confirm asks the ledger, before an outcome that it had is replayed, if it still does.
func (t *testimony) confirm(ctx context.Context, r store.Record) (d decision, why error) {
	l := t.ledger()
	if l == nil || !r.Outcome.InLedger || r.Info.Ledger != l.ID() {
		return decision{do: replay}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, min(storeTimeout, max(time.Until(t.call.Answer), minMargin)))
	defer cancel()
	s := t.call.situation(r)
	switch err := l.Confirm(ctx, t.runOf(r)); {
	case err == nil:
		return decision{do: replay}, nil
	case errors.Is(err, effect.ErrMissing):
		return s.refuseRetryably(once.BadRecord, s.holdRetry), err
	default:
		return s.refuseRetryably(once.StoreDown, storeRetry), fmt.Errorf("the ledger of the effect does not answer: %w", err)
	}
}

// replayConfirmed is replay, once the ledger has confirmed it.
func (t *testimony) replayConfirmed(ctx context.Context, r store.Record) (any, error) {
	if d, why := t.confirm(ctx, r); d.do != replay {
		return t.call.refused(ctx, &r, d, why, nil)
	}
	return t.call.replay(ctx, r)
}

// otherLedger says why the ledger l does not decide about a run.
func otherLedger(l effect.Ledger, of string) error {
	was := "no ledger"
	if of != "" {
		was = "the ledger " + of
	}
	return fmt.Errorf("the run that is in doubt goes by %s, and the policy by the ledger %s, which cannot decide about it", was, l.ID())
}

// byLedger answers for a body whose effect took place, as it has said or as the ledger
// knows, or whose ledger does not answer. Else err is what the body's end comes to.
func (t *testimony) byLedger(ctx context.Context, l *lease, err *error) (answered bool, result any, failure error) {
	o, wrote := t.end()
	ledger := t.ledger()
	switch {
	case !t.call.enforced:
		return false, nil, nil
	case o != nil:
		result, failure = t.vouched(ctx, l, *o, *err)
		return true, result, failure
	case ledger == nil || !wrote:
		return false, nil, nil
	}
	found, why := t.findOwn(ctx, ledger)
	switch {
	case why == nil:
		result, failure = t.vouched(ctx, l, found, *err)
	case errors.Is(why, once.ErrNotDone):
		t.call.evidence.undone = true
		if *err == nil || t.call.Door.IsPending(*err) {
			*err = errUncommitted
		}
		return false, nil, nil
	default:
		cause := t.call.Door.After(why, *err)
		now := t.call.claim.settle(ctx, l, t.call.Door.EncodeDoubt(ctx, cause))
		result, failure = t.call.doubtful(ctx, now, cause)
	}
	return true, result, failure
}
