package engine

import (
	"bytes"
	"sync"
	"time"

	"github.com/atmostonce/atmostonce/store"
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

// lookout is what the calls of this process share that may wait for one key. A call that
// has the key stays in it until its claim has ended.
//
// Looks are numbered, in the order in which they begin, and so is what a call that has the
// key says of it: these numbers are the only clock here. What must hold:
//
//   - One call looks at a time, by its own claim. What it finds is for those that had asked
//     before its look began (guest.needs); each decides on it for itself. Who came later
//     takes it only to wait. A look that hangs is left alone after a while.
//   - Nobody sleeps who does not know the last change (guest.knows, fresh).
//   - While somebody sleeps, the timer of the alarm runs: what nobody reports costs a poll.
//   - An alarm wakes one, who is to look for all. Until a look has answered that began after
//     it (owed), what is known is stale: nobody goes by it, and a call that leaves wakes the
//     others.
//   - A call that has the key, or acts on a doubt, wakes all when it leaves, unless it has
//     said what came of it.
//   - Nothing foreign runs under the lock.
type lookout struct {
	alarm
	of    *lookouts
	key   string
	calls int // in it

	looks   uint64        // that have begun
	current uint64        // the look that others wait for; 0: there is none
	began   time.Time     // when the last one did
	ended   chan struct{} // closed with the current one; nil: nobody waits for that

	last  *sighting     // what is known; nil: nothing
	owed  uint64        // what is known is stale before this look
	fresh uint64        // who knows of no look from this one on has not heard the news
	news  chan struct{} // closed when there are some; nil: nobody sleeps

	owner string    // nonce of the call in it that has the key
	actor *guest    // the call in it that does something about a doubt
	acted *sighting // the doubt about which one has done something, to no avail
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

// guest is a call in a lookout.
type guest struct {
	judge

	// Guarded by the lookout's lock.
	needs    uint64 // the first look that is new enough for the call
	knows    uint64 // the last one that it knows
	listened bool
	nonce    string    // by which it has the key
	acts     *sighting // the doubt about which it does something
}

// judge says what a call can do with what another one has seen.
type judge interface {
	// serves reports whether the call can decide on it.
	serves(s *sighting) bool
	// canWait reports whether the call waits if that is how it is.
	canWait(s *sighting) bool
}

// join lets the call in.
func (ls *lookouts) join(key string, g *guest) *lookout {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.all[key]
	if l == nil {
		l = &lookout{of: ls, key: key}
		ls.all[l.key] = l
	}
	l.calls++
	g.needs = l.looks + 1
	return l
}

// ask returns what the call can decide on, or else what to wait for, and for how long,
// before it asks again. With neither, the call is to look itself, for all.
func (l *lookout) ask(g *guest) (seen *sighting, busy <-chan struct{}, atMost time.Duration) {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	s := l.last
	stale := s == nil || s.number < l.owed
	if !stale && (s.number >= g.needs && g.serves(s) || (l.owner != "" || time.Since(l.began) < firstPoll) && g.canWait(s)) {
		g.take(s)
		return s, nil, 0
	}
	if left := storeTimeout - time.Since(l.began); l.current != 0 && left > 0 {
		if l.ended == nil {
			l.ended = make(chan struct{})
		}
		return nil, l.ended, left
	}
	l.looks++
	l.current, l.began = l.looks, time.Now()
	g.knows, g.needs = l.looks, l.looks+1
	return nil, nil, 0
}

// take notes that the call knows s.
func (g *guest) take(s *sighting) {
	g.knows, g.needs = max(g.knows, s.number), max(g.needs, s.number+1)
}

// saw ends the look of g, which has found r and err, and returns what g is to decide on.
// What was found is for all if it says anything to others.
func (l *lookout) saw(g *guest, r store.Record, err error, says bool) (store.Record, error) {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	if l.current == g.knows { // else it has hung, and was left alone
		l.current = 0
		if l.ended != nil {
			close(l.ended)
			l.ended = nil
		}
	}
	switch s := l.last; {
	case !says:
	case s != nil && l.owner != "" && err != nil && !definite(err): // the owner's word is enough
		if g.canWait(s) {
			g.take(s)
			return s.give()
		}
	default:
		l.publish(&sighting{number: g.knows, record: r, err: err})
	}
	return r, err
}

// publish makes s known, unless something later is. The caller holds the lock.
func (l *lookout) publish(s *sighting) {
	if l.last != nil && l.last.number > s.number {
		return
	}
	if s.err == nil && !s.record.Owned(l.owner) {
		l.owner = ""
	}
	if l.last == nil || l.last.differs(s) {
		l.wake(s.number)
	}
	l.last = s
}

// wake wakes those that know of no look from that number on. The caller holds the lock.
func (l *lookout) wake(number uint64) {
	l.fresh = number
	if l.news != nil {
		close(l.news)
		l.news = nil
	}
}

// listen returns what to sleep on; ok is false where there is something new already.
func (l *lookout) listen(g *guest) (s signals, ok bool) {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	if l.actor == g { // somebody was faster: who looks next may act
		l.actor = nil
	}
	if g.knows < l.fresh {
		return s, false
	}
	if l.news == nil {
		l.news = make(chan struct{})
	}
	l.set(!g.listened && l.owner == "", l.owner == "")
	g.listened = true
	return signals{l.news, l.timer.C, l.changed}, true
}

// heard says that g has heard the alarm, and reports whether it is to look now. Where
// somebody did just before, the alarm comes again soon.
func (l *lookout) heard(g *guest) bool {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	now := time.Now()
	if left := hintSpacing - now.Sub(l.believed); left > 0 {
		l.arm(now, left)
		return false
	}
	l.believed = now
	l.arm(now, l.poll.NextBackOff())
	l.owed, g.needs = l.looks+1, l.looks+1
	return true
}

// anew says that g wants to know what is now.
func (l *lookout) anew(g *guest) {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	g.needs = l.looks + 1
}

// leave lets the call out.
func (l *lookout) leave(g *guest) {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	said := true
	if l.actor == g {
		l.actor, l.acted, said = nil, g.acts, false
	}
	if g.nonce != "" && l.owner == g.nonce {
		l.owner, said = "", false
	}
	if !said {
		l.owed = l.looks + 1
	}
	if l.last != nil && l.last.number < l.owed {
		l.wake(l.owed)
	}
	if l.calls--; l.calls == 0 {
		delete(l.of.all, l.key)
		l.off()
	}
}

// own says that the call has the key, as r says.
func (l *lookout) own(g *guest, r store.Record) {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	if l.actor == g {
		l.actor = nil
	}
	g.nonce = r.Owner
	l.looks++
	l.publish(&sighting{number: l.looks, record: r})
	l.owner, l.poll = g.nonce, newPoll(lastPoll)
}

// meet publishes what the owner has settled, if it is still known as that: or else others
// may have been here since.
func (l *lookout) meet(g *guest, r store.Record) {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	if l.owner == g.nonce {
		l.looks++
		l.publish(&sighting{number: l.looks, record: r})
	}
}

// act reports whether the call is to do something about the doubt that r is in. The others
// wait for the first one that does; if that comes to nothing, each does for itself.
func (l *lookout) act(g *guest, r store.Record) bool {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	doubt := &sighting{record: r}
	if l.actor == nil {
		l.actor, g.acts = g, doubt
	}
	return l.actor == g || l.acted != nil && !l.acted.differs(doubt)
}
