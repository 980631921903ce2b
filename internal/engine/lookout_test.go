package engine

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// inLookout returns a call that may wait for a key, and of whose hour so much is left.
func inLookout(t *testing.T, e *Engine, left time.Duration) *pause {
	t.Helper()
	r := Request{Identity: Identity{Key: "k"}, Policy: once.Policy{OnDuplicate: once.Wait}, Life: NewLife()}
	r.Holder.ActivityRunID = "another call's"
	r.Answer, r.Span = time.Now().Add(left), time.Hour
	p := &pause{c: &call{Request: &r, engine: e}}
	p.judge = p
	p.at = e.lookouts.join(r.Key, &p.guest)
	return p
}

func newTestEngine(t *testing.T) *Engine {
	t.Helper()
	o, err := Options{}.Complete()
	require.NoError(t, err)
	return New(store.NewMemory(store.MemoryOptions{}), o, nil)
}

var (
	runs = store.Record{State: store.Running, Owner: "a", Fence: 1, Revision: 1}
	done = store.Record{State: store.Succeeded, Owner: "a", Fence: 1, Revision: 2}
	free = store.Record{State: store.Tombstone, Owner: "a", Fence: 1, Revision: 2}
)

// requireLook asserts that the call is to look itself.
func requireLook(t *testing.T, p *pause) {
	t.Helper()
	seen, busy, _ := p.at.ask(&p.guest)
	require.Nil(t, seen)
	require.Nil(t, busy)
}

// requireSeen asserts that another call has looked for this one.
func requireSeen(t *testing.T, p *pause, want store.Record) {
	t.Helper()
	seen, busy, _ := p.at.ask(&p.guest)
	require.Nil(t, busy)
	require.NotNil(t, seen)
	require.Equal(t, want, seen.record)
}

// requirePoll asserts that the call looks when it is time.
func requirePoll(t *testing.T, p *pause) {
	t.Helper()
	p.at.poll = newPoll(lastPoll)
	p.at.believed = time.Time{}
	require.True(t, p.at.heard(&p.guest))
	requireLook(t, p)
}

// saw has the look of the call end.
func saw(p *pause, r store.Record, err error, says bool) { _, _ = p.at.saw(&p.guest, r, err, says) }

func requireBusy(t *testing.T, p *pause) <-chan struct{} {
	t.Helper()
	seen, busy, _ := p.at.ask(&p.guest)
	require.Nil(t, seen)
	require.NotNil(t, busy)
	return busy
}

func TestLookout_ALookIsForThoseThatHaveAskedBefore(t *testing.T) {
	t.Parallel()
	e := newTestEngine(t)
	a, b := inLookout(t, e, time.Hour), inLookout(t, e, time.Hour)
	requireLook(t, a)
	busy := requireBusy(t, b)
	c := inLookout(t, e, time.Hour) // since a look began
	saw(a, done, nil, true)
	<-busy
	requireSeen(t, b, done)
	requireLook(t, c)
	saw(c, done, nil, true)
	requireLook(t, inLookout(t, e, time.Hour))
}

func TestLookout_WhatWasSeenJustBeforeIsEnoughToWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newTestEngine(t)
		a := inLookout(t, e, time.Hour)
		requireLook(t, a)
		saw(a, runs, nil, true)
		requireSeen(t, inLookout(t, e, time.Hour), runs)
		other := inLookout(t, e, time.Hour)
		other.c.Match = "another input"
		requireLook(t, other) // the record of which it disagrees with is to be the one of now
		saw(other, runs, nil, true)
		over := inLookout(t, e, 0) // its time
		requireLook(t, over)
		saw(over, runs, nil, false)
		<-time.After(firstPoll)
		requireLook(t, inLookout(t, e, time.Hour))
		a.at.own(&a.guest, runs) // says when it ends
		<-time.After(time.Hour)
		requireSeen(t, inLookout(t, e, time.Hour), runs)
	})
}

