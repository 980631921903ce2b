package storetest

import (
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// notifyTries is how often a notice is asked for: one may get lost.
const notifyTries = 3

// notifyLimit is how long each is waited for.
const notifyLimit = 2 * time.Second

// ends are the writes that may end a wait: each to a key that a claim b has, or, for a
// takeover, has put in doubt.
var ends = map[string]func(k *kit, s store.Store, b store.Bid){
	"a settlement": func(k *kit, s store.Store, b store.Bid) { k.ok(s.Settle(k.ctx, b, succeeded("1"))) },
	"a doubt":      func(k *kit, s store.Store, b store.Bid) { k.ok(s.Settle(k.ctx, b, inDoubt)) },
	"a release":    func(k *kit, s store.Store, b store.Bid) { k.ok(s.Release(k.ctx, b)) },
	"a decision": func(k *kit, s store.Store, b store.Bid) {
		d := decide(b.Key, store.Succeeded)
		d.Force = true
		k.ok(s.Resolve(k.ctx, b.Key, k.ok(s.Load(k.ctx, b.Key)), d))
	},
	"an erasure": func(k *kit, s store.Store, b store.Bid) {
		e := erase(b.Key)
		e.Force = true
		k.ok(s.Resolve(k.ctx, b.Key, k.ok(s.Load(k.ctx, b.Key)), e))
	},
	takeover: func(k *kit, s store.Store, b store.Bid) {
		b.Owner = "next"
		k.ok(s.Takeover(k.ctx, b, k.ok(s.Load(k.ctx, b.Key))))
	},
}

const takeover = "a takeover"

var notifyCases = []testCase{
	{
		"what may end a wait is announced",
		"Who waits for a key looks again when a Notifier says so, and else at its next poll. Each write that may end a wait is said, by whichever handle it is; a notice may get lost, but not as a rule.",
		func(k *kit) {
			n, ok := k.s.(store.Notifier)
			if !ok {
				return
			}
			for what, end := range ends {
				k.announced(n, what, end)
			}
		},
	},
	{
		"a notice waits for nobody",
		"A Notifier sends without blocking. A write does not wait for somebody who listens to come and hear it, nor do others who listen.",
		func(k *kit) {
			n, ok := k.s.(store.Notifier)
			if !ok {
				return
			}
			deaf := make(chan struct{})
			defer n.Notify(theKey, deaf)()
			b := k.granted("a")
			settled := make(chan error, 1)
			go func() {
				_, err := k.s.Settle(k.ctx, b, succeeded("1"))
				settled <- err
			}()
			select {
			case err := <-settled:
				k.that(err == nil, "unexpected error: %v", err)
			case <-time.After(notifyLimit):
				<-deaf // lets it go
				k.fail("a settlement waited for somebody who does not hear")
			}
		},
	},
	{
		"nothing is announced after the stop",
		"Nothing is sent after stop has returned, so that who has left can forget its channel. It may be called again.",
		func(k *kit) {
			n, ok := k.s.(store.Notifier)
			if !ok {
				return
			}
			changed, stays := make(chan struct{}, 1), make(chan struct{}, 1)
			stop := n.Notify(theKey, changed)
			defer n.Notify(theKey, stays)()
			stop()
			stop()
			select {
			case <-changed: // it came before
			default:
			}
			b := k.granted("a")
			k.ok(k.s.Settle(k.ctx, b, succeeded("1")))
			select {
			case <-stays:
				<-time.After(notifyLimit / 10)
			case <-time.After(notifyLimit):
			}
			k.that(len(changed) == 0, "a notice was sent after the stop")
		},
	},
}

// announced checks that a write by another handle is announced.
func (k *kit) announced(n store.Notifier, what string, end func(k *kit, s store.Store, b store.Bid)) {
	k.Helper()
	writer := k.open()
	for try := range notifyTries {
		b := bid("a")
		b.Key += "/" + what + string(rune('0'+try))
		k.grant(writer, &b)
		if what == takeover {
			k.ok(writer.Settle(k.ctx, b, inDoubt))
		}
		changed := make(chan struct{}, 1)
		stop := n.Notify(b.Key, changed)
		// What a notice says of the time before is not what is looked for.
		<-time.After(notifyLimit / 10)
		select {
		case <-changed:
		default:
		}
		end(k, writer, b)
		select {
		case <-changed:
			stop()
			return
		case <-time.After(notifyLimit):
			stop()
		}
	}
	k.fail("%s was not announced, in %d tries", what, notifyTries)
}
