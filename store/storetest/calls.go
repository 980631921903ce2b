package storetest

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/atmostonce/atmostonce/store"
)

// bidVerbs are the calls that take a bid.
func bidVerbs(ctx context.Context, s store.Store, from store.Record) map[string]func(store.Bid) error {
	verb := func(f func(store.Bid) (store.Record, error)) func(store.Bid) error {
		return func(b store.Bid) error { _, err := f(b); return err }
	}
	return map[string]func(store.Bid) error{
		"Acquire":  verb(func(b store.Bid) (store.Record, error) { return s.Acquire(ctx, b) }),
		"Renew":    verb(func(b store.Bid) (store.Record, error) { return s.Renew(ctx, b) }),
		"Settle":   verb(func(b store.Bid) (store.Record, error) { return s.Settle(ctx, b, succeeded("1")) }),
		"Release":  verb(func(b store.Bid) (store.Record, error) { return s.Release(ctx, b) }),
		"Takeover": verb(func(b store.Bid) (store.Record, error) { return s.Takeover(ctx, b, from) }),
	}
}

var callsCases = []testCase{
	{
		"a bid must be complete",
		"A bid without a key or a nonce, or with a lease or a TTL under a millisecond, is answered ErrInvalid, and nothing is written.",
		func(k *kit) {
			_, doubt := k.doubted("a")
			for what, spoil := range map[string]func(*store.Bid){
				"no key":         func(b *store.Bid) { b.Key = "" },
				"no nonce":       func(b *store.Bid) { b.Owner = "" },
				"no lease":       func(b *store.Bid) { b.Lease = 0 },
				"negative lease": func(b *store.Bid) { b.Lease = -longLease },
				"no TTL":         func(b *store.Bid) { b.TTL = 0 },
				"negative TTL":   func(b *store.Bid) { b.TTL = -longTTL },
				"tiny TTL":       func(b *store.Bid) { b.TTL = 1000 },
			} {
				for name, call := range bidVerbs(k.ctx, k.s, doubt) {
					b := bid("a")
					b.Fence = doubt.Fence
					spoil(&b)
					err := call(b)
					k.that(errors.Is(err, store.ErrInvalid), "%s with %s answers %v", name, what, err)
				}
			}
			k.unchanged(doubt, k.load(theKey))
			k.that(len(k.listed(store.Query{})) == 1, "an invalid call left a record")
		},
	},
	{
		"an outcome must say something",
		"Settle takes Succeeded, Failed, InDoubt and Pending; anything else is answered ErrInvalid, and nothing is written.",
		func(k *kit) {
			b := k.granted("a")
			r := k.load(theKey)
			for _, state := range []store.State{store.Absent, store.Running, store.Tombstone, "done"} {
				_, err := k.s.Settle(k.ctx, b, store.Outcome{State: state})
				k.that(errors.Is(err, store.ErrInvalid), "Settle to %q answers %v", state, err)
			}
			k.unchanged(r, k.load(theKey))
		},
	},
	{
		"an outcome has room, and no more",
		"Settle and Resolve refuse Data over MaxData with ErrInvalid, and nothing is written: no store keeps what another one would not read.",
		func(k *kit) {
			b, doubt := k.doubted("a")
			large := make([]byte, store.MaxData+1)
			_, err := k.s.Settle(k.ctx, b, store.Outcome{State: store.Succeeded, Data: large})
			k.that(errors.Is(err, store.ErrInvalid), "Settle of %d bytes answers %v", len(large), err)
			res := decide("1", store.Succeeded)
			res.Outcome.Data = large
			_, err = k.s.Resolve(k.ctx, theKey, doubt, res)
			k.that(errors.Is(err, store.ErrInvalid), "Resolve to %d bytes answers %v", len(large), err)
			k.unchanged(doubt, k.load(theKey))
		},
	},
	{
		"a resolution must be complete",
		"Resolve takes Succeeded, Failed and Tombstone, and needs a nonce, an author and a TTL, and to erase is Tombstone; anything else is answered ErrInvalid, and nothing is written.",
		func(k *kit) {
			_, from := k.doubted("a")
			for what, spoil := range map[string]func(*store.Resolution){
				"to running":  func(r *store.Resolution) { r.To = store.Running },
				"to in doubt": func(r *store.Resolution) { r.To = store.InDoubt },
				"to pending":  func(r *store.Resolution) { r.To = store.Pending },
				"to nothing":  func(r *store.Resolution) { r.To = store.Absent },
				"no nonce":    func(r *store.Resolution) { r.ID = "" },
				"no author":   func(r *store.Resolution) { r.By = "" },
				"no TTL":      func(r *store.Resolution) { r.TTL = 0 },
				"an erasure":  func(r *store.Resolution) { r.Erase = true },
			} {
				res := decide("1", store.Succeeded)
				spoil(&res)
				_, err := k.s.Resolve(k.ctx, theKey, from, res)
				k.that(errors.Is(err, store.ErrInvalid), "Resolve with %s answers %v", what, err)
			}
			k.unchanged(from, k.load(theKey))
		},
	},
	{
		"a cancelled call changes nothing",
		"A call whose context has ended before it answers that, and does not reach the record.",
		func(k *kit) {
			a, doubt := k.doubted("a")
			ctx, cancel := context.WithCancel(k.ctx)
			cancel()
			verbs := bidVerbs(ctx, k.s, doubt)
			verbs["Resolve"] = func(store.Bid) error {
				_, err := k.s.Resolve(ctx, theKey, doubt, decide("1", store.Succeeded))
				return err
			}
			verbs["Load"] = func(store.Bid) error { _, err := k.s.Load(ctx, theKey); return err }
			for name, call := range verbs {
				for _, b := range []store.Bid{a, bid("b")} {
					err := call(b)
					k.that(errors.Is(err, context.Canceled), "%s answers %v", name, err)
				}
				fresh := bid("c")
				fresh.Key = fmt.Sprint("fresh", name)
				k.that(call(fresh) != nil, "%s of an absent key answers no error", name)
			}
			k.unchanged(doubt, k.load(theKey))
			k.that(len(k.listed(store.Query{})) == 1, "a cancelled call left a record")
		},
	},
	{
		"a kind is one word",
		"A store that is Kinded says one short word in lower case, the same of every handle at every call: it is the value of a metric label.",
		func(k *kit) {
			first, ok := k.s.(store.Kinded)
			if !ok {
				return
			}
			kind := first.Kind()
			k.that(kindForm.MatchString(kind), "the kind is %q", kind)
			k.that(first.Kind() == kind, "the kind was %q and is %q", kind, first.Kind())
			if second, ok := k.open().(store.Kinded); ok {
				k.that(second.Kind() == kind, "another handle is of the kind %q, not %q", second.Kind(), kind)
			}
		},
	},
}

var kindForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
