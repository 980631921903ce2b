package store

import (
	"context"
	"sync"
	"time"
)

// glanceEvery is how often a handle that somebody waits on reads what others have written.
const glanceEvery = 20 * time.Millisecond

// glances read the log while somebody waits for a key: what comes of that is sent by
// the log itself. If the disk hangs, the one goroutine of the handle does.
//
// A lock that waits for the owner's would be heard sooner, but would take a thread of
// the process for each key, which no one who waits could give back.
type glances struct {
	mu        sync.Mutex
	listeners int
	looks     bool // the goroutine runs
}

// Notify implements [Notifier]: what this handle writes is known at once, what another one
// has written after about 20 milliseconds.
func (f *File) Notify(key string, changed chan<- struct{}) (stop func()) {
	mute := f.log.notices.add(idOf(key).name(), changed)
	g := &f.glances
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listeners++
	if !g.looks {
		g.looks = true
		go g.look(f.queue)
	}
	return sync.OnceFunc(func() {
		mute()
		g.mu.Lock()
		defer g.mu.Unlock()
		g.listeners--
	})
}

// look looks until nobody waits.
func (g *glances) look(q *queue) {
	for g.needed() {
		// Every request has the log read first. What is wrong with it, they who wait find.
		_ = q.ask(&request{ctx: context.Background(), job: func(*log) (durable, error) { return durable{}, nil }})
		<-time.After(glanceEvery)
	}
}

func (g *glances) needed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.looks = g.listeners > 0
	return g.looks
}
