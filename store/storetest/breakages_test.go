package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// breakages are stores with one fault each.
var breakages = map[string]struct {
	refused   string // by this case, if any
	histories bool   // and by histories alone
	make      func() *broken
}{
	"a TTL on a running record": {"expiry/a lease's end is not a record's end", false, func() *broken {
		return &broken{acquire: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			b.TTL = b.Lease
			return m.Acquire(ctx, b)
		}}
	}},
	"an acquire that is not idempotent": {"acquire/the same nonce gets the same grant", true, func() *broken {
		return &broken{acquire: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			if r, err := m.Load(ctx, b.Key); err != nil || r.Owned(b.Owner) {
				return r, errors.Join(err, store.ErrSuperseded)
			}
			return m.Acquire(ctx, b)
		}}
	}},
	"an acquire that takes over": {"lease/a dead owner's record is marked in doubt", false, func() *broken {
		return &broken{acquire: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			r, err := m.Acquire(ctx, b)
			if err == nil && r.Marked {
				return m.Takeover(ctx, b, r)
			}
			return r, err
		}}
	}},
	"an acquire that asks, then writes": {"contention/one of many is granted", true, func() *broken {
		return &broken{acquire: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			r, err := m.Load(ctx, b.Key)
			if err != nil || r.State != store.Absent {
				return m.Acquire(ctx, b)
			}
			<-time.After(time.Millisecond) // all have asked
			if r, err = m.Load(ctx, b.Key); err == nil && r.State == store.Running {
				over := decide(b.Owner, store.Tombstone)
				over.Force = true
				_, err = m.Resolve(ctx, b.Key, r, over)
			}
			if err != nil {
				return r, err
			}
			return m.Acquire(ctx, b)
		}}
	}},
	"a fence that is the same each time": {"acquire/fences and revisions rise with every claim", true, func() *broken {
		return &broken{acquire: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			r, err := m.Acquire(ctx, b)
			r.Fence = 1
			return r, err
		}}
	}},
	"keys that are folded": {"keys/hostile keys are kept apart", false, func() *broken {
		return &broken{acquire: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			if b.Key != theKey {
				b.Key = strings.ToLower(b.Key)
			}
			return m.Acquire(ctx, b)
		}}
	}},
	"text that JSON has mended": {"bytes/text that is not UTF-8 comes back as it was", false, func() *broken {
		return &broken{acquire: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			b.Info.Match = strings.ToValidUTF8(b.Info.Match, "\ufffd")
			return m.Acquire(ctx, b)
		}}
	}},
	"a context that is ignored": {"calls/a cancelled call changes nothing", false, func() *broken {
		return &broken{release: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			return m.Release(context.WithoutCancel(ctx), b)
		}}
	}},
	"a renew that re-creates": {"lease/a renewal without a record creates none", false, func() *broken {
		return &broken{renew: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			r, err := m.Renew(ctx, b)
			if errors.Is(err, store.ErrGone) {
				_, _ = m.Acquire(ctx, b)
			}
			return r, err
		}}
	}},
	"settle without owner check": {"settle/only the owner settles", true, func() *broken {
		return &broken{settle: func(ctx context.Context, m *store.Memory, b store.Bid, o store.Outcome) (store.Record, error) {
			if r, err := m.Load(ctx, b.Key); err == nil && r.State == store.Running {
				b.Owner, b.Fence = r.Owner, r.Fence
			}
			return m.Settle(ctx, b, o)
		}}
	}},
	"a settle that goes by time": {"settle/an owner that comes late is heard", false, func() *broken {
		return &broken{settle: func(ctx context.Context, m *store.Memory, b store.Bid, o store.Outcome) (store.Record, error) {
			if r, err := m.Load(ctx, b.Key); err == nil && r.State == store.Running && r.Now.After(r.LeaseEnd) {
				return r, store.ErrSuperseded
			}
			return m.Settle(ctx, b, o)
		}}
	}},
	"a settle that loses a superseded success": {"late/a superseded success waits beside a running record", true, func() *broken {
		return &broken{settle: func(ctx context.Context, m *store.Memory, b store.Bid, o store.Outcome) (store.Record, error) {
			if r, err := m.Load(ctx, b.Key); err == nil && r.State != store.Absent && r.Owner != b.Owner {
				return r, store.ErrConflict
			}
			return m.Settle(ctx, b, o)
		}}
	}},
	"a doubt that forgets why": {"settle/a doubt keeps why", true, func() *broken {
		return &broken{settle: func(ctx context.Context, m *store.Memory, b store.Bid, o store.Outcome) (store.Record, error) {
			if o.State == store.InDoubt {
				o.Data = nil
			}
			return m.Settle(ctx, b, o)
		}}
	}},
	"a settle that keeps text": {"bytes/an outcome's bytes come back as they were", false, func() *broken {
		return &broken{settle: func(ctx context.Context, m *store.Memory, b store.Bid, o store.Outcome) (store.Record, error) {
			o.Data = bytes.ToValidUTF8(o.Data, []byte("?"))
			return m.Settle(ctx, b, o)
		}}
	}},
	"aliasing": {"bytes/what goes in is copied", true, func() *broken {
		var shared sync.Map
		return &broken{
			settle: func(ctx context.Context, m *store.Memory, b store.Bid, o store.Outcome) (store.Record, error) {
				shared.Store(b.Key, o.Data)
				return m.Settle(ctx, b, o)
			},
			load: func(ctx context.Context, m *store.Memory, key string) (store.Record, error) {
				r, err := m.Load(ctx, key)
				if data, ok := shared.Load(key); ok && r.State == store.Succeeded {
					r.Outcome.Data = data.([]byte)
				}
				return r, err
			},
		}
	}},
	"a release that deletes": {"acquire/a released nonce is refused", true, func() *broken {
		return &broken{release: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			r, err := m.Release(ctx, b)
			m.Clear()
			return r, err
		}}
	}},
	"a release that speaks for all": {"release/a release after a takeover returns to doubt", false, func() *broken {
		return &broken{takeover: func(ctx context.Context, m *store.Memory, b store.Bid, from store.Record) (store.Record, error) {
			b.Clean = true
			return m.Takeover(ctx, b, from)
		}}
	}},
	"takeover without compare-and-set": {"takeover/a takeover compares the revision", true, func() *broken {
		return &broken{takeover: func(ctx context.Context, m *store.Memory, b store.Bid, _ store.Record) (store.Record, error) {
			r, err := m.Load(ctx, b.Key)
			if err != nil {
				return r, err
			}
			return m.Takeover(ctx, b, r)
		}}
	}},
	"resolve without compare-and-set": {"resolve/a resolution compares the revision", true, func() *broken {
		return &broken{resolve: func(ctx context.Context, m *store.Memory, key string, _ store.Record, res store.Resolution) (store.Record, error) {
			r, err := m.Load(ctx, key)
			if err != nil {
				return r, err
			}
			return m.Resolve(ctx, key, r, res)
		}}
	}},
	"a correction by way of a tombstone": {"correct/what is settled is corrected or reopened", true, func() *broken {
		return &broken{resolve: func(ctx context.Context, m *store.Memory, key string, from store.Record, res store.Resolution) (store.Record, error) {
			if res.To == store.Tombstone || from.State != store.Succeeded && from.State != store.Failed {
				return m.Resolve(ctx, key, from, res)
			}
			to := res.To
			res.To = store.Tombstone
			r, err := m.Resolve(ctx, key, from, res)
			if err != nil {
				return r, err
			}
			b := bid(res.ID)
			b.Key = key
			if r, err = m.Acquire(ctx, b); err != nil || !r.Owned(b.Owner) {
				return r, err
			}
			b.Fence, res.Outcome.State = r.Fence, to
			return m.Settle(ctx, b, res.Outcome)
		}}
	}},
	"a correction that loses its author": {"correct/what is settled is corrected or reopened", false, func() *broken {
		return &broken{resolve: func(ctx context.Context, m *store.Memory, key string, from store.Record, res store.Resolution) (store.Record, error) {
			res.Who = ""
			return m.Resolve(ctx, key, from, res)
		}}
	}},
	"a settled record that swallows what its owner says": {"correct/a correction does not swallow a first success", true, func() *broken {
		return &broken{settle: func(ctx context.Context, m *store.Memory, b store.Bid, o store.Outcome) (store.Record, error) {
			r, err := m.Load(ctx, b.Key)
			if last := len(r.History) - 1; err == nil && last >= 0 && (r.State == store.Succeeded || r.State == store.Failed) &&
				r.History[last].What == store.TurnResolved && r.History[last].Owner == b.Owner {
				return r, nil
			}
			return m.Settle(ctx, b, o)
		}}
	}},
	"a decision that is lost": {"", true, func() *broken {
		return &broken{resolve: func(ctx context.Context, m *store.Memory, key string, from store.Record, res store.Resolution) (store.Record, error) {
			runtime.Gosched()
			r, err := m.Resolve(ctx, key, from, res)
			if r.Fence != from.Fence || from.State == store.Absent || !errors.Is(err, store.ErrMoved) || r.Revision == from.Revision {
				return r, err
			}
			r.State, r.Outcome, r.By = res.To, res.Outcome, res.By
			r.Outcome.State = res.To
			r.Revision = from.Revision + 1
			return r, nil
		}}
	}},
	"a history that drops what is oldest": {"correct/many corrections forget no nonce", false, func() *broken {
		forgets := func(r store.Record, nonce string) bool {
			return len(r.History) >= 60 && slices.ContainsFunc(r.History[:1], func(e store.Turn) bool { return e.Owner == nonce })
		}
		return &broken{acquire: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			if r, err := m.Load(ctx, b.Key); err == nil && forgets(r, b.Owner) {
				b.Owner += "again"
			}
			return m.Acquire(ctx, b)
		}}
	}},
	"an erasure that keeps what it erases": {"erase/an erasure leaves the key and an event", false, func() *broken {
		return &broken{resolve: func(ctx context.Context, m *store.Memory, key string, from store.Record, res store.Resolution) (store.Record, error) {
			if !res.Erase {
				return m.Resolve(ctx, key, from, res)
			}
			r, err := m.Resolve(ctx, key, from, res)
			if err == nil {
				r.Info = from.Info
			}
			return r, err
		}}
	}},
	"a generation that every reopening raises": {"correct/a generation counts the successes that were reopened", true, func() *broken {
		return &broken{resolve: func(ctx context.Context, m *store.Memory, key string, from store.Record, res store.Resolution) (store.Record, error) {
			r, err := m.Resolve(ctx, key, from, res)
			if err == nil && from.State == store.Failed && r.State == store.Tombstone {
				r.Generation++
			}
			return r, err
		}}
	}},
	"a generation that a claim forgets": {"correct/a generation counts the successes that were reopened", true, func() *broken {
		return &broken{acquire: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			r, err := m.Acquire(ctx, b)
			r.Generation = 0
			return r, err
		}}
	}},
	"an erasure that deletes": {"erase/an erased record forgets no nonce", true, func() *broken {
		return &broken{resolve: func(ctx context.Context, m *store.Memory, key string, from store.Record, res store.Resolution) (store.Record, error) {
			r, err := m.Resolve(ctx, key, from, res)
			if err == nil && res.Erase {
				m.Clear()
			}
			return r, err
		}}
	}},
	"an erasure that keeps the TTL": {"erase/an erasure leaves the key and an event", false, func() *broken {
		return &broken{resolve: func(ctx context.Context, m *store.Memory, key string, from store.Record, res store.Resolution) (store.Record, error) {
			r, err := m.Resolve(ctx, key, from, res)
			if err == nil && res.Erase {
				r.Expires = from.Expires
			}
			return r, err
		}}
	}},
	"an erasure that needs no force": {"erase/an erasure of what is open is forced", true, func() *broken {
		return &broken{resolve: func(ctx context.Context, m *store.Memory, key string, from store.Record, res store.Resolution) (store.Record, error) {
			res.Force = res.Force || res.Erase
			return m.Resolve(ctx, key, from, res)
		}}
	}},
	"an erasure that refuses the evidence": {"erase/a success that comes after an erasure settles it", true, func() *broken {
		return &broken{settle: func(ctx context.Context, m *store.Memory, b store.Bid, o store.Outcome) (store.Record, error) {
			r, err := m.Load(ctx, b.Key)
			if last := len(r.History) - 1; err == nil && r.State == store.Tombstone && last >= 0 && r.History[last].What == store.TurnErased {
				return r, store.ErrSuperseded
			}
			return m.Settle(ctx, b, o)
		}}
	}},
	"a lease judged by the client's clock": {"acquire/a running record is left to its owner", true, func() *broken {
		fast := func(nonce string) bool { return nonce == "b" || strings.HasPrefix(nonce, "c1-") }
		return &broken{acquire: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			r, err := m.Acquire(ctx, b)
			clock := r.Now
			if fast(b.Owner) {
				clock = clock.Add(2 * longLease)
			}
			if err == nil && r.State == store.Running && r.Owner != b.Owner && clock.After(r.LeaseEnd) {
				r.State, r.Marked, r.Doubted = store.InDoubt, true, clock
				r.Revision++
			}
			return r, err
		}}
	}},
	"a fence that restarts after expiry": {"expiry/what is settled is forgotten after its TTL", false, func() *broken {
		return &broken{
			acquire: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
				r, err := m.Acquire(ctx, b)
				if r.Revision == 1 {
					r.Fence = 1
				}
				return r, err
			},
			settle: func(ctx context.Context, m *store.Memory, b store.Bid, o store.Outcome) (store.Record, error) {
				if b.Fence == 1 {
					b.Fence = 0
				}
				return m.Settle(ctx, b, o)
			},
		}
	}},
	"release after settle": {"release/what is settled is not released", true, func() *broken {
		return &broken{release: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			r, err := m.Release(ctx, b)
			if errors.Is(err, store.ErrSuperseded) && r.Owner == b.Owner {
				return m.Resolve(ctx, b.Key, r, decide(b.Owner, store.Tombstone))
			}
			return r, err
		}}
	}},
	"a release that forgets the fence": {"release/a first run leaves a tombstone", true, func() *broken {
		return &broken{release: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			r, err := m.Release(ctx, b)
			if err == nil && r.State == store.Tombstone {
				r.Fence = 1
			}
			return r, err
		}}
	}},
	"a kind with an address": {"calls/a kind is one word", false, func() *broken {
		return &broken{kind: func() string { return "Postgres at db-1:5432" }}
	}},
	"a kind that changes": {"calls/a kind is one word", false, func() *broken {
		n := 0
		return &broken{kind: func() string { n++; return fmt.Sprint("replica", n) }}
	}},
	"a death that only the lease shows": {"lease/a death is seen as the store says", false, func() *broken {
		return &broken{watches: true}
	}},
	"a settle that is lost": {"", true, func() *broken {
		return &broken{settle: func(ctx context.Context, m *store.Memory, b store.Bid, o store.Outcome) (store.Record, error) {
			before, err := m.Load(ctx, b.Key)
			if err != nil {
				return before, err
			}
			runtime.Gosched()
			if now, err := m.Load(ctx, b.Key); err != nil || now.Revision == before.Revision {
				return m.Settle(ctx, b, o)
			}
			before.State, before.Outcome = o.State, o
			before.Revision++
			return before, nil
		}}
	}},
	"reads of a replica": {"late/a superseded success waits beside a running record", true, func() *broken {
		var replica sync.Map
		return &broken{load: func(ctx context.Context, m *store.Memory, key string) (store.Record, error) {
			r, err := m.Load(ctx, key)
			if before, ok := replica.Swap(key, r); ok {
				return before.(store.Record), err
			}
			return r, err
		}}
	}},
}
