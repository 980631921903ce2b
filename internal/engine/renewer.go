package engine

import (
	"container/heap"
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// maxBatch bounds how many claims are renewed in one batch.
const maxBatch = 500

// renewer renews the claims of an engine, and cuts their bodies off in time. One timer
// does it for all of them; without claims there is none that runs.
//
// A claim is renewed a third of the lease after it was last, or a little earlier,
// together with others. Whatever takes time, the store and what observers make of a
// report, has goroutines of its own: nothing holds up the cut-off of another claim.
type renewer struct {
	store   measured
	batches store.BatchRenewer // nil: the store has none
	lease   time.Duration

	mu      sync.Mutex
	leases  leaseHeap
	watched int       // of them, those that other calls may take over by themselves
	watch   time.Time // when these are looked at again
	timer   *time.Timer
	armed   time.Time // when the timer fires; zero: it does not run
}

func newRenewer(s measured, o Options) *renewer {
	return &renewer{store: s, lease: o.Lease, batches: batchesOf(s.Store)}
}

// batchesOf returns the store's own batches. A type that embeds a store has the methods of
// that, too, but a batch of the inner store goes past what the outer one does in Renew: such
// a store is asked for each claim.
func batchesOf(s store.Store) store.BatchRenewer {
	batches, ok := s.(store.BatchRenewer)
	if !ok {
		return nil
	}
	t, renews := reflect.TypeOf(s), reflect.TypeFor[store.BatchRenewer]()
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Struct {
		for i := range t.NumField() {
			if f := t.Field(i); f.Anonymous && (f.Type.Implements(renews) || reflect.PointerTo(f.Type).Implements(renews)) {
				return nil
			}
		}
	}
	return batches
}

// every is how often a claim is renewed.
func (r *renewer) every() time.Duration { return r.lease / 3 }

// slack is how much earlier a claim may be renewed, so that one round trip does for
// several.
func (r *renewer) slack() time.Duration { return r.lease / 60 }

// add takes care of a lease from now on.
func (r *renewer) add(l *lease) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	l.renewal = now.Add(r.every())
	l.plan(now)
	heap.Push(&r.leases, l)
	if l.takesOver {
		if r.watched++; r.watched == 1 {
			r.watch = now.Add(r.lease / 20)
		}
	}
	r.arm(now)
}

// remove takes care of it no longer. The timer then fires for nothing at most once.
func (r *renewer) remove(l *lease) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(l)
}

// drop is remove under the lock.
func (r *renewer) drop(l *lease) {
	if l.index < 0 {
		return
	}
	heap.Remove(&r.leases, l.index)
	if l.takesOver {
		r.watched--
	}
	if l.round != nil {
		l.round.leave()
	}
}

// round is one renewal of one or more claims. When the last of them has ended, so does
// the renewal.
type round struct {
	ctx    context.Context
	cancel context.CancelFunc
	open   int // claims that wait for its answer; under the renewer's lock
}

func (r *round) leave() {
	if r.open--; r.open == 0 {
		r.cancel()
	}
}

// begin returns the round of leases. The lock is held.
func (r *renewer) begin(ctx context.Context, of []*lease) *round {
	begun := &round{open: len(of)}
	begun.ctx, begun.cancel = context.WithTimeout(ctx, max(r.every(), 10*time.Millisecond))
	for _, l := range of {
		l.round = begun
	}
	return begun
}

// arm has the timer fire when there is something to do. The lock is held.
func (r *renewer) arm(now time.Time) {
	if len(r.leases) == 0 {
		return
	}
	next := r.leases[0].next
	if r.watched > 0 && r.watch.Before(next) {
		next = r.watch
	}
	if !r.armed.IsZero() && !next.Before(r.armed) {
		return
	}
	r.armed = next
	if r.timer == nil {
		r.timer = time.AfterFunc(next.Sub(now), r.fire)
	} else {
		r.timer.Reset(next.Sub(now))
	}
}

// fire does what is due.
func (r *renewer) fire() {
	now := time.Now()
	r.mu.Lock()
	r.armed = time.Time{}
	if r.watched > 0 && !now.Before(r.watch) {
		// No timer follows the wall clock. Where nobody takes over, the look at each
		// renewal is enough.
		for _, l := range r.leases {
			if l.takesOver {
				l.judge(now)
			}
		}
		r.watch = now.Add(r.lease / 20)
	}
	rounds := r.rounds(now, r.due(now))
	r.arm(now)
	r.mu.Unlock()
	for _, renew := range rounds {
		go renew()
	}
}

