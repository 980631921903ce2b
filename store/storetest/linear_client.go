package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// mortalLease is the lease of claims that die with their handle.
const mortalLease = 2 * time.Millisecond

// A call is one call of a history.
type call struct {
	verb       string
	key        string
	claim      *claim // whose bid it is
	bid        store.Bid
	outcome    store.Outcome    // of Settle
	from       store.Record     // of Takeover and Resolve
	resolution store.Resolution // of Resolve
}

func (c call) on(ctx context.Context, s store.Store) (store.Record, error) {
	switch c.verb {
	case "Acquire":
		return s.Acquire(ctx, c.bid)
	case "Renew":
		return s.Renew(ctx, c.bid)
	case "Settle":
		return s.Settle(ctx, c.bid, c.outcome)
	case "Release":
		return s.Release(ctx, c.bid)
	case "Takeover":
		return s.Takeover(ctx, c.bid, c.from)
	case "Resolve":
		return s.Resolve(ctx, c.key, c.from, c.resolution)
	}
	return s.Load(ctx, c.key)
}

func (c call) String() string {
	from := fmt.Sprintf("from %q, fence %d, revision %d", c.from.State, c.from.Fence, c.from.Revision)
	switch c.verb {
	case "Load":
		return c.verb
	case "Resolve":
		return fmt.Sprintf("%s %s to %q by %s (force %v, erase %v), %s", c.verb, c.resolution.ID, c.resolution.To, c.resolution.By, c.resolution.Force, c.resolution.Erase, from)
	case "Settle":
		return fmt.Sprintf("%s %s fence %d to %q %q", c.verb, c.bid.Owner, c.bid.Fence, c.outcome.State, c.outcome.Data)
	case "Release":
		return fmt.Sprintf("%s %s fence %d (began %v)", c.verb, c.bid.Owner, c.bid.Fence, c.bid.Began)
	case "Takeover":
		return fmt.Sprintf("%s %s (clean %v), %s", c.verb, c.bid.Owner, c.bid.Clean, from)
	}
	return fmt.Sprintf("%s %s fence %d", c.verb, c.bid.Owner, c.bid.Fence)
}

// A claim is a client's, with its fence once that is known.
type claim struct {
	bid  store.Bid
	s    store.Store
	told bool // that it has the key
}

// A client makes the calls that guards make, in any order: its claims are
// granted, superseded, given up and come back late. Only what was granted is
// renewed or settled.
type client struct {
	h      *history
	id     int
	s      store.Store
	doomed store.Store // for this round's claims, if not nil
	nonces int

	claims map[string][]*claim     // by key
	seen   map[string]store.Record // the last answer, by key
	last   call
	silent bool // the last call was not answered

	late sync.WaitGroup
	held []func() // calls on their way
}

func newClient(h *history, id int, s store.Store) *client {
	return &client{h: h, id: id, s: s, claims: map[string][]*claim{}, seen: map[string]store.Record{}}
}

func (c *client) nonce(kind string) string {
	c.nonces++
	return fmt.Sprintf("%s%d-%d", kind, c.id, c.nonces)
}

// next chooses a call.
func (c *client) next() call {
	if c.silent && rand.IntN(2) == 0 {
		return c.last
	}
	key := pick(c.h.keys...)
	from := c.seen[key]
	switch rand.IntN(10) {
	case 0:
		return call{verb: "Load", key: key}
	case 1:
		if from.State != store.Absent {
			return call{verb: "Resolve", key: key, from: from, resolution: c.decision()}
		}
	}
	if len(c.claims[key]) == 0 || rand.IntN(4) == 0 {
		c.claims[key] = append(c.claims[key], c.newClaim(key))
	}
	claims := c.claims[key]
	x := call{key: key, claim: claims[max(0, len(claims)-1-rand.IntN(3))], from: from}
	switch unsettled := from.State == store.InDoubt || from.State == store.Pending; {
	case x.claim.told:
		x.verb = pick("Acquire", "Renew", "Settle", "Settle", "Settle", "Release", "Takeover")
	case unsettled:
		x.verb = pick("Acquire", "Takeover", "Takeover", "Release")
	default:
		x.verb = pick("Acquire", "Acquire", "Acquire", "Release", "Takeover")
	}
	x.bid = x.claim.bid
	if rand.IntN(4) == 0 {
		x.bid.Fence = 0
	}
	x.bid.Clean, x.bid.Began = rand.IntN(2) == 0, rand.IntN(4) > 0
	if x.verb == "Settle" {
		x.outcome = pick(succeeded(c.nonce("s")), succeeded(c.nonce("s")), failed(c.nonce("f")), inDoubt, doubtful(c.nonce("d")), pending)
	}
	return x
}

