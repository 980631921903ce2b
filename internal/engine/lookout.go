package engine

import (
	"bytes"
	"sync"
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

// lookouts are the keys that calls of this process wait for.
type lookouts struct {
	notifier store.Notifier // nil: the store has none

	mu          sync.Mutex // guards the lookouts, too
	all         map[string]*lookout
	registering int // that have not returned
}

func newLookouts(s store.Store) *lookouts {
	l := &lookouts{all: map[string]*lookout{}}
	l.notifier, _ = s.(store.Notifier)
	return l
}

// lookout is what the calls of this process share that may wait for one key: looks at the
// record, and what says when to look again. One of them looks at a time, by its own claim,
// for all that have asked before; each decides for itself. A call that has the key stays in
// it until its claim has ended.
type lookout struct {
	of    *lookouts
	key   string
	calls int // in it

	looks   uint64 // that have begun; this numbers them
	looking bool   // the last one has not ended
	began   time.Time
	ended   chan struct{} // closed when it has; nil: nobody asks
	last    *sighting     // nil: nothing is known
	version uint64        // of what is known
	news    chan struct{} // closed when that changes; nil: nobody asks

	owner string    // nonce of the call in it that has the key
	actor *pause    // the call in it that does something about a doubt
	acted *sighting // the doubt about which one has done something, to no avail

	poll       *backoff.ExponentialBackOff
	timer      *time.Timer // of the next look; each waiting call may hear it, and one does
	due        time.Time
	changed    chan struct{} // of the notifier; likewise
	believed   time.Time     // when a call was last sent to look
	registered bool
	stop       func() // of the notifier
	over       bool
}

// sighting is what a look has found.
type sighting struct {
	number uint64
	record store.Record
	err    error
}

// give returns what was found, to a call that may do with it as it likes.
func (s *sighting) give() (store.Record, error) {
	r := s.record
	r.Outcome.Data = bytes.Clone(r.Outcome.Data)
	return r, s.err
}

// differs reports whether t says something else than s to whoever waits. A renewal does not.
func (s *sighting) differs(t *sighting) bool {
	a, b := &s.record, &t.record
	return s.err != nil || t.err != nil || a.State != b.State || a.Owner != b.Owner || a.Fence != b.Fence ||
		a.State != store.Running && a.Revision != b.Revision
}

func isFree(r store.Record) bool { return r.State == store.Absent || r.State == store.Tombstone }

func newPoll(first time.Duration) *backoff.ExponentialBackOff {
	p := backoff.NewExponentialBackOff()
	p.InitialInterval, p.MaxInterval = first, lastPoll
	p.Reset()
	return p
}

// join lets the call in.
func (ls *lookouts) join(p *pause) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.all[p.c.Key]
	if l == nil {
		l = &lookout{of: ls, key: p.c.Key}
		ls.all[l.key] = l
	}
	l.calls++
	p.at, p.since, p.version = l, l.looks, l.version
}

// ask returns what a look has found that began after the call had come, or what lets it
// wait; else when to ask again, or neither where the call is to look itself.
func (l *lookout) ask(p *pause) (seen *sighting, busy <-chan struct{}) {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	p.version = l.version
	if s := l.last; s != nil && (s.number > p.since && p.serves(s) || l.letsWait(p, s)) {
		p.since, p.owes = max(p.since, s.number), false
		return s, nil
	}
	if l.looking {
		if l.ended == nil {
			l.ended = make(chan struct{})
		}
		return nil, l.ended
	}
	l.looks++
	l.looking, l.began = true, time.Now()
	p.since, p.owes = l.looks, false
	return nil, nil
}

// serves reports whether the call can decide on what another one has seen. A key that is
// free is for whoever asks for it himself.
func (p *pause) serves(s *sighting) bool {
	if s.err != nil || !isFree(s.record) {
		return true
	}
	now := p.c.situation(s.record)
	return now.late || now.givesWay()
}

// letsWait reports whether s, although it is older than the call, is enough for it to wait:
// since the call that has the key will say when it ends, or since the next look follows
// soon. Before it does anything else, a call has to look.
func (l *lookout) letsWait(p *pause, s *sighting) bool {
	if p.owes || s.err != nil || s.record.State != store.Running || l.owner == "" && time.Since(l.began) >= firstPoll {
		return false
	}
	d, _ := p.c.decide(s.record, nil)
	return d.do == await
}

// saw ends the look of p. What it has found is for all, if shared.
func (l *lookout) saw(p *pause, r store.Record, err error, shared bool) {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	l.looking = false
	if l.ended != nil {
		close(l.ended)
		l.ended = nil
	}
	if p.owes = !shared; p.owes {
		return
	}
	l.publish(&sighting{number: p.since, record: r, err: err})
	p.version = l.version
}

// publish makes s known, unless something later is. The caller holds the lock, as in stir,
// spread and arm.
func (l *lookout) publish(s *sighting) {
	if l.last != nil && l.last.number > s.number {
		return
	}
	news := l.last == nil || l.last.differs(s)
	l.last = s
	if s.err == nil && !s.record.Owned(l.owner) {
		l.owner = ""
	}
	if news {
		l.spread()
	}
}

