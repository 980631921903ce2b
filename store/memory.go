package store

import (
	"container/heap"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// MemoryOptions are the options of NewMemory. The zero value is usable.
type MemoryOptions struct {
	// MaxRecords bounds the store; a new key over the bound gets ErrFull, since
	// evicting a record would allow its effect to happen again. Defaults to
	// 1,000,000.
	MaxRecords int
}

// Memory keeps records in the memory of one process. It protects against
// everything but the end of that process: for tests, and for activities whose
// duplicates always meet the same worker.
type Memory struct {
	limit   int
	mu      sync.Mutex
	entries map[string]*entry
	expiry  expiryHeap
	open    openList
	notices notices
}

type entry struct {
	record Record
	index  int // in the expiry heap; -1 if kept forever
	open   int // in the list of what is open; -1 if it is not
}

var (
	_ Store    = (*Memory)(nil)
	_ Kinded   = (*Memory)(nil)
	_ Notifier = (*Memory)(nil)
)

// NewMemory returns an empty store. It needs no closing.
func NewMemory(o MemoryOptions) *Memory {
	if o.MaxRecords <= 0 {
		o.MaxRecords = 1_000_000
	}
	return &Memory{limit: o.MaxRecords, entries: make(map[string]*entry)}
}

// Acquire implements [Store].
func (m *Memory) Acquire(ctx context.Context, b Bid) (Record, error) {
	if err := b.Validate(); err != nil {
		return Record{}, err
	}
	return m.update(ctx, b.Key, func(r *Record, now time.Time) (bool, error) {
		return r.acquire(b, now, !now.Before(r.LeaseEnd))
	})
}

// Renew implements [Store].
func (m *Memory) Renew(ctx context.Context, b Bid) (Record, error) {
	if err := b.Validate(); err != nil {
		return Record{}, err
	}
	return m.update(ctx, b.Key, func(r *Record, now time.Time) (bool, error) {
		return r.renew(b, now)
	})
}

// Settle implements [Store].
func (m *Memory) Settle(ctx context.Context, b Bid, o Outcome) (Record, error) {
	if err := b.Validate(); err != nil {
		return Record{}, err
	}
	if err := o.Validate(); err != nil {
		return Record{}, err
	}
	o.Data = slices.Clone(o.Data)
	return m.update(ctx, b.Key, func(r *Record, now time.Time) (bool, error) {
		return r.settle(b, o, now)
	})
}

// Release implements [Store].
func (m *Memory) Release(ctx context.Context, b Bid) (Record, error) {
	if err := b.Validate(); err != nil {
		return Record{}, err
	}
	return m.update(ctx, b.Key, func(r *Record, now time.Time) (bool, error) {
		return r.release(b, now)
	})
}

// Takeover implements [Store].
func (m *Memory) Takeover(ctx context.Context, b Bid, from Record) (Record, error) {
	if err := b.Validate(); err != nil {
		return Record{}, err
	}
	return m.update(ctx, b.Key, func(r *Record, now time.Time) (bool, error) {
		return r.takeover(b, from, now)
	})
}

// Resolve implements [Store].
func (m *Memory) Resolve(ctx context.Context, key string, from Record, res Resolution) (Record, error) {
	if err := res.Validate(); err != nil {
		return Record{}, err
	}
	res.Outcome.Data = slices.Clone(res.Outcome.Data)
	return m.update(ctx, key, func(r *Record, now time.Time) (bool, error) {
		return r.resolve(res, from, now)
	})
}

// Load implements [Store].
func (m *Memory) Load(ctx context.Context, key string) (Record, error) {
	return m.update(ctx, key, func(*Record, time.Time) (bool, error) { return false, nil })
}

// Clear forgets everything. It is for tests: effects may then happen again.
func (m *Memory) Clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.entries)
	m.expiry, m.open = nil, nil
	m.notices.sendAll()
}

// Notify implements [Notifier].
func (m *Memory) Notify(key string, changed chan<- struct{}) (stop func()) {
	return m.notices.add(key, changed)
}

// Kind implements [Kinded].
func (m *Memory) Kind() string { return "memory" }

func (m *Memory) update(ctx context.Context, key string, turn func(*Record, time.Time) (bool, error)) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.forget(now)
	e, found := m.entries[key]
	if !found {
		e = &entry{record: Record{Key: key}, index: -1, open: -1}
	}
	was := e.record.State
	changed, err := turn(&e.record, now)
	if changed && !found {
		if len(m.entries) >= m.limit {
			return Record{}, fmt.Errorf("%w: %d records", ErrFull, m.limit)
		}
		m.entries[key] = e
	}
	if changed {
		m.expiry.place(e)
		m.open.place(e)
		if mayEndAWait(was, e.record.State) {
			m.notices.send(key)
		}
	}
	r := e.record.clone()
	r.Now = now
	return r, err
}

// forget removes what is past its expiry.
func (m *Memory) forget(now time.Time) {
	for len(m.expiry) > 0 && m.expiry[0].record.expired(now) {
		e := heap.Pop(&m.expiry).(*entry)
		delete(m.entries, e.record.Key)
		m.open.remove(e)
	}
}

// expiryHeap orders entries by expiry, so that forgetting never scans.
type expiryHeap []*entry

func (h expiryHeap) Len() int           { return len(h) }
func (h expiryHeap) Less(i, j int) bool { return h[i].record.Expires.Before(h[j].record.Expires) }
func (h expiryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *expiryHeap) Push(x any) {
	e := x.(*entry)
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *expiryHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	e.index = -1
	return e
}

func (h *expiryHeap) place(e *entry) {
	switch forever := e.record.Expires.IsZero(); {
	case e.index >= 0 && forever:
		heap.Remove(h, e.index)
	case e.index >= 0:
		heap.Fix(h, e.index)
	case !forever:
		heap.Push(h, e)
	}
}
