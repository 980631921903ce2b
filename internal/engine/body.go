package engine

import (
	"context"
	"time"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// execute runs the body under the claim that r grants, and records what came of
// it.
func (c *call) execute(ctx context.Context, r store.Record, body Body) (result any, err error) {
	report := &c.account.report
	c.claim.grant(r)
	if ctx.Err() != nil {
		c.claim.release(ctx, nil)
		report.Record = store.Record{} // nobody has the key
		return c.ended(ctx)
	}
	c.claim.begin()
	report.Kind, report.Takeover, report.Record = observe.KindExecute, r.Origin == store.Taken, shown(r)
	bid := c.claim.bid
	bctx, l := c.claim.hold(once.NewContext(c.evidence.watch(ctx), once.Claim{
		Key: c.Downstream, Fence: r.Fence, Takeover: r.Origin == store.Taken,
		Token: func() string { return c.Door.Token(bid, r.Origin, c.evidence.begun.Load()) },
		Begin: func() { c.evidence.begun.Store(true) },
	}))
	returned := false
	defer func() {
		if !returned { // a panic or Goexit, of a converter's or classifier's too, passes through
			report.Reason, report.Settling = once.InDoubt, c.situation(r).isPassing()
			c.claim.settle(ctx, l, c.Door.EncodeDoubt(ctx, c.Door.Panicked()))
		}
	}()
	result, err = l.run(bctx, body)
	result, err = c.conclude(ctx, r, l, result, err)
	returned = true
	return result, err
}

// conclude records the outcome of a body that returned, and makes the answer.
func (c *call) conclude(ctx context.Context, r store.Record, l *lease, result any, err error) (any, error) {
	switch {
	case err == nil:
		o, answer, broken := c.Door.Encode(ctx, result)
		c.claim.settle(ctx, l, o)
		if broken != nil {
			r.Outcome = o
			return c.ran(c.fail(ctx, Refusal{Reason: once.OutcomeNotKept, Record: r, Cause: broken}))
		}
		return answer, nil
	case c.Door.IsPending(err):
		c.claim.settle(ctx, l, store.Outcome{State: store.Pending})
		return nil, err
	}
	verdict := c.verdict(err, r.Origin, l.body.Err() != nil)
	err = once.Plain(err)
	var now store.Record
	switch verdict {
	case once.Unlock:
		now = c.claim.release(ctx, l)
		if r.Origin != store.Taken {
			break
		}
		// An earlier run is still in doubt, whatever this one did.
		return c.doubtful(ctx, now, err)
	case once.Lock:
		var o store.Outcome
		o, err = c.Door.EncodeFailure(ctx, err)
		now = c.claim.settle(ctx, l, o)
	default:
		now = c.claim.settle(ctx, l, c.Door.EncodeDoubt(ctx, err))
		return c.doubtful(ctx, now, err)
	}
	switch now.State {
	case store.Succeeded: // an earlier run's, as it turned out
		return c.ran(c.replay(ctx, now))
	case store.InDoubt:
		return c.doubtful(ctx, now, err)
	case store.Running, store.Pending: // a successor's: its end decides
		return c.ran(c.fail(ctx, Refusal{Reason: once.InFlight, Record: now, Retryable: true, Delay: minRetry, Cause: err}))
	}
	c.account.report.Err = err
	return nil, err
}

// verdict is what err says about the effect of a claim of that origin; over says that
// err came after the attempt was over.
func (c *call) verdict(err error, origin store.Origin, over bool) once.FailurePolicy {
	return c.evidence.verdict(c.Policy.OnFailure, err, origin, over)
}

// doubtful answers for a body after which the effect is in doubt.
func (c *call) doubtful(ctx context.Context, now store.Record, cause error) (any, error) {
	if now.State == store.Succeeded {
		return c.ran(c.replay(ctx, now))
	}
	if now.State == store.Absent { // not written yet
		now = store.Record{State: store.InDoubt, Info: c.claim.bid.Info, Claimed: time.Now(), Doubted: time.Now()}
	}
	return c.ran(c.fail(ctx, c.situation(now).doubtful(&c.Request, cause)))
}

// ran passes an answer on for a call whose body did run, whatever the answer
// rests on.
func (c *call) ran(result any, err error) (any, error) {
	c.account.report.Kind = observe.KindExecute
	return result, err
}

// doubtful is the refusal of a call whose body has ended in cause and left its record
// so: in doubt, or decided by a successor or an operator.
func (s situation) doubtful(q *Request, cause error) Refusal {
	if s.record.State != store.InDoubt {
		return Refusal{Reason: once.InFlight, Record: s.record, Retryable: true, Delay: minRetry, Cause: cause}
	}
	delay := s.settleDelay
	p := s.policy.InDoubt
	if !p.TakesOver() && p != once.Fail {
		delay = max(delay, s.holdRetry)
	}
	// Under Rerun and Resume the next attempt would run the body again, which has
	// said its last word.
	final := (p == once.Rerun || p == once.Resume) && q.Door.IsFinal(cause, q.Retries)
	return Refusal{
		Reason: once.InDoubt, Record: s.record, Delay: s.refuseRetryably(once.InDoubt, delay).delay, Cause: cause,
		// Also under Fail: what is decided, is decided after the settle delay.
		Retryable: !final && !s.isLast(minRetry), Settling: !final && s.isPassing(), Final: final,
	}
}
