package engine

import (
	"context"
	"errors"
	"time"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// pause keeps a slot until there may be something new.
type pause struct {
	c    *call
	at   *lookout // nil: it is in none
	beat time.Time
	tick <-chan time.Time
	stop func() // nil: it does not tick

	began time.Time
	blind bool // it is the store that is waited for
	done  func(observe.Event)

	guest // of the lookout
}

// look acquires the key, or has another call of this process look. Whoever waits shares
// his looks; whoever was asked to, from the first one on.
func (p *pause) look(ctx context.Context) (store.Record, error) {
	if p.at == nil {
		if p.c.Policy.OnDuplicate != once.Wait {
			return p.c.look(ctx)
		}
		p.judge = p
		p.at = p.c.engine.lookouts.join(p.c.Key, &p.guest)
	}
	for {
		seen, busy, atMost := p.at.ask(&p.guest)
		switch {
		case seen != nil:
			return seen.give()
		case busy == nil:
			return p.lookForAll(ctx)
		}
		limit := time.NewTimer(atMost)
		select {
		case <-busy:
		case <-limit.C: // a store that hangs for another one need not hang for this one
			p.beatIfDue(ctx)
		case <-ctx.Done():
			limit.Stop()
			return store.Record{}, ctx.Err()
		}
		limit.Stop()
	}
}

// lookForAll is the call's own look, which the others share.
func (p *pause) lookForAll(ctx context.Context) (r store.Record, err error) {
	says := false
	defer func() { r, err = p.at.saw(&p.guest, r, err, says) }() // also if the store panics
	r, err = p.c.look(ctx)
	// The end of this call, and what is wrong with its bid, say nothing to others.
	says = err == nil || ctx.Err() == nil && !errors.Is(err, store.ErrInvalid)
	return r, err
}

// act reports whether the call is to do something about the doubt that r is in.
func (p *pause) act(r store.Record) bool {
	return p.at == nil || time.Until(p.c.Answer) <= 0 || p.at.act(&p.guest, r)
}

// next returns when it is time to look again, and an error when the call's
// context has ended.
func (p *pause) next(ctx context.Context, r store.Record, atMost time.Duration) error {
	if p.done == nil {
		e := p.c.account.event(observe.KindWait)
		e.Record = shown(r)
		p.began, p.blind = time.Now(), r.State == store.Absent
		_, _, s := p.c.engine.reporter.begin(ctx, e)
		p.done = s.end
	}
	if p.at == nil { // what has changed since its look, the next one finds
		p.judge = p
		p.at = p.c.engine.lookouts.join(p.c.Key, &p.guest)
		return ctx.Err()
	}
	hears, ok := p.at.listen(&p.guest)
	if !ok {
		return ctx.Err()
	}
	var own <-chan time.Time
	if !p.c.Alone || atMost < time.Until(p.c.Answer)-time.Millisecond { // or else its context ends it
		limit := time.NewTimer(max(atMost, time.Millisecond))
		defer limit.Stop()
		own = limit.C
	}
	if p.stop == nil {
		p.tick, p.stop = p.c.ticks()
	}
	p.beatIfDue(ctx)
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
		case <-hears.news:
			return nil
		case <-hears.poll:
			if p.at.heard(&p.guest) {
				return nil
			}
			continue
		case _, open := <-hears.changed:
			if !open { // it was closed, which says nothing
				hears.changed = nil
				continue
			}
			if p.at.heard(&p.guest) {
				return nil
			}
			continue
		case <-p.tick:
			p.beats(ctx)
			continue
		case <-own:
		case <-stopping:
		case <-stop:
		case <-ctx.Done():
			return ctx.Err()
		}
		p.at.anew(&p.guest)
		return nil
	}
}

// beatIfDue sends a heartbeat where none was sent for a while.
func (p *pause) beatIfDue(ctx context.Context) {
	if p.c.Heartbeat > 0 && time.Since(p.beat) > p.c.Heartbeat/4 {
		p.beats(ctx)
	}
}

func (p *pause) beats(ctx context.Context) {
	p.beat = time.Now()
	p.c.Door.Beat(ctx)
}

// end ends the wait, if there was one, and leaves the key to others. ctx is that of next.
func (p *pause) end(ctx context.Context) {
	p.over(ctx)
	if p.at != nil {
		p.at.leave(&p.guest)
		p.at = nil
	}
}

// own ends the wait of a call that has the key, as r says. The others wait for its end.
func (p *pause) own(ctx context.Context, r store.Record) {
	p.over(ctx)
	if p.at != nil {
		p.at.own(&p.guest, r)
		p.c.settled = func(r store.Record) { p.at.meet(&p.guest, r) }
	}
}

// over reports the end of the wait, if there was one.
func (p *pause) over(ctx context.Context) {
	if p.stop != nil {
		p.stop()
		p.tick, p.stop = nil, nil
	}
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

// serves reports whether the call can decide on what another one has seen. A key that is
// free is for whoever asks for it himself; and so is a record that the store would forget
// while a retry of this call can still come: it remembers it for longer when it is asked.
func (p *pause) serves(s *sighting) bool {
	r := &s.record
	switch {
	case s.err != nil:
		return true
	case r.State == store.Absent, r.State == store.Tombstone:
		return p.c.comesTooLate()
	}
	return r.Expires.IsZero() || r.Expires.Sub(r.Now) >= p.c.claim.bid.TTL
}

// canWait reports whether the call waits if s is how it is. That may be older than the call
// where the one that has the key will say when it ends, or where the next look follows soon:
// before it does anything else, a call has to look.
func (p *pause) canWait(s *sighting) bool {
	if s.err != nil || s.record.State != store.Running {
		return false
	}
	d, _ := p.c.decide(s.record, nil)
	return d.do == await
}