// stir has the calls that wait look again: nothing is known any more.
func (l *lookout) stir() {
	l.last = nil
	l.spread()
}

func (l *lookout) spread() {
	l.version++
	if l.news != nil {
		close(l.news)
		l.news = nil
	}
}

// signals say that there may be something new.
type signals struct {
	news    <-chan struct{}  // all that wait hear it
	poll    <-chan time.Time // one of them hears it, and looks for all; so with changed
	changed <-chan struct{}
}

// listen returns what to wait for; ok is false where there is something new already.
func (l *lookout) listen(p *pause) (s signals, ok bool) {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	if l.actor == p { // it looks again, since somebody was faster
		l.actor = nil
		l.stir()
	}
	if p.version != l.version {
		return s, false
	}
	if l.news == nil {
		l.news = make(chan struct{})
	}
	if l.changed == nil {
		l.changed = make(chan struct{}, 1)
	}
	switch {
	case l.owner != "":
		if l.poll == nil {
			l.poll = newPoll(lastPoll)
		}
	case !p.listened: // so that nobody finds out later than if it were alone
		l.poll = newPoll(firstPoll)
		l.arm(l.poll.NextBackOff())
	}
	p.listened = true
	if l.timer == nil {
		l.arm(l.poll.NextBackOff())
	}
	if n := l.of.notifier; n != nil && l.owner == "" && !l.registered && l.of.registering < maxRegistering {
		l.registered = true
		l.of.registering++
		go l.register(n)
	}
	return signals{l.news, l.timer.C, l.changed}, true
}

// arm sees to a poll after d, or before.
func (l *lookout) arm(d time.Duration) {
	due := time.Now().Add(d)
	switch {
	case l.timer == nil:
		l.timer = time.NewTimer(d)
	case due.Before(l.due):
		l.timer.Reset(d)
	default:
		return
	}
	l.due = due
}

// polled says that p has heard the timer, and reports whether it is to look now, as hinted does.
func (l *lookout) polled(p *pause) bool {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	now, d := time.Now(), l.poll.NextBackOff()
	l.timer.Reset(d)
	l.due = now.Add(d)
	return l.believe(p, now)
}

// hinted says that p has heard the notifier, and reports whether it is to look now. One that
// sends all the time has the next poll come sooner, no more.
func (l *lookout) hinted(p *pause) bool {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	now := time.Now()
	if l.believe(p, now) {
		return true
	}
	l.arm(l.believed.Add(hintSpacing).Sub(now))
	return false
}

func (l *lookout) believe(p *pause, now time.Time) bool {
	if now.Sub(l.believed) < hintSpacing { // a look follows that
		return false
	}
	l.believed = now
	p.since, p.owes = l.looks, true
	return true
}

// anew says that p wants to know what is now.
func (l *lookout) anew(p *pause) {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	p.since = l.looks
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
		select {
		case l.changed <- struct{}{}:
		default:
		}
	}()
	quietly(func() { stop = n.Notify(l.key, l.changed) })
}

func (l *lookout) unregister() {
	if stop := l.stop; stop != nil {
		go quietly(stop)
	}
}

// leave lets the call out. What it was to do for the others, another one does.
func (l *lookout) leave(p *pause) {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	stirs := p.owes
	if l.actor == p {
		l.actor, l.acted, stirs = nil, p.acts, true
	}
	if p.nonce != "" && l.owner == p.nonce { // it has told nothing of its end
		l.owner, stirs = "", true
	}
	if stirs {
		l.stir()
	}
	if l.calls--; l.calls > 0 {
		return
	}
	delete(l.of.all, l.key)
	l.over = true
	if l.timer != nil {
		l.timer.Stop()
	}
	l.unregister()
}

// own says that the call has the key, as r says.
func (l *lookout) own(p *pause, r store.Record) {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	if l.actor == p {
		l.actor = nil
	}
	l.looks++
	p.nonce = r.Owner
	l.publish(&sighting{number: l.looks, record: r})
	l.owner, l.poll = p.nonce, newPoll(lastPoll)
}

// meet publishes what the owner has settled, if it is still known as that: or else others
// may have been here since.
func (l *lookout) meet(p *pause, r store.Record) {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	if l.owner == p.nonce {
		l.looks++
		l.publish(&sighting{number: l.looks, record: r})
	}
}

// act reports whether the call is to do something about the doubt that r is in. The others
// wait for the first one that does; if that comes to nothing, each does for itself.
func (l *lookout) act(p *pause, r store.Record) bool {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	doubt := &sighting{record: r}
	if l.actor == nil {
		l.actor, p.acts = p, doubt
	}
	return l.actor == p || l.acted != nil && !l.acted.differs(doubt)
}

// ownersWord returns what there is to go by where a look has failed: while a call of this process has
// the key, that it has.
func (l *lookout) ownersWord(p *pause) *sighting {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	if s := l.last; s != nil && l.owner != "" && l.letsWait(p, s) {
		return s
	}
	return nil
}
