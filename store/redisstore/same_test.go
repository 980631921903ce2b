package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

// TestRedis_SameAsMemory holds the scripts to protocol.go: the same random calls
// to a Memory and to a Redis get the same answers and leave the same records.
func TestRedis_SameAsMemory(t *testing.T) {
	t.Parallel()
	const workers, sequences, length = 8, 256, 16
	client := dialRedis(t, startRedis(t))
	for w := range workers {
		t.Run(fmt.Sprintf("worker %d", w), func(t *testing.T) {
			t.Parallel()
			memory, rds := store.NewMemory(store.MemoryOptions{}), newRedis(t, client)
			for i := range sequences {
				seed := rand.Uint64()
				d := &twins{
					t: t, rand: rand.New(rand.NewPCG(seed, 0)), client: client, key: fmt.Sprintf("key/%d/%d", w, i),
					memory: &side{store: memory}, redis: &side{store: rds},
				}
				for range length {
					d.step()
				}
				require.False(t, t.Failed(), "seed %d", seed)
			}
		})
	}
}

// twins drive two stores with the same calls.
type twins struct {
	t             *testing.T
	rand          *rand.Rand
	client        *redis.Client
	key           string
	trail         []string
	memory, redis *side
}

// side is one of the stores with what the calls so far have returned. Fences and
// revisions are each store's own.
type side struct {
	store  store.Store
	grants map[string]uint64
	fences map[uint64]int
	seen   []store.Record
}

type step struct {
	verb    string
	bid     store.Bid
	fence   int // 0: unknown, 1: that of the grant, 2: a wrong one
	from    int // how many records back
	outcome store.Outcome
	res     store.Resolution
}

