package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// The model is two calls of one key, each with its attempts, on a real store.
// Whatever the guard carries out one step at a time is a move here, and so
// is all that can go wrong between two steps. The search tries every order.

const (
	modelKey   = "key"
	modelLease = time.Minute
	modelDelay = 30 * time.Second
	modelHold  = time.Minute
)

type phase string

const (
	claiming  phase = "claiming"
	asking    phase = "asking"
	taking    phase = "taking"
	resolving phase = "resolving"
	inBody    phase = "in body"
	writing   phase = "writing"
	givenUp   phase = "given up" // the claim's fate is unknown; a release follows
	dead      phase = "dead"
	over      phase = "over"
)

// request is what a body sends to have its effect.
type request string

const (
	unsent   request = "unsent"
	underway request = "under way"
	landed   request = "landed"
)

// attempt is one claim of one call.
type attempt struct {
	call    int
	phase   phase
	bid     store.Bid
	from    store.Record // what asking, taking and resolving rest on
	origin  store.Origin
	granted int // orders the runs
	request request
	verdict act         // what the body returned
	wrote   store.State // the outcome that the store was given
	silent  bool        // Temporal has an answer, or no longer listens
	stale   bool        // a lease went by without a renewal
	cut     bool        // the body was canceled and sends no more
	barred  bool        // the ledger lets it have no effect any more
	pending bool        // the claim that was given up has not reached the store yet
	epoch   int         // how often the record had been forgotten when the run began
}

// rules is what the search puts to the test, and how far it goes.
type rules struct {
	policy   once.Policy
	decide   func(situation) decision
	store    func(store.Store) store.Store
	unsure   act    // what an error that may hide an effect is written as
	goesOn   bool   // the owner does not cancel its body when its lease is over
	bars     bool   // the ledger bars a run of which it says that it was not done
	locksAll bool   // an error for good is recorded after a takeover too
	unknown  bool   // no call knows its retry policy
	reset    bool   // the second call is the first after a reset of its workflow
	most     [2]int // attempts of each call
	faults   int    // on one path
	operator int    // decisions of an operator, about what is settled, on one path
}

type model struct {
	rules
	store    store.Store
	attempts []*attempt
	made     [2]int // attempts of each call
	grants   int
	fence    uint64
	faults   int
	decided  int // by the operator
	epoch    int // how often he forgot the record
	broken   string
}

// move is what happens next: to which attempt, and how its message fares.
type move struct {
	act  act
	fate fate
	who  int
}

type act string

const (
	doClaim     act = "claims"
	doAsk       act = "asks"
	doResolve   act = "resolves"
	lateClaim   act = "has its delayed claim arrive"
	backRelease act = "releases what it gave up"
	doSend      act = "sends its request"
	doLand      act = "has the effect"
	retOK       act = "returns a result"
	retUnlock   act = "returns an error: nothing happened"
	retLock     act = "returns an error for good"
	retFinal    act = "returns a final error: nothing happened"
	retDoubt    act = "returns an error that leaves doubt"
	doWrite     act = "writes its end"
	doCrash     act = "crashes"
	doTimeOut   act = "is given up by Temporal"
	doRenew     act = "renews"
	leaseEnds   act = "loses its lease"
	delayEnds   act = "sees the settle delay pass"
	holdEnds    act = "sees the hold pass"
	doCorrect   act = "has its outcome corrected, into what is not so"
	doForget    act = "has its record forgotten"
)

// fate is what becomes of a call of the store. All but heard are faults.
type fate string

const (
	heard    fate = ""
	repeated fate = ", and again, because the reply was lost"
	unheard  fate = ", but does not hear the reply"
	delayed  fate = ", but the request is delayed"
	early    fate = ", and answers before that is written"
)

func newModel(r rules) *model {
	m := &model{rules: r, store: store.NewMemory(store.MemoryOptions{})}
	if r.store != nil {
		m.store = r.store(m.store)
	}
	m.attemptOf(0)
	m.attemptOf(1)
	return m
}

