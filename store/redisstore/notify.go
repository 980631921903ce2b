package redisstore

import (
	"context"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// This file hears of what ends a wait: the scripts send a message to the sharded
// channel that has the name of the record. Whoever waits polls as well, so that a lost
// message costs time, and nothing else.

const (
	// noticePing is how often a connection that hears of changes is tried.
	noticePing = 3 * time.Second
	// noticeIdle is how long such a connection is kept while nobody waits.
	noticeIdle = 10 * time.Second
	// noticeRetry is how long after a failure the next connection is made; doubled up to
	// noticeRetryMost after each that hears nothing.
	noticeRetry     = 100 * time.Millisecond
	noticeRetryMost = 5 * time.Second
)

// notices wakes those who wait. It has one connection to a master, while somebody
// waits for a record there.
type notices struct {
	keys keyspace

	mu      sync.Mutex
	hearing map[*redis.Client]*hearing // by master; nil: the one server
}

// hearing is what one connection hears of.
type hearing struct {
	notices *notices
	node    *redis.Client // of a Cluster; nil: the one server
	waiting map[string]map[*waiter]bool
	changed chan struct{} // waiting has other names than before

	// Of the connection: what the server was asked to say, and how often it has yet to
	// confirm that it says no more.
	subscribed map[string]bool
	leaving    map[string]int
}

type waiter struct {
	changed chan<- struct{}
	at      *hearing // that has it
}

// Notify implements [store.Notifier]. It does not wait for the server: changed gets a
// value once the server has confirmed that it will say what changes, and again after
// each loss of the connection.
func (s *Store) Notify(key string, changed chan<- struct{}) (stop func()) {
	return s.notices.add(s.keys.name(key), &waiter{changed: changed})
}

func (n *notices) add(name string, w *waiter) (stop func()) {
	var node *redis.Client
	if cluster, ok := n.keys.client.(clustered); ok {
		var err error
		if node, err = cluster.MasterForKey(context.Background(), name); err != nil {
			return func() {} // no master is known: the poll goes on
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.join(node, name, w)
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		waiting := w.at.waiting
		if delete(waiting[name], w); len(waiting[name]) == 0 {
			delete(waiting, name)
			w.at.tell()
		}
	}
}

// join has w hear from a master. The lock is held.
func (n *notices) join(node *redis.Client, name string, w *waiter) {
	h := n.hearing[node]
	if h == nil {
		h = &hearing{notices: n, node: node, waiting: map[string]map[*waiter]bool{}, changed: make(chan struct{}, 1)}
		n.hearing[node] = h
		go h.keep()
	}
	if h.waiting[name] == nil {
		h.waiting[name] = map[*waiter]bool{}
	}
	h.waiting[name][w], w.at = true, h
	if h.subscribed[name] {
		w.look() // the server may have confirmed before
	}
	h.tell()
}

// look has w look again.
func (w *waiter) look() {
	select {
	case w.changed <- struct{}{}:
	default: // it is to look anyway
	}
}

// tell has keep look at waiting.
func (h *hearing) tell() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// wake sends to those who wait for the record of that name. It holds the lock, so that
// nothing is sent after a stop.
func (h *hearing) wake(name string) {
	h.notices.mu.Lock()
	defer h.notices.mu.Unlock()
	for w := range h.waiting[name] {
		w.look()
	}
}

// keep has a connection until nobody waits. A server may be gone for good, and the client
// closed: then nobody waits before long.
func (h *hearing) keep() {
	retry := noticeRetry
	for {
		heard, idle := h.connect()
		if idle {
			return
		}
		if heard {
			retry = noticeRetry
		}
		h.notices.keys.reload(context.Background(), net.ErrClosed)
		<-time.After(retry)
		retry = min(2*retry, noticeRetryMost)
		h.move()
		if h.drop() {
			return
		}
	}
}

// move has those who wait hear from the masters that have their records now: another one
// may have taken a master's place, or some of its slots.
func (h *hearing) move() {
	cluster, ok := h.notices.keys.client.(clustered)
	if !ok {
		return
	}
	n := h.notices
	n.mu.Lock()
	names := slices.Collect(maps.Keys(h.waiting))
	n.mu.Unlock()
	for _, name := range names {
		node, err := cluster.MasterForKey(context.Background(), name)
		if err != nil || node == h.node {
			continue
		}
		n.mu.Lock()
		for w := range h.waiting[name] {
			n.join(node, name, w)
		}
		delete(h.waiting, name)
		n.mu.Unlock()
	}
}

// connect hears of what is waited for until the connection fails, or until nobody has
// waited for a while. It reports whether it has heard anything.
func (h *hearing) connect() (heard, idle bool) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var sub *redis.PubSub
	if h.node != nil {
		sub = h.node.SSubscribe(ctx)
	} else {
		sub = h.notices.keys.client.SSubscribe(ctx)
	}
	h.notices.mu.Lock()
	h.subscribed, h.leaving = map[string]bool{}, map[string]int{}
	h.notices.mu.Unlock()
	got, failed := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(failed)
		h.listen(ctx, sub, got)
	}()
	defer func() {
		_ = sub.Close()
		<-failed
	}()
	ticker := time.NewTicker(noticePing)
	defer ticker.Stop()
	silent, alone := time.Duration(0), time.Duration(0)
	for {
		if err := h.subscribe(ctx, sub); err != nil {
			return heard, false
		}
		select {
		case <-failed:
			return heard, false
		case <-h.changed:
			alone = 0
		case <-got:
			heard, silent = true, 0
		case <-ticker.C:
			silent, alone = silent+noticePing, alone+noticePing
			if alone >= noticeIdle && h.drop() {
				return heard, true
			}
			if silent > 2*noticePing || sub.Ping(ctx) != nil {
				return heard, false
			}
		}
	}
}