var (
	verbs  = []string{"acquire", "acquire", "renew", "settle", "settle", "settle", "release", "takeover", "takeover", "resolve", "resolve"}
	ends   = []store.State{store.Succeeded, store.Failed, store.InDoubt, store.InDoubt, store.Pending}
	datas  = [][]byte{nil, {}, []byte("a\x00\xff\r\n"), []byte(`{"ok":true}`)}
	ttls   = []time.Duration{time.Hour, 10 * time.Hour, 10 * time.Hour, store.Forever}
	leases = []time.Duration{time.Minute, time.Minute, time.Minute, time.Millisecond}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func (d *twins) step() {
	r := d.rand
	owner := pick(r, []string{"a", "b", "c"})
	s := step{
		verb:  pick(r, verbs),
		fence: pick(r, []int{0, 1, 1, 1, 1, 2}),
		from:  pick(r, []int{0, 0, 0, 0, 1, 2}),
		bid: store.Bid{
			Key: d.key, Owner: owner, Lease: pick(r, leases), TTL: pick(r, ttls),
			Deadline: pick(r, []time.Duration{0, time.Minute}), Began: r.IntN(2) == 0, Clean: r.IntN(2) == 0,
			Info: store.Info{Activity: "Charge/" + owner, Input: pick(r, []string{"", "x", "\xff"}), Ledger: pick(r, []string{"", "l"})},
		},
		outcome: store.Outcome{
			State: pick(r, ends), Data: pick(r, datas),
			Context: pick(r, []string{"", "json"}), Missing: pick(r, []string{"", "too large"}), InLedger: r.IntN(4) == 0,
		},
		res: store.Resolution{
			ID: pick(r, []string{"r1", "r2", "r3"}),
			To: pick(r, []store.State{store.Succeeded, store.Failed, store.Tombstone}),
			By: pick(r, []string{store.ByOperator, store.ByReconcile}), Why: pick(r, []string{"", `the "bank" said <é>`, "\x00\xff\x7f"}),
			TTL: pick(r, ttls), Force: r.IntN(2) == 0, Outcome: store.Outcome{Data: pick(r, datas), Context: "json"},
			Who: pick(r, []string{"", "ann"}),
		},
	}
	s.res.Erase = s.res.To == store.Tombstone && r.IntN(2) == 0
	d.trail = append(d.trail, fmt.Sprintf("%s %s fence %d from %d lease %v ttl %v began %v clean %v to %s (%s by %s, erase %v)", s.verb,
		owner, s.fence, s.from, s.bid.Lease, s.bid.TTL, s.bid.Began, s.bid.Clean, s.outcome.State, s.res.To, s.res.By, s.res.Erase))
	ctx := d.t.Context()
	want, wantErr := d.memory.apply(ctx, s)
	got, gotErr := d.redis.apply(ctx, s)
	if s.bid.Lease < time.Second {
		<-time.After(2 * time.Millisecond) // from here on the lease is over in both
	}
	require.Equal(d.t, sentinel(wantErr), sentinel(gotErr), "%v: %v, %v", d.trail, wantErr, gotErr)
	require.Equal(d.t, d.memory.view(want), d.redis.view(got), "%v", d.trail)
	requireSameLife(d.t, want, got, "%v", d.trail)

	stored, err := d.redis.store.Load(ctx, d.key)
	require.NoError(d.t, err)
	stored.Now = got.Now
	require.Equal(d.t, stored, got, "what was answered is not what was stored: %v", d.trail)
	if stored.State != store.Absent {
		packed, err := d.client.Get(ctx, redisName(d.key)).Result()
		require.NoError(d.t, err)
		require.Equal(d.t, redisstore.PackRecord(stored), packed, "%v", d.trail)
	}
	d.requireIndexed(stored)
}

// requireIndexed requires that the record has an entry in the index if it is open, by
// since when, and none otherwise.
func (d *twins) requireIndexed(r store.Record) {
	d.t.Helper()
	low, open := map[store.State]float64{store.Running: 0, store.InDoubt: -9e15, store.Pending: -4.5e15}[r.State]
	score, err := d.client.ZScore(d.t.Context(), "atmostonce:open", redisName(d.key)).Result()
	if !open {
		require.ErrorIs(d.t, err, redis.Nil, "%v", d.trail)
		return
	}
	require.NoError(d.t, err, "%v", d.trail)
	require.Equal(d.t, low+float64(r.Since().UnixMicro()), score, "%v", d.trail) //nolint:testifylint // it is exact
}

func (s *side) apply(ctx context.Context, c step) (r store.Record, err error) {
	switch c.fence {
	case 1:
		c.bid.Fence = s.grants[c.bid.Owner]
	case 2:
		c.bid.Fence = 12345
	}
	var from store.Record
	if n := len(s.seen) - 1 - c.from; n >= 0 {
		from = s.seen[n]
	}
	switch c.verb {
	case "acquire":
		r, err = s.store.Acquire(ctx, c.bid)
	case "renew":
		r, err = s.store.Renew(ctx, c.bid)
	case "settle":
		r, err = s.store.Settle(ctx, c.bid, c.outcome)
	case "release":
		r, err = s.store.Release(ctx, c.bid)
	case "takeover":
		r, err = s.store.Takeover(ctx, c.bid, from)
	case "resolve":
		r, err = s.store.Resolve(ctx, c.bid.Key, from, c.res)
	}
	s.seen = append(s.seen, r)
	if s.grants == nil {
		s.grants = map[string]uint64{}
	}
	if r.Owned(c.bid.Owner) {
		s.grants[c.bid.Owner] = r.Fence
	}
	return r, err
}

// view returns what must be equal in both stores: times become whether they are
// set, and fences their order of appearance.
func (s *side) view(r store.Record) store.Record {
	set := func(at time.Time) time.Time {
		if at.IsZero() {
			return at
		}
		return time.Unix(1, 0)
	}
	r.Now, r.LeaseEnd, r.Claimed, r.Deadline = set(r.Now), set(r.LeaseEnd), set(r.Claimed), set(r.Deadline)
	r.Doubted, r.Settled, r.Expires = set(r.Doubted), set(r.Settled), set(r.Expires)
	r.Fence = s.rank(r.Fence)
	events := r.History
	r.History = nil
	for _, e := range events {
		e.At, e.Fence = set(e.At), s.rank(e.Fence)
		r.History = append(r.History, e)
	}
	return r
}

func (s *side) rank(fence uint64) uint64 {
	if fence < 1_000_000 {
		return fence
	}
	if s.fences == nil {
		s.fences = map[uint64]int{}
	}
	if _, known := s.fences[fence]; !known {
		s.fences[fence] = len(s.fences) + 1
	}
	return uint64(1_000_000 + s.fences[fence])
}

// requireSameLife compares how long the records live, to a minute.
func requireSameLife(t *testing.T, want, got store.Record, msg string, args ...any) {
	t.Helper()
	if !want.Expires.IsZero() {
		require.InDelta(t, want.Expires.Sub(want.Now).Minutes(), got.Expires.Sub(got.Now).Minutes(), 1, msg, args)
	}
	if !want.LeaseEnd.IsZero() {
		require.InDelta(t, want.LeaseEnd.Sub(want.Now).Seconds(), got.LeaseEnd.Sub(got.Now).Seconds(), 30, msg, args)
	}
}

var refusals = []error{store.ErrSuperseded, store.ErrConflict, store.ErrGone, store.ErrMoved}

// isRefusal reports whether the protocol has refused a call.
func isRefusal(err error) bool {
	return slices.ContainsFunc(refusals, func(refusal error) bool { return errors.Is(err, refusal) })
}

// sentinel returns the protocol's error in err.
func sentinel(err error) error {
	for _, s := range refusals {
		if errors.Is(err, s) {
			return s
		}
	}
	return err
}
