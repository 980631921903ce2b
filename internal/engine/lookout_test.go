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
	p := newPause(&call{Request: &r, engine: e})
	e.lookouts.join(p)
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
	seen, busy := p.at.ask(p)
	require.Nil(t, seen)
	require.Nil(t, busy)
}

// requireSeen asserts that another call has looked for this one.
func requireSeen(t *testing.T, p *pause, want store.Record) {
	t.Helper()
	seen, busy := p.at.ask(p)
	require.Nil(t, busy)
	require.NotNil(t, seen)
	require.Equal(t, want, seen.record)
}

// requirePoll asserts that the call looks when it is time.
func requirePoll(t *testing.T, p *pause) {
	t.Helper()
	p.at.anew(p)
	p.owes = true
	requireLook(t, p)
}

func requireBusy(t *testing.T, p *pause) <-chan struct{} {
	t.Helper()
	seen, busy := p.at.ask(p)
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
	a.at.saw(a, done, nil, true)
	<-busy
	requireSeen(t, b, done)
	requireLook(t, c)
	c.at.saw(c, done, nil, true)
	requireLook(t, inLookout(t, e, time.Hour))
}

func TestLookout_WhatWasSeenJustBeforeIsEnoughToWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newTestEngine(t)
		a := inLookout(t, e, time.Hour)
		requireLook(t, a)
		a.at.saw(a, runs, nil, true)
		requireSeen(t, inLookout(t, e, time.Hour), runs)
		other := inLookout(t, e, time.Hour)
		other.c.Match = "another input"
		requireLook(t, other) // the record of which it disagrees with is to be the one of now
		other.at.saw(other, runs, nil, true)
		requireLook(t, inLookout(t, e, 0)) // whose time is over
		a.at.saw(a, runs, nil, false)
		<-time.After(firstPoll)
		requireLook(t, inLookout(t, e, time.Hour))
		a.at.own(a, runs) // says when it ends
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
	late.at.saw(late, free, nil, true)
	requireSeen(t, alsoLate, free)
	requireLook(t, early)
}

func TestLookout_ALookThatBeganBeforeTheEndSaysNothingAfterIt(t *testing.T) {
	t.Parallel()
	e := newTestEngine(t)
	owner, a, b := inLookout(t, e, time.Hour), inLookout(t, e, time.Hour), inLookout(t, e, time.Hour)
	owner.at.own(owner, runs)
	requirePoll(t, a)
	owner.at.meet(owner, done)
	a.at.saw(a, runs, nil, true)
	requireSeen(t, b, done)
}

// A settlement of which the owner hears late is not published when others have been there.
func TestLookout_AnOwnerThatWasSupersededSaysNothing(t *testing.T) {
	t.Parallel()
	e := newTestEngine(t)
	owner, a := inLookout(t, e, time.Hour), inLookout(t, e, time.Hour)
	owner.at.own(owner, runs)
	requirePoll(t, a)
	next := runs
	next.Owner, next.Fence = "b", 2
	a.at.saw(a, next, nil, true)
	owner.at.meet(owner, done)
	requireSeen(t, inLookout(t, e, time.Hour), next)
	owner.at.leave(owner)
	requireSeen(t, inLookout(t, e, time.Hour), next)
}

func TestLookout_AFailedLookIsSharedOnce(t *testing.T) {
	t.Parallel()
	e := newTestEngine(t)
	a, b := inLookout(t, e, time.Hour), inLookout(t, e, time.Hour)
	requireLook(t, a)
	requireBusy(t, b)
	a.at.saw(a, store.Record{}, errors.New("no route"), true)
	seen, _ := b.at.ask(b)
	require.Error(t, seen.err)
	requireLook(t, b)
}

func TestLookout_EndsWithTheLastCall(t *testing.T) {
	t.Parallel()
	e := newTestEngine(t)
	a, b := inLookout(t, e, time.Hour), inLookout(t, e, time.Hour)
	a.at.leave(a)
	require.Len(t, e.lookouts.all, 1)
	b.at.leave(b)
	require.Empty(t, e.lookouts.all)
}