// attemptOf is Temporal starting the next attempt of a call, if there is one.
func (m *model) attemptOf(call int) {
	if m.made[call] == m.most[call] {
		return
	}
	m.made[call]++
	holder := store.Holder{RunID: fmt.Sprint("run-", call), ActivityID: "1", OriginalRunID: fmt.Sprint("run-", call), Occurrence: 1}
	if m.reset {
		holder.OriginalRunID = "run-0"
	}
	m.attempts = append(m.attempts, &attempt{call: call, phase: claiming, request: unsent, bid: store.Bid{
		Key: modelKey, Owner: fmt.Sprint(len(m.attempts)), Lease: modelLease, TTL: 30 * 24 * time.Hour,
		Deadline: modelLease,
		Info:     store.Info{Match: "match", Holder: holder},
	}})
	if l := m.policy.InDoubt.Ledger(); l != nil {
		m.attempts[len(m.attempts)-1].bid.Info.Ledger = l.ID()
	}
}

func (m *model) load() store.Record {
	r, err := m.store.Load(context.Background(), modelKey)
	m.must(err)
	return r
}

func (m *model) must(err error) {
	if err != nil {
		m.breaks("the store answered %v", err)
	}
}

func (m *model) breaks(format string, args ...any) {
	if m.broken == "" {
		m.broken = fmt.Sprintf(format, args...)
	}
}

// moves lists all that can happen next.
func (m *model) moves() (all []move) {
	r := m.load()
	fault := m.faults < m.rules.faults
	age := r.Now.Sub(r.Doubted)
	settled := !slices.ContainsFunc(m.attempts, func(a *attempt) bool { return a.request == underway && !a.barred })
	for i, a := range m.attempts {
		can := func(possible bool, x act, faults ...fate) {
			if possible {
				all = append(all, move{x, heard, i})
			}
			for _, f := range faults {
				if possible && fault {
					all = append(all, move{x, f, i})
				}
			}
		}
		owns := r.Owner == a.bid.Owner
		live := a.phase == inBody || a.phase == writing
		body := a.phase == inBody
		can(a.phase == claiming || a.phase == taking, doClaim, repeated, unheard, delayed)
		can(a.phase == asking, doAsk)
		can(a.phase == resolving, doResolve, unheard)
		can(a.phase == givenUp, backRelease)
		can(a.pending, lateClaim)
		can(body && a.request == unsent && !a.cut, doSend)
		can(a.request == underway && !a.barred, doLand)
		can(body && a.request == landed, retOK, unheard, early)
		can(body && a.request == unsent, retUnlock, unheard, early)
		can(body && a.request == unsent, retLock, unheard, early)
		can(body && a.request == unsent, retFinal, unheard, early)
		can(body, retDoubt, unheard, early)
		can(a.phase == writing, doWrite)
		can((live || a.phase == givenUp) && fault, doCrash)
		can(body && fault && !a.silent, doTimeOut)
		can(live && owns && r.State == store.InDoubt && r.Marked, doRenew)
		can(owns && r.State == store.Running && r.Now.Before(r.LeaseEnd) && (fault || !live), leaseEnds)
		// What was sent lands within the settle delay. A message that never lands
		// is as one that was not sent.
		can(owns && r.State == store.InDoubt && age < modelDelay && settled, delayEnds)
		_, holds := m.policy.InDoubt.HoldTime()
		over := r.State == store.Succeeded || r.State == store.Failed
		can(owns && over && m.decided < m.operator, doCorrect)
		can(owns && over && m.decided < m.operator, doForget)
		can(owns && holds && r.State == store.InDoubt && age >= modelDelay && age < modelHold, holdEnds)
	}
	return all
}

