package storetest

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/atmostonce/atmostonce/store"
)

const crowd = 64

// atOnce calls f for 0…crowd-1 at once, each on one of two handles, and returns
// what they answered.
func atOnce(k *kit, f func(s store.Store, i int) (store.Record, error)) ([]store.Record, []error) {
	k.Helper()
	handles := []store.Store{k.s, k.open()}
	records, errs := make([]store.Record, crowd), make([]error, crowd)
	var ready, done sync.WaitGroup
	ready.Add(crowd)
	for i := range crowd {
		done.Go(func() {
			ready.Done()
			ready.Wait()
			records[i], errs[i] = f(handles[i%2], i)
		})
	}
	done.Wait()
	return records, errs
}

var contentionCases = []testCase{
	{
		"one of many is granted",
		"However many ask at once, on however many handles: one is granted, and everyone is told the same owner.",
		func(k *kit) {
			records, errs := atOnce(k, func(s store.Store, i int) (store.Record, error) {
				return s.Acquire(k.ctx, bid(fmt.Sprint(i)))
			})
			grants := 0
			for i, r := range records {
				k.ok(r, errs[i])
				k.that(r.Owner == records[0].Owner && r.Fence == records[0].Fence, "two owners, %q and %q", records[0].Owner, r.Owner)
				if r.Owned(fmt.Sprint(i)) {
					grants++
				}
			}
			k.that(grants == 1, "%d claims were granted", grants)
			k.unchanged(records[0], k.load(theKey))
		},
	},
	{
		"one nonce is granted once",
		"The same call repeated at once is one claim: the same fence and the same revision for all.",
		func(k *kit) {
			records, errs := atOnce(k, func(s store.Store, _ int) (store.Record, error) {
				return s.Acquire(k.ctx, bid("a"))
			})
			for i, r := range records {
				k.ok(r, errs[i])
				k.that(r.Owned("a") && r.Fence == records[0].Fence && r.Revision == records[0].Revision,
					"fence %d and %d, revision %d and %d", records[0].Fence, r.Fence, records[0].Revision, r.Revision)
			}
		},
	},
	{
		"one of many takes over",
		"However many take over what they all read: one is granted, the others are told ErrMoved.",
		func(k *kit) {
			a, from := k.doubted("a")
			records, errs := atOnce(k, func(s store.Store, i int) (store.Record, error) {
				return s.Takeover(k.ctx, bid(fmt.Sprint(i)), from)
			})
			grants := 0
			for i, r := range records {
				if errs[i] == nil {
					grants++
					k.that(r.Owned(fmt.Sprint(i)) && r.Fence > a.Fence, "granted, but the record is %q of %q", r.State, r.Owner)
					continue
				}
				k.answer(store.ErrMoved)(r, errs[i])
			}
			k.that(grants == 1, "%d takeovers were granted", grants)
		},
	},
	{
		"a settle and a takeover are in one order",
		"The owner heals while others take over. Either the success came first and nobody runs, or it is kept beside the one that runs.",
		func(k *kit) {
			a, from := k.doubted("a")
			_, errs := atOnce(k, func(s store.Store, i int) (store.Record, error) {
				if i == crowd/2 {
					return s.Settle(k.ctx, a, succeeded("late"))
				}
				return s.Takeover(k.ctx, bid(fmt.Sprint(i)), from)
			})
			grants := 0
			for i, err := range errs {
				if i != crowd/2 && err == nil {
					grants++
				}
			}
			r := k.load(theKey)
			if errs[crowd/2] == nil {
				k.holds(r, succeeded("late"))
				k.that(grants == 0, "%d takeovers were granted beside a success", grants)
				return
			}
			k.answer(store.ErrConflict)(r, errs[crowd/2])
			k.that(grants == 1 && r.State == store.Running && r.Kept != nil, "%d takeovers; the record is %q, kept %v", grants, r.State, r.Kept)
		},
	},
	{
		"one of many resolves",
		"Of many decisions about one reading, one is written.",
		func(k *kit) {
			_, from := k.doubted("a")
			_, errs := atOnce(k, func(s store.Store, i int) (store.Record, error) {
				return s.Resolve(k.ctx, theKey, from, decide(fmt.Sprint(i), decisions[i%len(decisions)]))
			})
			written := 0
			for _, err := range errs {
				if err == nil {
					written++
					continue
				}
				k.answer(store.ErrMoved)(store.Record{}, err)
			}
			k.that(written == 1, "%d decisions were written", written)
			r := k.load(theKey)
			n := 0
			for _, e := range r.History {
				if e.What == store.TurnResolved {
					n++
				}
			}
			k.that(n == 1, "the history has %d resolutions", n)
		},
	},
	{
		"keys do not contend",
		"Claims of different keys are all granted, and settle what is theirs.",
		func(k *kit) {
			records, errs := atOnce(k, func(s store.Store, i int) (store.Record, error) {
				b := bid("a")
				b.Key = fmt.Sprint("key", i)
				r, err := s.Acquire(k.ctx, b)
				if err != nil || !r.Owned("a") {
					return r, err
				}
				b.Fence = r.Fence
				return s.Settle(k.ctx, b, succeeded(b.Key))
			})
			for i, r := range records {
				k.holds(k.ok(r, errs[i]), succeeded(fmt.Sprint("key", i)))
				k.holds(k.load(fmt.Sprint("key", i)), succeeded(fmt.Sprint("key", i)))
			}
		},
	},
	{
		"a key changes hands one at a time",
		"Many claim, and each gives the key back. No two hold it at once: their fences all differ, and the last record is one of theirs.",
		func(k *kit) {
			var stuck atomic.Bool
			records, errs := atOnce(k, func(s store.Store, i int) (store.Record, error) {
				b := bid(fmt.Sprint(i))
				for range 10_000 {
					r, err := s.Acquire(k.ctx, b)
					if err != nil || stuck.Load() {
						return r, err
					}
					if r.Owned(b.Owner) {
						b.Fence = r.Fence
						r, err = s.Release(k.ctx, b)
						stuck.CompareAndSwap(false, err != nil)
						return r, err
					}
					runtime.Gosched()
				}
				stuck.Store(true)
				return store.Record{}, errors.New("the key is never given back")
			})
			fences := map[uint64]string{}
			for i, r := range records {
				k.is(k.ok(r, errs[i]), store.Tombstone, fmt.Sprint(i))
				k.that(fences[r.Fence] == "", "%q and %q had fence %d", fences[r.Fence], r.Owner, r.Fence)
				fences[r.Fence] = r.Owner
			}
			k.is(k.load(theKey), store.Tombstone, fences[k.load(theKey).Fence])
		},
	},
}
