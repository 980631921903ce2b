package redisstore

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// batches has calls that come at once share round trips. A call that is alone goes
// on its own, at once, on its own goroutine. While lanesEach are under way to a master,
// further ones gather; whoever returns first has all of them sent in one pipeline.
//
// That changes no call: each is recognized when it is repeated, each has its own error,
// and nothing is promised of the order of calls that come at once. A Cluster's masters
// have lanes of their own: one that hangs holds up nobody else's calls. Where the
// client waits for replicas, WAIT is about one connection, and nothing is shared.
type batches struct {
	keys keyspace

	mu    sync.Mutex
	lanes map[string]*lane // by a master's address; of the one server by none
}

// lanesEach is how many round trips to a master are under way before calls gather.
const lanesEach = 2

// largeCall is how many bytes a call sends at least that takes part in no batch.
const largeCall = 64 << 10

type lane struct {
	busy    int
	waiting []*shared
}

// shared is a call that waits for others to take it along.
type shared struct {
	ctx   context.Context //nolint:containedctx // the batch lasts as long as its last call
	add   func(redis.Pipeliner)
	taken bool
	gone  bool // its caller has left before it was taken: it is not sent
	done  chan struct{}
}

func newBatches(keys keyspace) *batches {
	return &batches{keys: keys, lanes: map[string]*lane{}}
}

// run calls alone, or has add called for a pipeline with others. It reports false in
// the second case, and an error if ctx has ended before there was an answer.
func (b *batches) run(ctx context.Context, name string, alone func(), add func(redis.Pipeliner)) (own bool, err error) {
	l, ok := b.lane(ctx, name)
	if !ok {
		alone()
		return true, nil
	}
	b.mu.Lock()
	if l.busy < lanesEach {
		l.busy++
		b.mu.Unlock()
		defer b.leave(l)
		alone()
		return true, nil
	}
	c := &shared{ctx: ctx, add: add, done: make(chan struct{})}
	l.waiting = append(l.waiting, c)
	b.mu.Unlock()
	select {
	case <-c.done:
		return false, nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c.gone = !c.taken
	return false, ctx.Err()
}

func (b *batches) lane(ctx context.Context, name string) (*lane, bool) {
	addr := ""
	if cluster, ok := b.keys.client.(clustered); ok {
		node, err := cluster.MasterForKey(ctx, name)
		if err != nil {
			return nil, false
		}
		addr = node.Options().Addr
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.lanes[addr]
	if l == nil {
		l = &lane{}
		b.lanes[addr] = l
	}
	return l, true
}

// leave ends a round trip. If calls have gathered, their own follows.
func (b *batches) leave(l *lane) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(l.waiting) == 0 {
		l.busy--
		return
	}
	go b.send(l)
}

// send sends what has gathered, until nothing is left.
func (b *batches) send(l *lane) {
	for {
		runtime.Gosched() // who has just been answered may ask again: take it along
		calls := b.take(l)
		if len(calls) == 0 {
			return
		}
		ctx, cancel := lasting(calls)
		p := b.keys.client.Pipeline()
		for _, c := range calls {
			c.add(p)
		}
		_, _ = p.Exec(ctx) // each command has its error
		cancel()
		for _, c := range calls {
			close(c.done)
		}
	}
}

// take returns what has gathered, and gives the lane up if that is nothing.
func (b *batches) take(l *lane) (calls []*shared) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for ; n < len(l.waiting) && len(calls) < pipelined; n++ {
		if c := l.waiting[n]; !c.gone {
			c.taken = true
			calls = append(calls, c)
		}
	}
	l.waiting = slices.Delete(l.waiting, 0, n)
	if len(calls) == 0 {
		l.busy--
	}
	return calls
}

// lasting is the context of a batch: it ends with the deadline of the last of its
// calls, so that none is ended by another's.
func lasting(calls []*shared) (context.Context, context.CancelFunc) {
	ctx, last := context.WithoutCancel(calls[0].ctx), time.Time{}
	for _, c := range calls {
		deadline, ok := c.ctx.Deadline()
		if !ok {
			return ctx, func() {}
		}
		if deadline.After(last) {
			last = deadline
		}
	}
	return context.WithDeadline(ctx, last)
}
