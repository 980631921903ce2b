package engine

import (
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/atmostonce/atmostonce/store"
)

const (
	// firstPoll and lastPoll are about how long it is from one look at a record that is
	// waited for to the next one: at first, and after a while.
	firstPoll, lastPoll = 20 * time.Millisecond, time.Second
	// hintSpacing bounds how often a store that says "look again" is believed.
	hintSpacing = 5 * time.Millisecond
	// maxRegistering bounds the registrations with a notifier that does not return.
	maxRegistering = 1000
)

// alarm says to a lookout that it is time to look: by a timer, which is certain, and by the
// store's notices, which are not. Its methods are called under the lock.
type alarm struct {
	poll  *backoff.ExponentialBackOff
	timer *time.Timer // nil: nobody has slept yet. One of those that sleep hears it
	due   time.Time   // when it goes off, or has

	believed   time.Time     // when a call was last sent to look
	changed    chan struct{} // what the notifier sends to; one hears it, likewise
	registered bool
	stop       func() // of the notifier
	over       bool
}

// signals say that there may be something new.
type signals struct {
	news    <-chan struct{}  // all that sleep hear it
	poll    <-chan time.Time // one of them hears it, and looks for all; so with changed
	changed <-chan struct{}
}

func newPoll(first time.Duration) *backoff.ExponentialBackOff {
	p := backoff.NewExponentialBackOff()
	p.InitialInterval, p.MaxInterval = first, lastPoll
	p.Reset()
	return p
}

// set sees to it that the alarm goes off. soon begins with short intervals: so that nobody
// finds out later than if it were alone. notices says that the store is to be asked for
// them, which one that has the key in this process makes needless.
func (l *lookout) set(soon, notices bool) {
	if l.changed == nil {
		l.changed = make(chan struct{}, 1)
	}
	switch {
	case soon:
		l.poll = newPoll(firstPoll)
	case l.poll == nil:
		l.poll = newPoll(lastPoll)
	}
	if soon || l.timer == nil {
		l.arm(time.Now(), l.poll.NextBackOff())
	}
	if n := l.of.notifier; n != nil && notices && !l.registered && l.of.registering < maxRegistering {
		l.registered = true
		l.of.registering++
		go l.register(n)
	}
}

// arm has the timer go off after d, unless it does before.
func (a *alarm) arm(now time.Time, d time.Duration) {
	due := now.Add(d)
	switch {
	case a.timer == nil:
		a.timer = time.NewTimer(d)
	case !now.Before(a.due), due.Before(a.due):
		a.timer.Reset(d)
	default:
		return
	}
	a.due = due
}

// register asks the notifier, whose code may be foreign, beside the calls. What has changed
// before it says yes is found by the look that follows.
func (l *lookout) register(n store.Notifier) {
	var stop func()
	defer func() {
		l.of.mu.Lock()
		defer l.of.mu.Unlock()
		l.of.registering--
		if l.stop = stop; l.over {
			l.unregister()
		}
		quietly(func() { // it may have closed the channel
			select {
			case l.changed <- struct{}{}:
			default:
			}
		})
	}()
	quietly(func() { stop = n.Notify(l.key, l.changed) })
}

func (a *alarm) unregister() {
	if stop := a.stop; stop != nil {
		go quietly(stop)
	}
}

// off ends the alarm for good.
func (a *alarm) off() {
	a.over = true
	if a.timer != nil {
		a.timer.Stop()
	}
	a.unregister()
}
