package interceptor

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	sdkactivity "go.temporal.io/sdk/activity"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

const (
	// maxForeground bounds how long an answer waits for its record.
	maxForeground = 10 * time.Second
	// slowWrite is after how long a write that no answer waits for is told of.
	slowWrite = time.Second
)

// execute runs the body under the claim that r grants, and records what came of
// it. sent is when the claim was asked for.
func (c *call) execute(ctx context.Context, bid store.Bid, r store.Record, sent time.Time, body func(context.Context) (any, error)) (result any, err error) {
	bid.Fence = r.Fence
	if ctx.Err() != nil {
		c.release(ctx, bid, nil)
		c.report.Record = store.Record{} // nobody has the key
		return c.ended(ctx)
	}
	bid.Began = true
	c.report.Kind, c.report.Takeover, c.report.Record = observe.KindExecute, r.Origin == store.Taken, shown(r)
	bctx, l := c.keepAlive(once.NewContext(c.evidence.watch(ctx), once.Claim{
		Key: c.downstream, Fence: r.Fence, Takeover: r.Origin == store.Taken,
		Token: func() string { return c.token(bid, r.Origin) }, Begin: func() { c.evidence.begun.Store(true) },
	}), bid, sent)
	returned := false
	defer func() {
		if !returned { // a panic or Goexit, of a converter's or classifier's too, passes through
			c.report.Reason, c.report.Settling = once.InDoubt, c.situation(r, bid.Owner).isPassing()
			c.settle(ctx, bid, l, c.codec.doubt(errPanicked))
		}
	}()
	result, err = l.run(bctx, body)
	result, err = c.conclude(ctx, bctx, bid, r, l, result, err)
	returned = true
	return result, err
}

// conclude records the outcome of a body that returned, and makes the answer.
func (c *call) conclude(ctx, bctx context.Context, bid store.Bid, r store.Record, l *lease, result any, err error) (any, error) {
	switch {
	case err == nil:
		o, answer, broken := c.codec.encode(result, c.guard.options.MaxOutcome)
		c.settle(ctx, bid, l, o)
		if broken != nil {
			r.Outcome = o
			return c.ran(c.fail(refusal{reason: once.OutcomeNotKept, record: r, cause: broken}))
		}
		if c.surrounded {
			return result, nil
		}
		return answer, nil
	case err == sdkactivity.ErrResultPending && !c.info.IsLocalActivity: //nolint:errorlint // the SDK compares it so
		c.settle(ctx, bid, l, store.Outcome{State: store.Pending})
		return nil, err
	}
	verdict := c.verdict(err, r.Origin, bctx.Err() != nil)
	err = once.Plain(err)
	var now store.Record
	switch verdict {
	case once.Unlock:
		now = c.release(ctx, bid, l)
		if r.Origin != store.Taken {
			break
		}
		// An earlier run is still in doubt, whatever this one did.
		return c.doubtful(ctx, bid, now, err)
	case once.Lock:
		var o store.Outcome
		o, err = c.codec.encodeFailure(err)
		now = c.settle(ctx, bid, l, o)
	default:
		now = c.settle(ctx, bid, l, c.codec.doubt(err))
		return c.doubtful(ctx, bid, now, err)
	}
	switch now.State {
	case store.Succeeded: // an earlier run's, as it turned out
		return c.ran(c.replay(ctx, now))
	case store.InDoubt:
		return c.doubtful(ctx, bid, now, err)
	case store.Running, store.Pending: // a successor's: its end decides
		return c.ran(c.fail(refusal{reason: once.InFlight, record: now, retryable: true, delay: minRetry, cause: err}))
	}
	c.report.Err = err
	return nil, err
}

// verdict is what err says about the effect of a claim of that origin; over
// says that err came after the attempt was over.
func (c *call) verdict(err error, origin store.Origin, over bool) once.FailurePolicy {
	verdict, final := c.policy.OnFailure.Decide(err)
	if !final && (over || c.evidence.begun.Load() || c.evidence.leavesOpen(err)) {
		return once.Doubt
	}
	if verdict == once.Lock && origin == store.Taken {
		return once.Doubt // it cannot speak for the runs before it
	}
	return verdict
}

// doubtful answers for a body after which the effect is in doubt.
func (c *call) doubtful(ctx context.Context, bid store.Bid, now store.Record, cause error) (any, error) {
	if now.State == store.Succeeded {
		return c.ran(c.replay(ctx, now))
	}
	switch now.State {
	case store.InDoubt:
	case store.Absent: // not written yet
		now = store.Record{State: store.InDoubt, Info: bid.Info, Claimed: time.Now(), Doubted: time.Now()}
	default: // a successor's, or an operator has decided
		return c.ran(c.fail(refusal{reason: once.InFlight, record: now, retryable: true, delay: minRetry, cause: cause}))
	}
	s := c.situation(now, bid.Owner)
	delay := s.settleDelay
	p := c.policy.InDoubt
	if !p.TakesOver() && p != once.Fail {
		delay = max(delay, s.holdRetry)
	}
	d := s.refuseRetryably(once.InDoubt, delay)
	// Under Rerun and Resume the next attempt would run the body again, which has
	// said its last word.
	final := (p == once.Rerun || p == once.Resume) && c.isFinal(cause)
	return c.ran(c.fail(refusal{
		reason: once.InDoubt, record: now, delay: d.delay, cause: cause,
		// Also under Fail: what is decided, is decided after the settle delay.
		retryable: !final && !s.isLast(minRetry), settling: !final && s.isPassing(), final: final,
	}))
}

