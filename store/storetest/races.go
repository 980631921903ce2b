package storetest

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

const (
	// abreast is how many races run at once, each about a key of its own.
	abreast = 32
	// raceTTL is the TTL of what is to expire during a race.
	raceTTL = 30 * time.Millisecond
	// widest bounds by how much the two sides of a race start apart.
	widest = 8 * time.Millisecond
	// even is how often, of so many races, each side must win at least once.
	even = 100
)

// Races runs n races of each of an operator's decisions, a correction, a resolution
// and an erasure, against an owner that heals its record, against a takeover, and
// against the record's expiry. In each of them two operators decide about the same
// reading: no decision that was acknowledged may be lost, and one order of all calls
// must explain all answers. [Run] does the same with few.
//
// Calls may fail, but not most of them. From 100 races on, both sides must win some.
func Races(t *testing.T, newHarness func(t *testing.T) Harness, n int) {
	t.Helper()
	for _, c := range races(n) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.checkAround(t, newHarness(t))
		})
	}
}

var raceCases = races(8)

func races(n int) (all []testCase) {
	for _, c := range contests {
		all = append(all, testCase{
			c.decision + " against " + c.rival,
			"Whatever a decision meets: it is written about the record that was looked at, once, and stays in the history, or it is refused with ErrMoved. Nothing that was acknowledged is overwritten unseen.",
			func(k *kit) { c.races(k, n) },
		})
	}
	return all
}

// A contest is one decision against one rival.
type contest struct {
	decision, rival string
	// prepare makes the record that is decided about, and returns it. It may be in
	// any state that the rival's calls allow for.
	prepare func(r *race, n int) store.Record
	decide  func(r *race, operator int, from store.Record) // by r.decide
	against func(r *race, from store.Record)
}

var contests = []contest{
	{"a correction", "a healing owner", (*race).overruled, (*race).corrects, (*race).heals},
	{"a correction", "a takeover", (*race).leftOpen, (*race).resolvesAndCorrects, (*race).takesOver},
	{"a correction", "the expiry", (*race).settlesBriefly, (*race).corrects, (*race).claims},
	{"a resolution", "a healing owner", (*race).mayHeal, (*race).resolves, (*race).heals},
	{"a resolution", "a takeover", (*race).leftOpen, (*race).resolves, (*race).takesOver},
	{"a resolution", "the expiry", (*race).doubtsBriefly, (*race).resolves, (*race).claims},
	{"an erasure", "a healing owner", (*race).overruledOrOpen, (*race).erases, (*race).heals},
	{"an erasure", "a takeover", (*race).leftOpen, (*race).erases, (*race).takesOver},
	{"an erasure", "the expiry", (*race).settlesBriefly, (*race).erases, (*race).claims},
}

// race is one run of a contest. Its clients are two operators, and two owners: the
// first one of the record, and the one that takes the key over or claims it anew.
type race struct {
	*history
	key       string
	owner     *claim
	from      store.Record // what both operators have read
	decisions sync.Map     // by ID: whether it was written, if that was answered
	written   atomic.Int32 // decisions about from
}

// races runs n races of a contest, abreast of each other, and checks each.
func (c contest) races(k *kit, n int) {
	k.Helper()
	var sum tally
	var lead atomic.Int64 // by how much the operators start before their rival
	var decided, refused int
	handles := make([]store.Store, historyClients)
	for i := range handles {
		handles[i] = k.open()
	}
	for first := 0; first < n; first += abreast {
		all := make([]*race, min(abreast, n-first))
		var batch sync.WaitGroup
		for i := range all {
			all[i] = &race{history: newHistory(k, &sum, first+i, handles)}
			batch.Go(func() { all[i].run(c, first+i, &lead) })
		}
		batch.Wait()
		for _, r := range all {
			r.history.check()
			r.nothingLost()
			if r.written.Load() > 0 {
				decided++
			} else {
				refused++
			}
		}
	}
	k.that(n < even || decided > 0 && refused > 0, "this was no race: the operators decided in %d of %d", decided, n)
	if n >= even {
		k.Logf("the operators decided in %d of %d, the rival came first in %d; %d calls, %d not answered", decided, n, refused, sum.calls.Load(), sum.unanswered.Load())
	}
}

// run makes the calls of one race. Whoever is first gets a handicap in the next one.
func (r *race) run(c contest, n int, lead *atomic.Int64) {
	r.key = r.keys[0]
	from := c.prepare(r, n)
	r.from = from
	late, ahead := time.Duration(0), time.Duration(lead.Load())
	if life := from.Expires.Sub(from.Now); !from.Expires.IsZero() && life < longTTL/2 {
		r.h.Pass(r.TB, life-widest)
		late = widest // until the rival finds it gone
	}
	var both sync.WaitGroup
	for operator := range 2 {
		both.Go(func() {
			r.waits(late - ahead)
			c.decide(r, operator, from)
		})
	}
	both.Go(func() {
		r.waits(max(late, ahead))
		c.against(r, from)
	})
	both.Wait()
	r.clients[0].send(call{verb: "Load", key: r.key})
	step := int64(100 * time.Microsecond)
	if r.written.Load() > 0 {
		step = -step
	}
	if next := lead.Load() + step; time.Duration(next).Abs() <= widest {
		lead.Store(next)
	}
}