func TestLookout_AFreeKeyIsForWhoClaimsIt(t *testing.T) {
	t.Parallel()
	e := newTestEngine(t)
	late, early, alsoLate := inLookout(t, e, time.Minute), inLookout(t, e, time.Hour), inLookout(t, e, time.Minute)
	requireLook(t, late)
	requireBusy(t, early)
	saw(late, free, nil, true)
	requireSeen(t, alsoLate, free)
	requireLook(t, early)
}

func TestLookout_ALookThatBeganBeforeTheEndSaysNothingAfterIt(t *testing.T) {
	t.Parallel()
	e := newTestEngine(t)
	owner, a, b := inLookout(t, e, time.Hour), inLookout(t, e, time.Hour), inLookout(t, e, time.Hour)
	owner.at.own(&owner.guest, runs)
	requirePoll(t, a)
	owner.at.meet(&owner.guest, done)
	saw(a, runs, nil, true)
	requireSeen(t, b, done)
}

// A settlement of which the owner hears late is not published when others have been there.
func TestLookout_AnOwnerThatWasSupersededSaysNothing(t *testing.T) {
	t.Parallel()
	e := newTestEngine(t)
	owner, a := inLookout(t, e, time.Hour), inLookout(t, e, time.Hour)
	owner.at.own(&owner.guest, runs)
	requirePoll(t, a)
	next := runs
	next.Owner, next.Fence = "b", 2
	saw(a, next, nil, true)
	owner.at.meet(&owner.guest, done)
	requireSeen(t, inLookout(t, e, time.Hour), next)
	owner.at.leave(&owner.guest)
	requireSeen(t, inLookout(t, e, time.Hour), next)
}

func TestLookout_AFailedLookIsSharedOnce(t *testing.T) {
	t.Parallel()
	e := newTestEngine(t)
	a, b := inLookout(t, e, time.Hour), inLookout(t, e, time.Hour)
	requireLook(t, a)
	requireBusy(t, b)
	saw(a, store.Record{}, errors.New("no route"), true)
	seen, _, _ := b.at.ask(&b.guest)
	require.Error(t, seen.err)
	requireLook(t, b)
}

// While the call that has the key is here, a store that cannot be asked is nobody's concern but
// that of who must decide now.
func TestLookout_AFailedLookIsForItsOwnCallWhereTheOwnerIsHere(t *testing.T) {
	t.Parallel()
	e := newTestEngine(t)
	owner, a := inLookout(t, e, time.Hour), inLookout(t, e, time.Hour)
	owner.at.own(&owner.guest, runs)
	over := inLookout(t, e, 0) // its time
	requireLook(t, over)
	_, err := over.at.saw(&over.guest, store.Record{}, errors.New("no route"), true)
	require.Error(t, err)
	requireSeen(t, a, runs)
	require.True(t, hears(a))
}

// hears reports whether the call sleeps.
func hears(p *pause) bool {
	_, sleeps := p.at.listen(&p.guest)
	return sleeps
}

func TestLookout_WhoHasSeenSomethingOlderDoesNotSleep(t *testing.T) {
	t.Parallel()
	e := newTestEngine(t)
	owner, a := inLookout(t, e, time.Hour), inLookout(t, e, time.Hour)
	owner.at.own(&owner.guest, runs)
	requirePoll(t, a)
	owner.at.meet(&owner.guest, done)
	saw(a, runs, nil, true)
	require.False(t, hears(a))
	requireSeen(t, a, done)
}

func TestLookout_ALookThatHangsIsLeftAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newTestEngine(t)
		a, b, c := inLookout(t, e, time.Hour), inLookout(t, e, time.Hour), inLookout(t, e, time.Hour)
		requireLook(t, a)
		<-time.After(storeTimeout - 1)
		busy := requireBusy(t, b)
		<-time.After(1)
		requireLook(t, b)
		requireBusy(t, c)
		saw(a, runs, nil, true)
		require.NotZero(t, b.at.current, "one looks")
		saw(b, done, nil, true)
		<-busy
		requireSeen(t, c, done)
	})
}