// ran passes an answer on for a call whose body did run, whatever the answer
// rests on.
func (c *call) ran(result any, err error) (any, error) {
	c.report.Kind = observe.KindExecute
	return result, err
}

// settle records o for the claim, and returns the record if that was done while
// the answer waited.
func (c *call) settle(ctx context.Context, bid store.Bid, l *lease, o store.Outcome) store.Record {
	return c.commit(ctx, l, func(ctx context.Context) (store.Record, error) {
		return c.guard.store.Settle(ctx, bid, o)
	})
}

// release gives the key back: this claim did nothing.
func (c *call) release(ctx context.Context, bid store.Bid, l *lease) store.Record {
	return c.commit(ctx, l, func(ctx context.Context) (store.Record, error) {
		return c.guard.store.Release(ctx, bid)
	})
}

// commit carries out the write that ends a claim. It does not depend on the
// attempt's context, whose end does not undo the effect. The answer waits for
// it, but no longer than the attempt can; then the write goes on in the
// background, with the lease renewed, until it lands or the worker has stopped.
func (c *call) commit(ctx context.Context, l *lease, write func(context.Context) (store.Record, error)) store.Record {
	landed := make(chan store.Record, 1)
	detached := context.WithoutCancel(ctx)
	var why atomic.Pointer[error]
	foreground := max(0, min(time.Until(c.deadline), maxForeground))
	// An attempt that is over does not wait; that does not make the write slow.
	slow := time.AfterFunc(max(foreground, slowWrite), func() {
		var err error
		if last := why.Load(); last != nil {
			err = *last
		}
		c.notice(detached, observe.SettleDelayed, store.Record{}, err)
	})
	c.background(func(stop context.Context) {
		defer l.end()
		// Told at once: a store that does not look at contexts can take its time, and
		// the process may be gone by then.
		told := make(chan struct{})
		giveUp := context.AfterFunc(stop, func() {
			defer close(told)
			err := context.Cause(stop)
			if last := why.Load(); last != nil && *last != nil {
				err = errors.Join(err, *last)
			}
			c.noteWrite(detached, store.Record{}, err)
		})
		r, err := persist(detached, stop, func(ctx context.Context) (store.Record, error) {
			r, err := write(ctx)
			why.Store(&err)
			return r, err
		})
		slow.Stop()
		if d := (*definiteError)(nil); errors.As(err, &d) {
			r = d.record
		}
		if giveUp() {
			c.noteWrite(detached, r, err)
		} else {
			<-told
		}
		landed <- r
	})
	limit := time.NewTimer(foreground)
	defer limit.Stop()
	tick, stop := ticks(c.info)
	defer stop()
	for {
		select {
		case r := <-landed:
			return r
		case <-limit.C:
			select {
			case r := <-landed:
				return r
			default:
				return store.Record{}
			}
		case <-tick:
			if ctx.Err() == nil {
				c.beat.again(ctx)
			}
		}
	}
}

// persist repeats a write until the store says what became of it.
func persist(ctx, stop context.Context, write func(context.Context) (store.Record, error)) (store.Record, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(stop, cancel)()
	interval := backoff.NewExponentialBackOff()
	interval.InitialInterval, interval.MaxInterval = 50*time.Millisecond, 5*time.Second
	var last error
	r, err := backoff.Retry(ctx, func() (store.Record, error) {
		try, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		r, err := write(try)
		last = err
		if err != nil && definite(err) && !errors.Is(err, store.ErrFull) {
			return r, backoff.Permanent(&definiteError{r, err})
		}
		return r, err
	}, backoff.WithBackOff(interval), backoff.WithMaxElapsedTime(0))
	if err != nil && ctx.Err() != nil && last != nil {
		err = fmt.Errorf("%w: %w", err, last)
	}
	return r, err
}

// definiteError carries the record that came with an error.
type definiteError struct {
	record store.Record
	err    error
}

func (e *definiteError) Error() string { return e.err.Error() }
func (e *definiteError) Unwrap() error { return e.err }

func (c *call) noteWrite(ctx context.Context, r store.Record, err error) {
	switch {
	case errors.Is(err, store.ErrConflict):
		c.notice(ctx, observe.Conflict, r, err)
	case errors.Is(err, store.ErrSuperseded):
		c.noticeLeaseLost(ctx, r, err)
	case err != nil:
		c.notice(ctx, observe.SettleFailed, r, err)
	case r.Forgotten:
		c.notice(ctx, observe.StoreLost, r, nil)
	}
}
