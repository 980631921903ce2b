package storetest

import (
	"time"

	"github.com/atmostonce/atmostonce/store"
)

var notifyCases = []testCase{{
	"whoever waits is told of what ends a wait",
	"A store that is a Notifier sends soon after each write that may end a wait, by any process, and nothing after stop.",
	checkNotify,
}}

// checkNotify does nothing with a store that is no Notifier.
func checkNotify(k *kit) {
	n, ok := k.s.(store.Notifier)
	if !ok {
		return
	}
	other := k.open()
	for name, end := range map[string]func(b store.Bid, from store.Record) (store.Record, error){
		"settle":   func(b store.Bid, _ store.Record) (store.Record, error) { return other.Settle(k.ctx, b, succeeded("1")) },
		"doubt":    func(b store.Bid, _ store.Record) (store.Record, error) { return other.Settle(k.ctx, b, inDoubt) },
		"release":  func(b store.Bid, _ store.Record) (store.Record, error) { return other.Release(k.ctx, b) },
		"takeover": nil,
		"resolve": func(b store.Bid, from store.Record) (store.Record, error) {
			r := decide("1", store.Failed)
			r.Force = true
			return other.Resolve(k.ctx, b.Key, from, r)
		},
		"erase": func(b store.Bid, from store.Record) (store.Record, error) {
			r := erase("1")
			r.Force = true
			return other.Resolve(k.ctx, b.Key, from, r)
		},
	} {
		b := bid("a")
		b.Key += "/" + name
		before := k.grant(k.s, &b)
		if name == "takeover" {
			before = k.ok(k.s.Settle(k.ctx, b, inDoubt))
			end = func(b store.Bid, from store.Record) (store.Record, error) {
				b.Owner, b.Fence = "b", 0
				return other.Takeover(k.ctx, b, from)
			}
		}
		changed := make(chan struct{}, 1)
		stop := n.Notify(b.Key, changed)
		select {
		case <-changed: // a store that has to make a connection first says when it is there
		case <-time.After(300 * time.Millisecond):
		}
		after := k.ok(end(b, before))
		for heard := false; !heard; {
			select {
			case <-changed:
				heard = k.load(b.Key).Revision == after.Revision // else it was for nothing
			case <-time.After(20 * time.Second):
				k.fail("nothing is sent after %s", name)
			}
		}
		stop()
		stop()
		for len(changed) > 0 {
			<-changed
		}
		k.ok(other.Resolve(k.ctx, b.Key, after, func() store.Resolution {
			r := erase("2")
			r.Force = true
			return r
		}()))
		k.pass(30 * time.Millisecond)
		k.that(len(changed) == 0, "something is sent after stop")
	}
}