// A store remembers a record for longer when it is asked with the bid of a call that needs that.
func TestLookout_ARecordThatIsForgottenTooSoonIsForWhoAsksForIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kept, ttl time.Duration // kept: 0 is for good
		serves    bool
	}{
		"long enough": {time.Hour, time.Hour, true},
		"too short":   {time.Hour - 1, time.Hour, false},
		"for good":    {0, once.Forever, true},
		"for a while": {time.Hour, once.Forever, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newTestEngine(t)
			a, b := inLookout(t, e, time.Hour), inLookout(t, e, time.Hour)
			b.c.claim.bid.TTL = c.ttl
			requireLook(t, a)
			r := done
			if r.Now = time.Now(); c.kept > 0 {
				r.Expires = r.Now.Add(c.kept)
			}
			saw(a, r, nil, true)
			if c.serves {
				requireSeen(t, b, r)
			} else {
				requireLook(t, b)
			}
		})
	}
}

func TestLookout_ANoticeIsNotForgottenWithThePollThatFollows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newTestEngine(t)
		began := time.Now()
		a := inLookout(t, e, time.Hour)
		requireLook(t, a)
		saw(a, runs, nil, true)
		s, _ := a.at.listen(&a.guest)
		require.True(t, a.at.heard(&a.guest))
		requireLook(t, a)
		saw(a, runs, nil, true)
		a.at.arm(time.Now(), 4*time.Millisecond)
		<-time.After(2 * time.Millisecond)
		require.False(t, a.at.heard(&a.guest), "a look has just been made")
		<-s.poll
		for !a.at.heard(&a.guest) {
			<-s.poll
		}
		require.Equal(t, hintSpacing, time.Since(began))
		a.at.leave(&a.guest)
	})
}

// What a call was to do for the others, another one does.
func TestLookout_WhoLeavesWithADutyWakesTheOthers(t *testing.T) {
	t.Parallel()
	for name, duty := range map[string]func(t *testing.T, p *pause){
		"a look":                   func(t *testing.T, p *pause) { t.Helper(); require.True(t, p.at.heard(&p.guest)) },
		"a look that says nothing": func(t *testing.T, p *pause) { t.Helper(); requirePoll(t, p); saw(p, store.Record{}, nil, false) },
		"a key":                    func(_ *testing.T, p *pause) { p.at.own(&p.guest, runs) },
		"a doubt":                  func(t *testing.T, p *pause) { t.Helper(); require.True(t, p.at.act(&p.guest, runs)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newTestEngine(t)
			a, b := inLookout(t, e, time.Hour), inLookout(t, e, time.Hour)
			requireLook(t, a)
			saw(a, runs, nil, true)
			requireSeen(t, b, runs)
			require.True(t, hears(a))
			duty(t, a)
			s, sleeps := b.at.listen(&b.guest)
			if !sleeps { // it has heard of the key
				requireSeen(t, b, runs)
				s, _ = b.at.listen(&b.guest)
			}
			a.at.leave(&a.guest)
			select {
			case <-s.news:
			default:
				require.Fail(t, "it sleeps")
			}
			require.False(t, hears(b))
			requireLook(t, b)
		})
	}
}

// slowly is a notifier that takes its time to register.
type slowly struct {
	free    chan struct{}
	stopped bool
}

func (s *slowly) Notify(string, chan<- struct{}) (stop func()) {
	<-s.free
	return func() { s.stopped = true }
}

func TestLookout_ARegistrationThatOutlivesItIsEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, n := newTestEngine(t), &slowly{free: make(chan struct{})}
		e.lookouts.notifier = n
		a := inLookout(t, e, time.Hour)
		require.True(t, hears(a))
		a.at.leave(&a.guest)
		close(n.free)
		synctest.Wait()
		require.True(t, n.stopped)
		require.Zero(t, e.lookouts.registering)
	})
}

func TestLookout_EndsWithTheLastCall(t *testing.T) {
	t.Parallel()
	e := newTestEngine(t)
	a, b := inLookout(t, e, time.Hour), inLookout(t, e, time.Hour)
	a.at.leave(&a.guest)
	require.Len(t, e.lookouts.all, 1)
	b.at.leave(&b.guest)
	require.Empty(t, e.lookouts.all)
}