// step makes x happen.
func (m *model) step(x move) {
	a := m.attempts[x.who]
	if x.fate != heard || x.act == doCrash || x.act == doTimeOut {
		m.faults++
	}
	switch x.act {
	case doClaim:
		m.claim(a, x.fate)
	case doAsk:
		a.phase, a.bid.Clean = taking, true
		if m.effect() >= 0 {
			a.phase = resolving
		} else if m.bars {
			m.bar(a.from.Owner)
		}
	case doResolve:
		m.resolve(a, x.fate)
	case lateClaim:
		a.pending = false
		_, _ = m.put(a)
	case backRelease:
		_, _ = m.store.Release(context.Background(), a.bid)
		a.phase = over
	case doSend:
		a.request = underway
	case doLand:
		a.request = landed
		m.checkEffects()
	case retOK, retUnlock, retLock, retFinal, retDoubt:
		a.phase, a.verdict = writing, x.act
		m.end(a, x.fate)
	case doWrite:
		m.end(a, heard)
	case doCorrect, doForget:
		m.decides(x.act)
	case doCrash:
		m.timeOut(a)
		a.phase = dead
	case doTimeOut:
		m.timeOut(a)
	default:
		m.pass(a, x.act)
	}
}

// bar has the ledger say that a run was not done, for good.
func (m *model) bar(owner string) {
	for _, a := range m.attempts {
		a.barred = a.barred || a.bid.Owner == owner
	}
}

// pass lets time go by, or ends what it did.
func (m *model) pass(a *attempt, x act) {
	r := m.load()
	switch x {
	case doRenew:
		_, err := m.store.Renew(context.Background(), a.bid)
		m.must(err)
		a.stale = false
	case leaseEnds:
		if a.phase == inBody || a.phase == writing {
			m.faults++
		}
		a.stale = true
		<-time.After(r.LeaseEnd.Sub(r.Now))
	case delayEnds:
		<-time.After(modelDelay - r.Now.Sub(r.Doubted))
		for _, a := range m.attempts {
			a.cut = a.cut || a.stale && m.policy.InDoubt.TakesOver() && !m.goesOn
		}
	case holdEnds:
		<-time.After(modelHold - r.Now.Sub(r.Doubted))
	}
}

func (m *model) timeOut(a *attempt) {
	if !a.silent && a.phase != givenUp {
		a.silent = true
		m.attemptOf(a.call)
	}
}

// put sends a's claim to the store.
func (m *model) put(a *attempt) (store.Record, error) {
	if a.from.State != store.Absent {
		return m.store.Takeover(context.Background(), a.bid, a.from)
	}
	return m.store.Acquire(context.Background(), a.bid)
}

// claim makes the claim. A guard that does not hear the answer releases the nonce
// and leaves the rest to the next attempt.
func (m *model) claim(a *attempt, f fate) {
	var r store.Record
	var err error
	if a.pending = f == delayed; !a.pending {
		r, err = m.put(a)
	}
	switch {
	case f == delayed, f == unheard:
		a.phase, a.silent = givenUp, true
		m.attemptOf(a.call)
	case f == repeated:
	case err == nil:
		a.from = store.Record{}
		m.obey(a, r)
	case errors.Is(err, store.ErrMoved), errors.Is(err, store.ErrSuperseded):
		a.phase, a.from = claiming, store.Record{}
	default:
		m.must(err)
	}
}

// decides is an operator who is wrong about a settled record, or has it erased.
func (m *model) decides(x act) {
	r := m.load()
	res := store.Resolution{ID: fmt.Sprint("operator", m.decided), To: store.Succeeded, By: store.ByOperator, Who: "ann", Why: "why", TTL: time.Hour}
	switch {
	case x == doForget:
		res.To, res.Erase = store.Tombstone, true
		m.epoch++
	case r.State == store.Succeeded:
		res.To = store.Failed
	}
	_, err := m.store.Resolve(context.Background(), modelKey, r, res)
	m.must(err)
	m.decided++
}

func (m *model) resolve(a *attempt, f fate) {
	by := m.effect()
	r, err := m.store.Resolve(context.Background(), modelKey, a.from, store.Resolution{
		ID: a.bid.Owner, To: store.Succeeded, By: store.ByReconcile, TTL: time.Hour,
		Outcome: store.Outcome{Data: []byte(m.attempts[by].bid.Owner)},
	})
	a.phase, a.from = claiming, store.Record{}
	switch {
	case f == unheard, errors.Is(err, store.ErrMoved):
	case err != nil:
		m.must(err)
	default:
		m.obey(a, r)
	}
}