func (r *race) waits(d time.Duration) {
	if d > 0 {
		r.h.Pass(r.TB, d)
	}
	for range rand.IntN(4) {
		runtime.Gosched()
	}
}

// by makes a call of a claim, and returns the answer.
func (r *race) by(client int, c *claim, x call) store.Record {
	x.key, x.claim, x.bid = r.key, c, c.bid
	r.clients[client].send(x)
	return r.clients[client].seen[r.key]
}

func (r *race) newClaim(owner string, ttl time.Duration) *claim {
	b := bid(owner)
	b.Key, b.TTL = r.key, ttl
	return &claim{bid: b, s: r.clients[2].s}
}

// begins returns the record of an owner that runs.
func (r *race) begins(ttl time.Duration) store.Record {
	r.owner = r.newClaim("a", ttl)
	return r.by(2, r.owner, call{verb: "Acquire"})
}

func (r *race) ends(o store.Outcome) store.Record {
	return r.by(2, r.owner, call{verb: "Settle", outcome: o})
}

func (r *race) leftOpen(n int) store.Record {
	r.begins(longTTL)
	return r.ends([]store.Outcome{inDoubt, pending}[n%2])
}

// mayHeal may be running: it is then decided by force.
func (r *race) mayHeal(n int) store.Record {
	from := r.begins(longTTL)
	if n%2 == 0 {
		from = r.ends(inDoubt)
	}
	return from
}

// overruled is a record that an operator has settled before its owner.
func (r *race) overruled(n int) store.Record {
	return r.decide(0, "before", r.mayHeal(n), decisions[n/2%2], false)
}

func (r *race) overruledOrOpen(n int) store.Record {
	if n%3 == 0 {
		return r.overruled(n)
	}
	return r.mayHeal(n)
}

func (r *race) settlesBriefly(n int) store.Record {
	r.begins(raceTTL)
	return r.ends(outcomes[n%2])
}

func (r *race) doubtsBriefly(int) store.Record {
	r.begins(raceTTL)
	return r.ends(inDoubt)
}

// decide makes a decision, and returns the record as it then is.
func (r *race) decide(operator int, id string, from store.Record, to store.State, erases bool) store.Record {
	res := decide(fmt.Sprintf("%s-%d", id, operator), to)
	res.Erase, res.Force = erases, true
	c := r.clients[operator]
	a := c.send(call{verb: "Resolve", key: r.key, from: from, resolution: res})
	if !a.silent {
		r.decisions.Store(res.ID, a.verdict == nil)
	}
	if a.verdict == nil && !a.silent && from.Revision == r.from.Revision {
		r.written.Add(1)
	}
	return c.seen[r.key]
}

func (r *race) resolves(operator int, from store.Record) {
	r.decide(operator, "resolve", from, pick(decisions...), false)
}

func (r *race) corrects(operator int, from store.Record) {
	r.decide(operator, "correct", from, other(from.State), false)
}

func (r *race) resolvesAndCorrects(operator int, from store.Record) {
	if now := r.decide(operator, "resolve", from, store.Succeeded, false); now.State == store.Succeeded {
		r.corrects(operator, now)
	}
}

func (r *race) erases(operator int, from store.Record) {
	r.decide(operator, "erase", from, store.Tombstone, true)
}

// other is what a correction makes of a settled state.
func other(state store.State) store.State {
	if state == store.Succeeded {
		return store.Failed
	}
	return store.Succeeded
}

// heals is an owner that comes late.
func (r *race) heals(from store.Record) {
	if from.State == store.Running {
		r.by(2, r.owner, call{verb: "Renew"})
	}
	r.ends(succeeded("healed"))
}

func (r *race) takesOver(from store.Record) {
	b := r.newClaim("b", longTTL)
	if r.by(3, b, call{verb: "Takeover", from: from}).Owned("b") {
		r.by(3, b, call{verb: "Settle", outcome: succeeded("taken over")})
	}
}

func (r *race) claims(store.Record) {
	r.by(3, r.newClaim("c", longTTL), call{verb: "Acquire"})
}

// nothingLost checks that the history has what was acknowledged, and nothing that
// was refused.
func (r *race) nothingLost() {
	r.Helper()
	now := r.clients[0].seen[r.key]
	noted := map[string]int{}
	for _, e := range now.History {
		noted[e.ID]++
	}
	from := map[string]bool{}
	r.decisions.Range(func(id, written any) bool {
		r.that(written.(bool) == (noted[id.(string)] == 1), "decision %s was written: %v; the history has it %d times: %+v", id, written, noted[id.(string)], now.History)
		what := id.(string)[:len(id.(string))-2]
		r.that(!written.(bool) || !from[what], "two operators decided about one reading: %+v", now.History)
		from[what] = from[what] || written.(bool)
		return true
	})
	for _, c := range r.clients[2:] {
		if last := c.last; last.verb == "Settle" && !c.silent {
			r.successKept(now, last)
		}
	}
}

// successKept checks that the last success of an owner that was heard is in the
// record, or in its history.
func (r *race) successKept(now store.Record, settle call) {
	r.Helper()
	kept := sameOutcome(now.Outcome, settle.outcome)
	for _, e := range now.History {
		kept = kept || e.Owner == settle.bid.Owner && (e.What == store.TurnConflict || e.From == store.Succeeded)
	}
	r.that(settle.outcome.State != store.Succeeded || kept, "the success of %s is lost: %+v", settle.bid.Owner, now)
}