// drop forgets the connection, unless somebody waits.
func (h *hearing) drop() bool {
	h.notices.mu.Lock()
	defer h.notices.mu.Unlock()
	if len(h.waiting) > 0 {
		return false
	}
	delete(h.notices.hearing, h.node)
	return true
}

// listen wakes those who wait for what is heard of. The confirmation of a channel is
// heard too: what changed before it, or while there was no connection, is missed.
func (h *hearing) listen(ctx context.Context, sub *redis.PubSub, got chan<- struct{}) {
	for {
		message, err := sub.Receive(ctx)
		if err != nil {
			return
		}
		switch m := message.(type) {
		case *redis.Subscription:
			if m.Kind == "sunsubscribe" && !h.hasLeft(m.Channel) {
				return // its slot has moved to another master
			}
			h.wake(m.Channel)
		case *redis.Message:
			h.wake(m.Channel)
		}
		select {
		case got <- struct{}{}:
		default:
		}
	}
}

// hasLeft reports whether it was asked that the server says no more of that name.
func (h *hearing) hasLeft(name string) bool {
	h.notices.mu.Lock()
	defer h.notices.mu.Unlock()
	asked := h.leaving[name] > 0
	if h.leaving[name]--; h.leaving[name] <= 0 {
		delete(h.leaving, name)
	}
	return asked
}

// subscribe has the server say what is waited for, and nothing else.
func (h *hearing) subscribe(ctx context.Context, sub *redis.PubSub) error {
	var add, remove []string
	h.notices.mu.Lock()
	for name := range h.waiting {
		if !h.subscribed[name] {
			add, h.subscribed[name] = append(add, name), true
		}
	}
	for name := range h.subscribed {
		if h.waiting[name] == nil {
			remove = append(remove, name)
			h.leaving[name]++
			delete(h.subscribed, name)
		}
	}
	h.notices.mu.Unlock()
	chunk := pipelined
	if h.node != nil {
		chunk = 1 // a Cluster wants channels of different slots apart
	}
	for names := range slices.Chunk(add, chunk) {
		if err := sub.SSubscribe(ctx, names...); err != nil {
			return err
		}
	}
	for names := range slices.Chunk(remove, chunk) {
		if err := sub.SUnsubscribe(ctx, names...); err != nil {
			return err
		}
	}
	return nil
}
