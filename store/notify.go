package store

import "sync"

// notices are those who want to know when records change, by key.
type notices struct {
	mu  sync.Mutex
	all map[string]map[*notice]struct{}
}

type notice struct{ changed chan<- struct{} }

// add has changed hear of the key until stop.
func (n *notices) add(key string, changed chan<- struct{}) (stop func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all == nil {
		n.all = make(map[string]map[*notice]struct{})
	}
	if n.all[key] == nil {
		n.all[key] = make(map[*notice]struct{})
	}
	added := &notice{changed}
	n.all[key][added] = struct{}{}
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.all[key], added)
		if len(n.all[key]) == 0 {
			delete(n.all, key)
		}
	}
}

// send has all who listen to the key hear of it. It sends under the lock: after a stop
// nothing comes.
func (n *notices) send(key string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sendTo(key)
}

func (n *notices) sendTo(key string) {
	for l := range n.all[key] {
		select {
		case l.changed <- struct{}{}:
		default:
		}
	}
}

// sendAll has all hear.
func (n *notices) sendAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key := range n.all {
		n.sendTo(key)
	}
}

// mayEndAWait reports whether a write that has led from one state to another does: what a
// claim and its renewals write does not.
func mayEndAWait(was, is State) bool {
	return is != Running || was == InDoubt || was == Pending
}