func (c *client) newClaim(key string) *claim {
	b := bid(c.nonce("c"))
	b.Key = key
	if c.doomed == nil {
		return &claim{bid: b, s: c.s}
	}
	b.Lease = mortalLease
	return &claim{bid: b, s: c.doomed}
}

func (c *client) decision() store.Resolution {
	r := decide(c.nonce("d"), pick(store.Succeeded, store.Failed, store.Tombstone, store.Tombstone))
	r.By, r.Force = pick(store.ByOperator, store.ByReconcile), rand.IntN(4) == 0
	if r.To != store.Tombstone {
		r.Outcome.Data = []byte(r.ID)
	}
	r.Erase = r.To == store.Tombstone && rand.IntN(4) == 0
	return r
}

func pick[T any](from ...T) T { return from[rand.IntN(len(from))] }

// call makes x, and loses one of eight on the way.
func (c *client) call(x call) {
	for range rand.IntN(4) {
		runtime.Gosched()
	}
	c.last, c.silent = x, true
	for i := len(c.held) - 1; i >= 0; i-- {
		if rand.IntN(8) == 0 {
			c.late.Go(c.held[i])
			c.held = slices.Delete(c.held, i, i+1)
		}
	}
	if rand.IntN(8) > 0 {
		c.send(x)
		return
	}
	ctx, s, began := c.h.ctx, c.handle(x), c.h.clock.Add(1)
	a := answer{silent: true}
	switch rand.IntN(4) {
	case 0: // the call
	case 1: // its answer
		_, _ = x.on(ctx, s)
	case 2: // the caller's patience, before the call arrives
		c.held = append(c.held, func() { _, _ = x.on(ctx, s) })
	case 3: // the caller's patience, meanwhile
		ctx, cancel := context.WithCancel(ctx)
		go func() {
			for range rand.IntN(100) {
				runtime.Gosched()
			}
			cancel()
		}()
		a = c.hear(x)(x.on(ctx, s))
		cancel()
	}
	if a.silent {
		c.h.sum.lost.Add(1)
	}
	c.h.add(c.id, x, began, a)
}

// send makes x and waits for the answer.
func (c *client) send(x call) answer {
	s, began := c.handle(x), c.h.clock.Add(1)
	a := c.hear(x)(x.on(c.h.ctx, s))
	c.h.add(c.id, x, began, a)
	return a
}

func (c *client) handle(x call) store.Store {
	if x.claim == nil {
		return c.s
	}
	return x.claim.s
}

// hear remembers what x was answered.
func (c *client) hear(x call) func(store.Record, error) answer {
	return func(r store.Record, err error) answer {
		a := answerOf(r, err)
		if c.silent = a.silent; a.silent {
			c.h.failed(err)
			return a
		}
		c.seen[x.key] = r
		if x.claim != nil && r.Owned(x.bid.Owner) {
			x.claim.told, x.claim.bid.Fence = true, r.Fence
		}
		return a
	}
}

// arrive lets all calls arrive that are on their way.
func (c *client) arrive() {
	for _, send := range c.held {
		c.late.Go(send)
	}
	c.held = nil
	c.late.Wait()
}

// move makes all further calls from the process that stays.
func (c *client) move() {
	c.arrive()
	for _, claims := range c.claims {
		for _, claim := range claims {
			claim.s = c.s
		}
	}
	c.doomed = nil
}
