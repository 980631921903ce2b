package engine

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// pause keeps a slot until there may be something new.
type pause struct {
	c    *call
	poll *backoff.ExponentialBackOff
	tick <-chan time.Time
	stop func()

	began time.Time
	blind bool // it is the store that is waited for
	done  func(observe.Event)
}

func newPause(c *call) *pause {
	tick, stop := c.ticks()
	return &pause{c: c, tick: tick, stop: stop}
}

// next returns when it is time to look again, and an error when the call's
// context has ended.
func (p *pause) next(ctx context.Context, r store.Record, atMost time.Duration) error {
	if p.done == nil {
		e := p.c.account.event(observe.KindWait)
		e.Record = shown(r)
		p.began, p.blind = time.Now(), r.State == store.Absent
		p.poll = backoff.NewExponentialBackOff()
		p.poll.InitialInterval, p.poll.MaxInterval = 20*time.Millisecond, time.Second
		_, _, p.done = p.c.engine.reporter.begin(ctx, e)
	}
	look := time.NewTimer(max(min(p.poll.NextBackOff(), atMost), time.Millisecond))
	defer look.Stop()
	if p.c.Holder.Local && p.c.enforced {
		// Nothing is lost with it: the end of the life need not wait for it.
		p.c.Life.tasks.end(false)
		defer p.c.Life.tasks.begin()
	}
	stopping, stop := p.c.Life.stopping, p.c.Stop
	if p.c.stopping() { // it waits in spite of that
		stopping, stop = nil, nil
	}
	for {
		select {
		case <-look.C:
			return nil
		case <-p.tick:
			p.c.Door.Beat(ctx)
		case <-stopping:
			return nil
		case <-stop:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// end reports the end of the wait, if there was one. ctx is that of next.
func (p *pause) end(ctx context.Context) {
	p.stop()
	if p.done != nil {
		e, report := p.c.account.event(observe.KindWait), p.c.account.report
		e.Record, e.Reason, e.Settling, e.Err = report.Record, report.Reason, report.Settling, report.Err
		e.Waited = p.waited(ctx, e)
		p.c.account.waited(ctx, e.Waited, time.Since(p.began))
		p.done(e)
		p.done = nil
	}
}

// waited says how the wait that e is about has ended.
func (p *pause) waited(ctx context.Context, e observe.Event) observe.WaitResult {
	c := p.c
	switch e.Reason {
	case "":
		if c.account.report.Kind != observe.KindFail {
			break
		}
		fallthrough // its context has ended
	case once.InFlight:
		switch {
		case c.stopping():
			return observe.WaitStopped
		case errors.Is(ctx.Err(), context.Canceled):
			return observe.WaitCancelled
		}
		return observe.WaitTimeout
	case once.InDoubt:
		return observe.WaitOwnerLost
	default:
		return observe.WaitResult(e.ErrorType())
	}
	switch {
	case p.blind:
		return observe.WaitStoreDown
	case e.Record.By == store.ByReconcile:
		return observe.WaitOwnerLost
	case e.Record.State == store.Succeeded:
		return observe.WaitCompleted
	case e.Record.State == store.Failed:
		return observe.WaitFailed
	case e.Record.Origin == store.First:
		return observe.WaitReleased
	default:
		return observe.WaitOwnerLost
	}
}
