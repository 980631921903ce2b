package atmostonce

import (
	"context"
	"sync"
)

// flights let the calls of one process that wait for one key wait for the first of them,
// and not each for the store.
type flights struct {
	mu  sync.Mutex
	all map[string]chan struct{} // by key; closed when the first call has ended
}

// enter returns at once for the first call of a key, and for others when that has ended,
// or ctx has. leave says that the call has ended.
func (f *flights) enter(ctx context.Context, key string) (leave func()) {
	f.mu.Lock()
	first, busy := f.all[key]
	if !busy {
		first = make(chan struct{})
		f.all[key] = first
	}
	f.mu.Unlock()
	if busy {
		select {
		case <-first:
		case <-ctx.Done():
		}
		return func() {}
	}
	return func() {
		f.mu.Lock()
		delete(f.all, key)
		f.mu.Unlock()
		close(first)
	}
}