// due judges the leases whose time has come, and returns those to renew. The lock is
// held.
func (r *renewer) due(now time.Time) (due []*lease) {
	var looked []*lease
	soon := now.Add(r.slack())
	for len(r.leases) > 0 && r.leases[0].next.Before(soon) {
		l := heap.Pop(&r.leases).(*lease)
		looked = append(looked, l)
		l.judge(now) // a renewal does not bring back what is over
		if !l.renewal.Before(soon) {
			l.plan(now)
			continue
		}
		if !l.takesOver {
			l.body.seenAlive(now)
		}
		if l.round != nil { // it is renewed again soon after that has ended
			l.renewal = now.Add(r.slack())
		} else {
			// What does not fit into a batch comes earlier next time, in one of its own.
			l.renewal = now.Add(r.every() - time.Duration(len(due)/maxBatch%20)*r.slack())
			due = append(due, l)
		}
		l.plan(now)
	}
	for _, l := range looked {
		heap.Push(&r.leases, l)
	}
	return due
}

// rounds returns what renews the claims of leases. The lock is held.
func (r *renewer) rounds(sent time.Time, due []*lease) (rounds []func()) {
	one := 1
	if r.batches != nil || r.store.returns {
		one = maxBatch
	}
	for batch := range slices.Chunk(due, one) {
		ctx := context.Background()
		if len(batch) == 1 {
			ctx = context.WithoutCancel(batch[0].ctx)
		}
		begun := r.begin(ctx, batch)
		rounds = append(rounds, func() {
			defer begun.cancel()
			defer r.unanswered(batch, begun, sent) // also if the store panics or ends the goroutine
			quietly(func() {
				if r.batches != nil {
					r.renewAll(begun, sent, batch)
					return
				}
				for _, l := range batch {
					record, err := r.store.Renew(begun.ctx, *l.bid)
					r.renewed(l, begun, sent, store.Renewed{Record: record, Err: err})
				}
			})
		})
	}
	return rounds
}

func (r *renewer) renewAll(begun *round, sent time.Time, batch []*lease) {
	bids := make([]store.Bid, len(batch))
	for i, l := range batch {
		bids[i] = *l.bid
	}
	answers := r.batches.RenewAll(begun.ctx, bids)
	r.store.took(context.WithoutCancel(batch[0].ctx), "renew", bids[0].Info.Holder.Namespace, time.Since(sent), failed(answers))
	for i := range min(len(batch), len(answers)) {
		r.renewed(batch[i], begun, sent, answers[i])
	}
}

var errUnanswered = errors.New("store: no answer to a renewal")

// unanswered has the renewals of a round fail that got no answer.
func (r *renewer) unanswered(batch []*lease, begun *round, sent time.Time) {
	for _, l := range batch {
		r.renewed(l, begun, sent, store.Renewed{Err: errUnanswered})
	}
}

// failed returns an error of a batch that says nothing about one of its claims.
func failed(answers []store.Renewed) error {
	for _, a := range answers {
		if a.Err != nil && !definite(a.Err) {
			return a.Err
		}
	}
	return nil
}

// renewed takes the answer to a renewal of that round.
func (r *renewer) renewed(l *lease, begun *round, sent time.Time, a store.Renewed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.index < 0 || l.round != begun {
		return // it has ended meanwhile, or was answered
	}
	l.round = nil
	ctx := context.WithoutCancel(l.ctx)
	switch {
	case a.Err == nil:
		if l.takesOver {
			l.body.seenAlive(sent) // the store counts from when it got it, which was later
		}
	case errors.Is(a.Err, store.ErrSuperseded):
		// Not by this claim's own settle, which a renewal may come after.
		if a.Record.Owner == l.bid.Owner && a.Record.By != store.ByOperator {
			return
		}
		r.drop(l)
		l.body.lose(time.Now(), errSuperseded)
		l.reports.Go(func() { l.account.noticeLeaseLost(ctx, store.Record{}, errSuperseded) })
	case errors.Is(a.Err, store.ErrGone):
		go l.account.notice(ctx, observe.StoreLost, a.Record, a.Err)
	default:
		go l.account.notice(ctx, observe.RenewFailed, a.Record, a.Err)
	}
}

// leaseHeap has the lease that is to be looked at next at its top.
type leaseHeap []*lease

func (h leaseHeap) Len() int           { return len(h) }
func (h leaseHeap) Less(i, j int) bool { return h[i].next.Before(h[j].next) }
func (h leaseHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *leaseHeap) Push(x any) {
	l := x.(*lease)
	l.index = len(*h)
	*h = append(*h, l)
}

func (h *leaseHeap) Pop() any {
	last := len(*h) - 1
	l := (*h)[last]
	(*h)[last] = nil
	*h, l.index = (*h)[:last], -1
	return l
}
