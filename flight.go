package atmostonce

import (
	"bytes"
	"context"
	"sync"

	"github.com/atmostonce/atmostonce/store"
)

// flights let the calls of one process that wait for one key wait for the first of
// them, which alone asks the store.
type flights struct {
	mu  sync.Mutex
	all map[string]*flight // by key
}

// flight is the first call of a key, for those that wait for it.
type flight struct {
	of     *flights
	key    string
	landed bool
	ended  chan struct{}
	record *store.Record // settled; to be read when it has ended, as again is
	again  bool          // it answers for itself alone: the next one may try
}

// enter returns the flight that this call is, or what it has waited for: the settled
// record. It returns neither where the call is to ask the store itself.
func (f *flights) enter(ctx context.Context, stop <-chan struct{}, key string) (own *flight, seen *store.Record) {
	for {
		f.mu.Lock()
		first, busy := f.all[key]
		if !busy {
			own = &flight{of: f, key: key, ended: make(chan struct{}), again: true}
			f.all[key] = own
		}
		f.mu.Unlock()
		if !busy {
			return own, nil
		}
		select {
		case <-first.ended:
			if first.record != nil {
				r := *first.record
				r.Outcome.Data = bytes.Clone(r.Outcome.Data)
				return nil, &r
			}
			if !first.again {
				return nil, nil
			}
		case <-ctx.Done():
			return nil, nil
		case <-stop:
			return nil, nil
		}
	}
}

// meet ends the flight with a settled record. Who calls after that asks the store.
func (f *flight) meet(r store.Record) {
	if !f.landed {
		f.record = &r
		f.land()
	}
}

// land ends the flight, if it has not ended.
func (f *flight) land() {
	if f.landed {
		return
	}
	f.landed = true
	f.of.mu.Lock()
	delete(f.of.all, f.key)
	f.of.mu.Unlock()
	close(f.ended)
}
